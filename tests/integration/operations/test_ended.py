"""Jobs that were cancelled or have expired: states of their own, which people and metrics see."""

from typing import Any

import asyncpg
import pytest

from jobfn.database.queue_depth import QueueDepth, QueueDepthReader
from jobfn.operations import Action, JobFilter, JobState, Operations, RunOutcome
from support.clock import ManualClock
from support.commands import Command
from support.dashboard import site
from support.jobs import WORKER, Jobs


async def add_each(jobs: Jobs) -> dict[str, int]:
    """Add a failed, a cancelled and an expired job."""
    ids = {state: await jobs.add(state, max_attempts=1) for state in ("failed", "cancelled", "expired")}
    await jobs.connection.execute("select app_jobs.get_job($1, array['failed'])", WORKER)
    await jobs.fail(ids["failed"])
    await jobs.connection.execute("select app_jobs.cancel_jobs(array[$1::bigint], 'stop', false)", ids["cancelled"])
    await jobs.connection.execute("update app_jobs.jobs set expires_at = now() where id = $1", ids["expired"])
    await jobs.connection.execute("select app_jobs.expire_jobs()")
    return ids


async def test_each_is_a_state_in_lists_and_counts(operations: Operations, jobs: Jobs) -> None:
    ids = await add_each(jobs)
    assert {job.task: job.state for job in (await operations.list_jobs()).jobs} == {
        "failed": JobState.FAILED,
        "cancelled": JobState.CANCELLED,
        "expired": JobState.EXPIRED,
    }
    for state, job in ids.items():
        page = await operations.list_jobs(JobFilter(state=JobState(state)))
        assert [row.id for row in page.jobs] == [job]
    counts = await operations.counts()
    assert (counts.failed, counts.cancelled, counts.expired, counts.total) == (1, 1, 1, 3)
    assert {(group.name, group.failed, group.cancelled, group.expired) for group in counts.by_task} == {
        ("failed", 1, 0, 0),
        ("cancelled", 0, 1, 0),
        ("expired", 0, 0, 1),
    }


async def test_timeline_and_following_say_so(operations: Operations, jobs: Jobs) -> None:
    ids = await add_each(jobs)
    detail = await operations.get_job(ids["expired"])
    assert detail is not None
    assert [event.text for event in detail.timeline if event.outcome is not None] == ["expired: not started in time"]
    final = await operations.follow(ids["expired"])
    assert (final.state, final.outcome) == (JobState.EXPIRED, RunOutcome.EXPIRED)


@pytest.mark.parametrize(
    ("action", "reasons"),
    [
        (Action.CANCEL, {"cancelled": "it has already been cancelled", "expired": "it has expired"}),
        (Action.RUN_NOW, {"cancelled": "it was cancelled: retry it", "expired": "it has expired: retry it"}),
        (Action.WAKE, {"cancelled": "it was cancelled: retry it", "expired": "it has expired: retry it"}),
    ],
)
async def test_other_actions_skip_them(
    operations: Operations, jobs: Jobs, action: Action, reasons: dict[str, str]
) -> None:
    ids = await add_each(jobs)
    result = await operations.apply(action, [ids["cancelled"], ids["expired"]])
    assert result.done == 0
    assert {skipped.id: skipped.reason for skipped in result.skipped} == {
        ids[state]: reason for state, reason in reasons.items()
    }


async def test_retry_of_failed_jobs_leaves_them_alone(operations: Operations, jobs: Jobs) -> None:
    ids = await add_each(jobs)
    assert (await operations.apply_to_matching(Action.RETRY, JobFilter(newer_than_seconds=3600))).ids == (
        ids["failed"],
    )
    assert (await operations.apply(Action.RETRY, [ids["cancelled"], ids["expired"]])).done == 2
    states = {job.state for job in (await operations.list_jobs()).jobs}
    assert states == {JobState.READY}


async def test_queue_depth_counts_them_apart(jobs: Jobs, pool: "asyncpg.Pool[Any]") -> None:
    await add_each(jobs)
    reader = QueueDepthReader(pool, "app_jobs", is_platform=False, clock=ManualClock())
    assert await reader.read() == QueueDepth(0, 0, 0, 1, 0.0, cancelled=1, expired=1)


async def test_platform_schema_tells_cancelled_jobs_by_their_error(
    platform_operations: Operations, platform_pool: "asyncpg.Pool[Any]"
) -> None:
    job = await platform_pool.fetchval(
        "insert into app_jobs.jobs (database_id, task_identifier) values (gen_random_uuid(), 'x') returning id"
    )
    assert (await platform_operations.apply(Action.CANCEL, [job], reason="too late")).ids == (job,)
    (row,) = (await platform_operations.list_jobs()).jobs
    assert (row.state, row.last_error) == (JobState.CANCELLED, "cancelled: too late")
    counts = await platform_operations.counts()
    assert (counts.failed, counts.cancelled) == (0, 1)
    reader = QueueDepthReader(platform_pool, "app_jobs", is_platform=True, clock=ManualClock())
    assert await reader.read() == QueueDepth(0, 0, 0, 0, 0.0, cancelled=1)


async def test_command_line_and_dashboard_show_them(jobs: Jobs, invoke: Command, database: str) -> None:
    ids = await add_each(jobs)
    listed = await invoke("jobfn", "jobs", "list", "--state", "cancelled", DATABASE_URL=database)
    assert listed.output.splitlines()[1].split()[:2] == [str(ids["cancelled"]), "cancelled"]
    stats = await invoke("jobfn", "jobs", "stats", DATABASE_URL=database)
    assert "failed 1   cancelled 1   expired 1" in stats.output
    shown = await invoke("jobfn", "jobs", "show", str(ids["expired"]), DATABASE_URL=database)
    assert "    expires     " in shown.output
    async with site(database) as client:
        assert '<span class="state expired">expired</span>' in (await client.get(f"/jobs/{ids['expired']}")).text
        assert "permanently failed, 1 cancelled, 1 expired" in (await client.get("/")).text
