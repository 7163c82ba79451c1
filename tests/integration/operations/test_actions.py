"""Retry, run now, cancel and remove jobs in each state, while workers run."""

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from jobfn.errors import ConfigurationError
from jobfn.operations import Action, JobFilter, JobState, Operations
from jobfn.operations.actions import BATCH_SIZE
from support.jobs import TENANT, WORKER, Jobs, settle_jobs
from support.network import eventually


async def add_job(jobs: Jobs, state: str) -> int:
    """Add a job in a state and return its id."""
    job = await jobs.add("x", queue_name="q" if state == "running" else None)
    if state == "delayed":
        await jobs.connection.execute("update app_jobs.jobs set run_at = now() + interval '1 day' where id = $1", job)
    if state in {"running", "failed"}:
        claimed = await jobs.claim()
        assert claimed is not None
        assert claimed["id"] == job
    if state == "failed":
        await jobs.connection.execute(
            "select app_jobs.settle_jobs($1, $2, $3, '{permanently_failed}', '{boom}', $4)",
            [WORKER],
            [job],
            [None],
            [None],
        )
    return job


#: State after each action on each state; a text in quotes is the reason why the job is skipped.
OUTCOMES = {
    (Action.RETRY, "ready"): "'it has not permanently failed: it is ready'",
    (Action.RETRY, "delayed"): "'it has not permanently failed: it is delayed'",
    (Action.RETRY, "running"): "'it is running: wait until it ends, or cancel it first'",
    (Action.RETRY, "failed"): "ready",
    (Action.RUN_NOW, "ready"): "'it is already ready'",
    (Action.RUN_NOW, "delayed"): "ready",
    (Action.RUN_NOW, "running"): "'it is running: wait until it ends, or cancel it first'",
    (Action.RUN_NOW, "failed"): "'it has permanently failed: retry it'",
    (Action.CANCEL, "ready"): "cancelled",
    (Action.CANCEL, "delayed"): "cancelled",
    (Action.CANCEL, "running"): "'it is running: cancel it with --running (\"running ones too\" in the dashboard)'",
    (Action.CANCEL, "failed"): "'it has already failed permanently'",
    (Action.REMOVE, "ready"): "gone",
    (Action.REMOVE, "delayed"): "gone",
    (Action.REMOVE, "running"): "'it is running: wait until it ends, or cancel it first'",
    (Action.REMOVE, "failed"): "gone",
}


@pytest.mark.parametrize(("action", "state"), OUTCOMES, ids=str)
async def test_action_on_state_changes_or_skips_the_job(
    operations: Operations, jobs: Jobs, action: Action, state: str
) -> None:
    job = await add_job(jobs, state)
    before = await jobs.row(job)
    result = await operations.apply(action, [job])
    outcome = OUTCOMES[action, state]
    if outcome.startswith("'"):
        assert (result.done, [(skip.id, skip.reason) for skip in result.skipped]) == (0, [(job, outcome.strip("'"))])
        assert await jobs.row(job) == before
        return
    assert (result.done, result.ids, result.skipped, result.skipped_count) == (1, (job,), (), 0)
    if outcome == "gone":
        assert not await jobs.exists(job)
    else:
        assert [row.state for row in (await operations.list_jobs()).jobs] == [outcome]


async def test_retry_resets_the_attempts_and_keeps_the_last_error(operations: Operations, jobs: Jobs) -> None:
    job = await add_job(jobs, "failed")
    await operations.apply(Action.RETRY, [job])
    row = await jobs.row(job)
    assert (row["attempts"], row["max_attempts"], row["last_error"]) == (0, 25, "boom")
    assert await jobs.claim() is not None


@pytest.mark.parametrize("action", [Action.RETRY, Action.RUN_NOW])
async def test_action_notifies_workers(operations: Operations, jobs: Jobs, action: Action) -> None:
    job = await add_job(jobs, "failed" if action is Action.RETRY else "delayed")
    notified = asyncio.Event()
    await jobs.connection.add_listener("jobs:insert", lambda *_notification: notified.set())
    await operations.apply(action, [job])
    async with asyncio.timeout(10):
        await notified.wait()


async def test_run_now_keeps_the_attempts(operations: Operations, jobs: Jobs) -> None:
    job = await add_job(jobs, "running")
    await jobs.connection.execute("select app_jobs.fail_job($1, $2, 'boom')", WORKER, job)
    assert (await operations.apply(Action.RUN_NOW, [job])).done == 1
    claimed = await jobs.claim()
    assert claimed is not None
    assert claimed["attempts"] == 2


