"""Parked jobs in lists, counts, filters, metrics and results."""

from typing import Any

import asyncpg
import pytest

from jobfn.client.enqueue import enqueue
from jobfn.database.connection import LATEST
from jobfn.database.queue_depth import QueueDepth, QueueDepthReader
from jobfn.errors import ConfigurationError, ResultTimeout
from jobfn.operations import Action, GroupCount, JobFilter, JobState, Operations
from support.clock import ManualClock
from support.durable import park, parked, record, start, step, wait
from support.jobs import Jobs


@pytest.fixture
async def job_ids(jobs: Jobs) -> dict[str, int]:
    """A job that is parked until a time, one until a signal, one that waits for a retry, and a ready one."""
    ids = {
        "sleeps": await parked(jobs, "fulfil", wait(1, "sleep", "sleep", seconds=3600)),
        "waits": await parked(jobs, "fulfil", wait(1, "wait:approved", "wait", event="approved")),
        "retrying": await start(jobs, "fulfil", step(1, "charge")),
    }
    await jobs.fail(ids["retrying"])
    ids["ready"] = await jobs.add("other")
    return ids


async def states(operations: Operations, job_filter: JobFilter) -> dict[int, JobState]:
    return {job.id: job.state for job in (await operations.list_jobs(job_filter)).jobs}


async def test_parked_jobs_are_a_state_with_a_filter(operations: Operations, job_ids: dict[str, int]) -> None:
    assert await states(operations, JobFilter(state=JobState.PARKED)) == {
        job_ids["waits"]: JobState.PARKED,
        job_ids["sleeps"]: JobState.PARKED,
    }
    assert await states(operations, JobFilter(state=JobState.DELAYED)) == {job_ids["retrying"]: JobState.DELAYED}
    assert await operations.count_matching(JobFilter(state=JobState.PARKED)) == 2


async def test_parked_jobs_are_counted_apart(operations: Operations, job_ids: dict[str, int]) -> None:
    assert job_ids
    counts = await operations.counts()
    assert (counts.ready, counts.delayed, counts.parked, counts.running, counts.failed) == (1, 1, 2, 0, 0)
    assert counts.total == 4
    assert counts.by_task == (GroupCount("fulfil", 0, 1, 0, 0, parked=2), GroupCount("other", 1, 0, 0, 0))


async def test_queue_depth_counts_parked_jobs_apart(pool: "asyncpg.Pool[Any]", job_ids: dict[str, int]) -> None:
    assert job_ids
    depth = await QueueDepthReader(pool, "app_jobs", is_platform=False, clock=ManualClock()).read()
    assert depth is not None
    assert depth == QueueDepth(1, 1, 0, 0, depth.oldest_ready_seconds, parked=2)


async def test_job_whose_sleep_is_over_is_ready(operations: Operations, jobs: Jobs, job_ids: dict[str, int]) -> None:
    job = job_ids["sleeps"]
    await jobs.connection.execute("update app_jobs.jobs set run_at = now() where id = $1", job)
    assert job in await states(operations, JobFilter(state=JobState.READY))
    assert (await operations.counts()).parked == 1


async def test_parks_are_not_called_snoozes(operations: Operations, jobs: Jobs) -> None:
    job = await parked(jobs, "fulfil", wait(1, "sleep", "sleep", seconds=3600))
    for position in (2, 3):
        await jobs.connection.execute("select app_jobs.wake_jobs(array[$1::bigint])", job)
        assert await jobs.claim_id() == job
        await record(jobs, job, wait(position, f"sleep#{position}", "sleep", seconds=3600))
        await park(jobs, job, [position])
    detail = await operations.get_job(job)
    assert detail is not None
    assert detail.job is not None
    assert (detail.job.attempts, detail.job.max_attempts, detail.job.snoozes, detail.job.parks) == (0, 25, 3, 3)
    assert detail.job.uncounted_label == "parked 3 times"
    assert [event.text for event in detail.timeline if event.kind in {"ended", "due"}] == [
        *["parked (attempt not counted)"] * 3,
        "wakes at the latest",
    ]
    await jobs.connection.execute("delete from app_jobs.job_runs where attempt = 1")
    [job_row] = (await operations.list_jobs()).jobs
    assert (job_row.parks, job_row.uncounted_label) == (None, "3 not counted")


