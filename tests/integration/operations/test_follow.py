"""Wait for a job to finish."""

import asyncio
from typing import Any

import asyncpg
import pytest

from jobfn.errors import ConfigurationError
from jobfn.operations import Action, FinalState, JobRow, JobState, Operations, RunOutcome
from support.jobs import WORKER, Jobs

POLL_INTERVAL_SECONDS = 0.01


async def test_completed_job_reports_each_change_once(operations: Operations, jobs: Jobs) -> None:
    job = await jobs.add("x")
    changes: asyncio.Queue[JobRow] = asyncio.Queue()
    following = asyncio.create_task(
        operations.follow(job, poll_interval_seconds=POLL_INTERVAL_SECONDS, on_change=changes.put_nowait)
    )
    assert (await changes.get()).state is JobState.READY
    await jobs.claim()
    running = await changes.get()
    assert (running.state, running.attempts) == (JobState.RUNNING, 1)
    await jobs.connection.execute("select app_jobs.heartbeat_job($1, $2, 1, '1 minute', 0.52, 'half')", WORKER, job)
    assert (await changes.get()).progress == 0.52
    await jobs.connection.execute("select app_jobs.complete_job($1, $2)", WORKER, job)
    assert await following == FinalState(job, JobState.COMPLETED, RunOutcome.COMPLETED, 1)
    assert changes.empty()


async def test_permanently_failed_job_has_its_error(operations: Operations, jobs: Jobs) -> None:
    job = await jobs.add("x", max_attempts=1)
    await jobs.claim()
    await jobs.connection.execute("select app_jobs.fail_job($1, $2, 'boom')", WORKER, job)
    final = await operations.follow(job, poll_interval_seconds=POLL_INTERVAL_SECONDS)
    assert final == FinalState(job, JobState.FAILED, RunOutcome.PERMANENTLY_FAILED, 1, "boom")


@pytest.mark.parametrize(
    ("action", "state", "outcome"),
    [
        (Action.CANCEL, JobState.CANCELLED, RunOutcome.CANCELLED),
        (Action.REMOVE, JobState.FAILED, RunOutcome.REMOVED),
    ],
)
async def test_cancelled_or_removed_job_has_ended(
    operations: Operations, jobs: Jobs, action: Action, state: JobState, outcome: RunOutcome
) -> None:
    job = await jobs.add("x")
    await operations.apply(action, [job])
    final = await operations.follow(job, poll_interval_seconds=POLL_INTERVAL_SECONDS)
    assert (final.state, final.outcome) == (state, outcome)


async def test_cancelled_job_without_a_row_was_cancelled(operations: Operations, jobs: Jobs) -> None:
    job = await jobs.add("x")
    await operations.apply(Action.CANCEL, [job], reason="not needed")
    await jobs.connection.execute("delete from app_jobs.jobs")
    final = await operations.follow(job, poll_interval_seconds=POLL_INTERVAL_SECONDS)
    assert final == FinalState(job, JobState.CANCELLED, RunOutcome.CANCELLED, 0, "not needed")


async def test_missing_job_is_an_error(operations: Operations) -> None:
    with pytest.raises(ConfigurationError, match="job 99 is not in the queue"):
        await operations.follow(99)


async def test_without_history_a_deleted_job_counts_as_completed(
    platform_operations: Operations, platform_pool: "asyncpg.Pool[Any]"
) -> None:
    add = "select (app_jobs.add_job(gen_random_uuid(), 'x', max_attempts := 1)).id"
    job = await platform_pool.fetchval(add)
    await platform_pool.execute("select app_jobs.get_job($1)", WORKER)
    following = asyncio.create_task(platform_operations.follow(job, poll_interval_seconds=POLL_INTERVAL_SECONDS))
    await platform_pool.execute("select app_jobs.complete_job($1, $2)", WORKER, job)
    assert await following == FinalState(job, JobState.COMPLETED, None, None)
    job = await platform_pool.fetchval(add)
    await platform_pool.execute("select app_jobs.get_job($1)", WORKER)
    await platform_pool.execute("select app_jobs.fail_job($1, $2, 'boom')", WORKER, job)
    final = await platform_operations.follow(job, poll_interval_seconds=POLL_INTERVAL_SECONDS)
    assert (final.state, final.error) == (JobState.FAILED, "boom")