async def test_cancelled_job_has_the_reason_as_its_error(operations: Operations, jobs: Jobs) -> None:
    ids = [await add_job(jobs, "ready") for _ in range(2)]
    await operations.apply(Action.CANCEL, ids[:1])
    await operations.apply(Action.CANCEL, ids[1:], reason="the order\0 was withdrawn")
    rows = [await jobs.row(job) for job in ids]
    assert [row and row["last_error"] for row in rows] == ["cancelled by hand", "the order was withdrawn"]
    detail = await operations.get_job(ids[1])
    assert detail is not None
    assert [(run.outcome, run.error, run.worker) for run in detail.runs] == [
        ("cancelled", "the order was withdrawn", None)
    ]


async def test_cancelled_running_job_ignores_its_worker(operations: Operations, jobs: Jobs) -> None:
    job = await add_job(jobs, "running")
    assert (await operations.apply(Action.CANCEL, [job], include_running=True)).done == 1
    held = await jobs.connection.fetch("select * from app_jobs.renew_leases($1, $2, '{1}', '1 minute')", WORKER, [job])
    assert held == []
    assert await settle_jobs(jobs.connection, (WORKER, job, 1, None), (WORKER, job, None, "late")) == []
    row = await jobs.row(job)
    assert (row["last_error"], row["locked_by"], row["exhausted"]) == ("cancelled by hand", None, True)
    assert await jobs.connection.fetchval("select count(*) from app_jobs.queue_locks") == 0
    detail = await operations.get_job(job)
    assert detail is not None
    assert [(run.attempt, run.outcome, run.worker) for run in detail.runs] == [(1, "cancelled", WORKER)]


@pytest.mark.parametrize("loss", ["cancelled", "reaped", "reclaimed"])
async def test_late_report_does_not_settle_the_retry(operations: Operations, jobs: Jobs, loss: str) -> None:
    """The attempt numbers differ, also on the same worker."""
    job = await jobs.add("x", max_attempts=1)
    await jobs.connection.execute("select app_jobs.claim_jobs($1, null, '4 hours', 1, '1 minute')", WORKER)
    if loss == "cancelled":
        await operations.apply(Action.CANCEL, [job], include_running=True)
    elif loss == "reaped":
        await jobs.connection.execute("update app_jobs.jobs set lease_expires_at = now() - interval '1 s'")
        await jobs.connection.execute("select app_jobs.reap_expired_jobs('4 hours')")
    else:
        await jobs.connection.execute("select app_jobs.reclaim_jobs($1)", WORKER)
    assert (await operations.apply(Action.RETRY, [job])).done == 1
    claimed = await jobs.claim()
    assert claimed is not None
    assert (claimed["id"], claimed["attempts"], claimed["max_attempts"]) == (job, 2, 2)
    assert await settle_jobs(jobs.connection, (WORKER, job, 1, None)) == []
    assert len(await settle_jobs(jobs.connection, (WORKER, job, 2, None))) == 1


async def test_many_ids_are_applied_in_batches(operations: Operations, jobs: Jobs) -> None:
    await jobs.connection.execute(
        "insert into app_jobs.jobs (task_identifier, attempts) select 'x', 25 from generate_series(1, $1)",
        BATCH_SIZE + 9,
    )
    ids = list(range(1, BATCH_SIZE + 10))
    result = await operations.apply(Action.RETRY, [*ids, 1, 0, -5, 10**30, 99_999])
    assert (result.done, result.skipped_count, result.ids) == (BATCH_SIZE + 9, 4, tuple(ids))
    assert {skip.reason for skip in result.skipped} == {"it does not exist, or was completed or removed"}


async def test_no_ids_change_nothing(operations: Operations) -> None:
    assert (await operations.apply(Action.REMOVE, [])).done == 0


async def test_matching_jobs_that_exist_at_the_start_are_changed(operations: Operations, jobs: Jobs) -> None:
    await jobs.connection.execute(
        f"insert into app_jobs.jobs (task_identifier) select 'x' from generate_series(1, {2 * BATCH_SIZE + 1})"
    )
    other = await jobs.add("other")
    batches: list[int] = []
    added: list[asyncio.Task[int]] = []

    def on_progress(count: int) -> None:
        batches.append(count)
        if not added:
            added.append(asyncio.create_task(jobs.add("x")))

    job_filter = JobFilter(task="x")
    assert await operations.count_targets(Action.CANCEL, job_filter, limit=10_000) == 2 * BATCH_SIZE + 1
    result = await operations.apply_to_matching(Action.CANCEL, job_filter, reason="closed", on_progress=on_progress)
    later = await added[0]
    assert (result.done, sum(batches), result.skipped_count) == (2 * BATCH_SIZE + 1, 2 * BATCH_SIZE + 1, 0)
    ready = {job.id for job in (await operations.list_jobs(JobFilter(state=JobState.READY))).jobs}
    assert ready == {other, later}