async def test_snooze_of_a_durable_job_is_not_counted_as_a_park(operations: Operations, jobs: Jobs) -> None:
    job = await parked(jobs, "fulfil", wait(1, "sleep", "sleep", seconds=3600))
    await jobs.connection.execute("select app_jobs.wake_jobs(array[$1::bigint])", job)
    assert await jobs.claim_id() == job
    await jobs.release()
    [job_row] = (await operations.list_jobs()).jobs
    assert (job_row.snoozes, job_row.parks) == (2, 1)
    assert job_row.uncounted_label == "parked once, 1 more not counted"


async def test_wake_makes_a_sleeping_job_ready(operations: Operations, jobs: Jobs, job_ids: dict[str, int]) -> None:
    result = await operations.apply_to_matching(Action.WAKE, JobFilter(task="fulfil"))
    assert (result.ids, [skipped.id for skipped in result.skipped]) == ((job_ids["sleeps"],), [job_ids["waits"]])
    assert result.skipped[0].reason == "it waits for a signal or for child jobs, without a time: send the signal"
    assert await jobs.claim_id(tasks=["fulfil"]) == job_ids["sleeps"]
    again = await operations.apply(Action.WAKE, list(job_ids.values()))
    assert {skipped.id: skipped.reason for skipped in again.skipped} == {
        job_ids["sleeps"]: "it is running, and not parked",
        job_ids["waits"]: "it waits for a signal or for child jobs, without a time: send the signal",
        job_ids["retrying"]: "it is delayed, and not parked: run it now",
        job_ids["ready"]: "it is already ready",
    }


async def test_run_now_and_retry_skip_parked_jobs(operations: Operations, jobs: Jobs, job_ids: dict[str, int]) -> None:
    job = job_ids["waits"]
    ran = await operations.apply(Action.RUN_NOW, [job])
    assert [skipped.reason for skipped in ran.skipped] == [
        "it is parked: wake it, or send the signal that it waits for"
    ]
    retried = await operations.apply(Action.RETRY, [job])
    assert [skipped.reason for skipped in retried.skipped] == ["it has not permanently failed: it is parked"]
    assert (await jobs.row(job))["run_at"].replace(tzinfo=None) == LATEST.replace(tzinfo=None)


async def test_cancel_of_a_filter_includes_parked_jobs(operations: Operations, job_ids: dict[str, int]) -> None:
    assert await operations.count_targets(Action.CANCEL, JobFilter(task="fulfil"), limit=10) == 3
    result = await operations.apply_to_matching(Action.CANCEL, JobFilter(task="fulfil"))
    assert set(result.ids) == {job_ids["sleeps"], job_ids["waits"], job_ids["retrying"]}


async def test_platform_schema_has_no_parked_jobs(platform_operations: Operations) -> None:
    reason = "schema app_jobs is the platform's own and has no durable functions"
    with pytest.raises(ConfigurationError, match=reason):
        await platform_operations.apply(Action.WAKE, [1])
    with pytest.raises(ConfigurationError, match=reason):
        await platform_operations.count_targets(Action.WAKE, JobFilter(task="x"), limit=1)
    assert (await platform_operations.counts()).parked == 0
    assert (await platform_operations.list_jobs(JobFilter(state=JobState.PARKED))).jobs == ()


async def test_wait_for_a_result_says_that_the_job_is_parked(jobs: Jobs) -> None:
    handle = await enqueue(jobs.connection, "fulfil")
    assert await jobs.claim_id() == handle
    await record(jobs, handle, wait(1, "sleep", "sleep", seconds=3600))
    await park(jobs, handle, [1])
    with pytest.raises(ResultTimeout, match=rf"^job {handle:d} is still parked after 0.01 s\n"):
        await handle.result(timeout=0.01)