@pytest.mark.parametrize(
    ("action", "include_running", "changed"),
    [
        (Action.RETRY, False, {"failed"}),
        (Action.RUN_NOW, False, {"delayed"}),
        (Action.CANCEL, False, {"ready", "delayed"}),
        (Action.CANCEL, True, {"ready", "delayed", "running"}),
        (Action.REMOVE, False, {"ready", "delayed", "failed"}),
    ],
)
async def test_filter_without_state_selects_the_states_of_the_action(
    operations: Operations,
    jobs: Jobs,
    action: Action,
    include_running: bool,  # noqa: FBT001  - a parameter of a table
    changed: set[str],
) -> None:
    ids = {state: await add_job(jobs, state) for state in ("failed", "running", "delayed", "ready")}
    result = await operations.apply_to_matching(action, JobFilter(task="x"), include_running=include_running)
    assert set(result.ids) == {ids[state] for state in changed}
    assert [skip.id for skip in result.skipped] == ([ids["running"]] if action is Action.REMOVE else [])


async def test_filter_with_another_state_skips_its_jobs(operations: Operations, jobs: Jobs) -> None:
    await add_job(jobs, "failed")
    ready = await add_job(jobs, "ready")
    result = await operations.apply_to_matching(Action.RETRY, JobFilter(state=JobState.READY))
    assert [(skip.id, skip.reason) for skip in result.skipped] == [
        (ready, "it has not permanently failed: it is ready")
    ]


async def test_filter_on_an_empty_table_changes_nothing(operations: Operations) -> None:
    result = await operations.apply_to_matching(Action.REMOVE, JobFilter(task="x"))
    assert (result.done, result.skipped_count) == (0, 0)


@pytest.mark.parametrize("action", sorted({*Action} - {Action.RUN_AGAIN}))
async def test_empty_filter_and_completed_jobs_are_rejected(operations: Operations, jobs: Jobs, action: Action) -> None:
    await add_job(jobs, "failed")
    with pytest.raises(ConfigurationError, match="name a task, a queue or a state"):
        await operations.apply_to_matching(action, JobFilter())
    with pytest.raises(ConfigurationError, match="completed jobs are deleted"):
        await operations.apply_to_matching(action, JobFilter(state=JobState.COMPLETED))
    assert await jobs.count() == 1


async def test_remove_waits_for_a_claim_and_skips_the_job(
    operations: Operations, jobs: Jobs, pool: "asyncpg.Pool[Any]"
) -> None:
    job = await add_job(jobs, "ready")
    async with pool.acquire() as claimer:
        transaction = claimer.transaction()
        await transaction.start()
        await claimer.execute("select app_jobs.get_job($1)", WORKER)
        removing = asyncio.create_task(operations.apply(Action.REMOVE, [job]))
        is_waiting = "select exists (select from pg_locks where not granted)"
        await eventually(lambda: jobs.connection.fetchval(is_waiting))
        await transaction.commit()
    result = await removing
    assert (result.done, [skip.reason for skip in result.skipped]) == (
        0,
        ["it is running: wait until it ends, or cancel it first"],
    )
    assert await jobs.exists(job)


async def test_platform_schema_supports_actions_on_jobs(
    platform_operations: Operations, platform_pool: "asyncpg.Pool[Any]"
) -> None:
    add = "select (app_jobs.add_job($1, $2, '{}', run_at := now() + $3::interval)).id"
    tenant = uuid.UUID(TENANT)
    past, future = timedelta(seconds=-9), timedelta(days=1)
    running = await platform_pool.fetchval(add, tenant, "run", past)
    await platform_pool.execute("select app_jobs.get_job($1)", WORKER)
    ready = await platform_pool.fetchval(add, tenant, "x", past)
    delayed = await platform_pool.fetchval(add, tenant, "x", future)
    ids = [running, ready, delayed]
    assert (await platform_operations.apply(Action.RUN_NOW, ids)).ids == (delayed,)
    cancelled = await platform_operations.apply(Action.CANCEL, ids)
    assert set(cancelled.ids) == {ready, delayed}
    assert "cancel it with --running" in cancelled.skipped[0].reason
    assert set((await platform_operations.apply(Action.RETRY, ids)).ids) == {ready, delayed}
    states = {job.id: job.state for job in (await platform_operations.list_jobs()).jobs}
    assert states == {running: "running", ready: "ready", delayed: "ready"}
    removed = await platform_operations.apply_to_matching(Action.REMOVE, JobFilter(task="x"))
    assert set(removed.ids) == {ready, delayed}
    assert (await platform_operations.apply(Action.REMOVE, [running])).done == 0
