"""Retry, run now, cancel, remove: what each does with a job in each state, safely while workers are at work."""

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from jobfn.errors import ConfigurationError
from jobfn.operations import Action, JobFilter, JobState, Operations
from jobfn.operations.actions import BATCH
from support.jobs import TENANT, WORKER, Jobs, settle
from support.network import eventually


async def make(jobs: Jobs, state: str) -> int:
    """A job that stands so."""
    job = await jobs.add("x", queue_name="q" if state == "running" else None)
    if state == "delayed":
        await jobs.connection.execute("update app_jobs.jobs set run_at = now() + interval '1 day' where id = $1", job)
    if state in {"running", "failed"}:
        claimed = await jobs.claim()
        assert claimed is not None
        assert claimed["id"] == job
    if state == "failed":
        await jobs.connection.execute(
            "select app_jobs.settle_held_jobs($1, $2, $3, '{failed_for_good}', '{boom}', $4)",
            [WORKER],
            [job],
            [None],
            [None],
        )
    return job


#: Of each action: what becomes of a job in each state; a text in quotes is why it is left as it is.
OUTCOMES = {
    (Action.RETRY, "ready"): "'it has not failed for good: it is ready'",
    (Action.RETRY, "delayed"): "'it has not failed for good: it waits for its time'",
    (Action.RETRY, "running"): "'it runs: wait for its end, or cancel it first'",
    (Action.RETRY, "failed"): "ready",
    (Action.RUN_NOW, "ready"): "'it is ready already'",
    (Action.RUN_NOW, "delayed"): "ready",
    (Action.RUN_NOW, "running"): "'it runs: wait for its end, or cancel it first'",
    (Action.RUN_NOW, "failed"): "'it has failed for good: retry it'",
    (Action.CANCEL, "ready"): "failed",
    (Action.CANCEL, "delayed"): "failed",
    (Action.CANCEL, "running"): "'it runs: cancel it with --running (\"running ones too\" in the dashboard)'",
    (Action.CANCEL, "failed"): "'it has failed for good already'",
    (Action.REMOVE, "ready"): "gone",
    (Action.REMOVE, "delayed"): "gone",
    (Action.REMOVE, "running"): "'it runs: wait for its end, or cancel it first'",
    (Action.REMOVE, "failed"): "gone",
}


@pytest.mark.parametrize(("action", "state"), OUTCOMES, ids=str)
async def test_each_action_on_each_state(operations: Operations, jobs: Jobs, action: Action, state: str) -> None:
    """Done, or left as it is to the last column with the reason."""
    job = await make(jobs, state)
    before = await jobs.row(job)
    result = await operations.act(action, [job])
    after = await jobs.row(job)
    outcome = OUTCOMES[action, state]
    if outcome.startswith("'"):
        assert (result.done, [(left.id, left.reason) for left in result.skipped]) == (0, [(job, outcome.strip("'"))])
        assert after == before
        return
    assert (result.done, result.ids, result.skipped, result.skipped_count) == (1, (job,), (), 0)
    if outcome == "gone":
        assert after is None
    else:
        assert [found.state for found in (await operations.list_jobs()).jobs] == [outcome]


async def test_a_retry_has_all_attempts_anew(operations: Operations, jobs: Jobs) -> None:
    """Attempt 1 again, the reason of the last failure still there until the next."""
    job = await make(jobs, "failed")
    await operations.act(Action.RETRY, [job])
    row = await jobs.row(job)
    assert row is not None
    assert (row["attempts"], row["max_attempts"], row["last_error"]) == (0, 25, "boom")
    assert await jobs.claim() is not None


@pytest.mark.parametrize("action", [Action.RETRY, Action.RUN_NOW])
async def test_workers_hear_of_it(operations: Operations, jobs: Jobs, action: Action) -> None:
    """What is due now is announced as a new job is."""
    job = await make(jobs, "failed" if action is Action.RETRY else "delayed")
    rung = asyncio.Event()
    await jobs.connection.add_listener("jobs:insert", lambda *_notification: rung.set())
    await operations.act(action, [job])
    async with asyncio.timeout(10):
        await rung.wait()


async def test_run_now_keeps_the_attempts(operations: Operations, jobs: Jobs) -> None:
    """A job that waits for its second attempt has it now, and it is the second."""
    job = await make(jobs, "running")
    await jobs.connection.execute("select app_jobs.fail_job($1, $2, 'boom')", WORKER, job)
    assert (await operations.act(Action.RUN_NOW, [job])).done == 1
    claimed = await jobs.claim()
    assert claimed is not None
    assert claimed["attempts"] == 2


async def test_a_cancelled_job_says_why(operations: Operations, jobs: Jobs) -> None:
    """The reason stands as its error and in history; without one, who did it."""
    ids = [await make(jobs, "ready") for _ in range(2)]
    await operations.act(Action.CANCEL, ids[:1])
    await operations.act(Action.CANCEL, ids[1:], reason="the order\0 was withdrawn")
    rows = [await jobs.row(job) for job in ids]
    assert [row and row["last_error"] for row in rows] == ["cancelled by hand", "the order was withdrawn"]
    detail = await operations.show_job(ids[1])
    assert detail is not None
    assert [(run.outcome, run.error, run.worker) for run in detail.runs] == [
        ("cancelled", "the order was withdrawn", None)
    ]


async def test_cancelling_what_runs_takes_it_from_its_worker(operations: Operations, jobs: Jobs) -> None:
    """Its lock and its queue are free, and whatever the worker still says of it changes nothing."""
    job = await make(jobs, "running")
    assert (await operations.act(Action.CANCEL, [job], running=True)).done == 1
    held = await jobs.connection.fetch("select * from app_jobs.renew_leases($1, $2, '{1}', '1 minute')", WORKER, [job])
    assert held == []
    assert await settle(jobs.connection, (WORKER, job, 1, None), (WORKER, job, None, "late")) == []
    row = await jobs.row(job)
    assert row is not None
    assert (row["last_error"], row["locked_by"], row["exhausted"]) == ("cancelled by hand", None, True)
    assert await jobs.connection.fetchval("select count(*) from app_jobs.queue_locks") == 0
    detail = await operations.show_job(job)
    assert detail is not None
    assert [(run.attempt, run.outcome, run.worker) for run in detail.runs] == [(1, "cancelled", WORKER)]


@pytest.mark.parametrize("taken", ["cancelled", "buried", "taken back"])
async def test_a_late_report_is_none_of_the_retry_s(operations: Operations, jobs: Jobs, taken: str) -> None:
    """The attempt that may still run and the one after the retry have different numbers, on the same worker too."""
    job = await jobs.add("x", max_attempts=1)
    await jobs.connection.execute("select app_jobs.claim_jobs($1, null, '4 hours', 1, '1 minute')", WORKER)
    if taken == "cancelled":
        await operations.act(Action.CANCEL, [job], running=True)
    elif taken == "buried":
        await jobs.connection.execute("update app_jobs.jobs set lease_expires_at = now() - interval '1 s'")
        await jobs.connection.execute("select app_jobs.bury_expired_jobs('4 hours')")
    else:
        await jobs.connection.execute("select app_jobs.take_back_jobs($1)", WORKER)
    assert (await operations.act(Action.RETRY, [job])).done == 1
    claimed = await jobs.claim()
    assert claimed is not None
    assert (claimed["id"], claimed["attempts"], claimed["max_attempts"]) == (job, 2, 2)
    assert await settle(jobs.connection, (WORKER, job, 1, None)) == []
    assert len(await settle(jobs.connection, (WORKER, job, 2, None))) == 1


async def test_many_at_once_with_what_does_not_fit(operations: Operations, jobs: Jobs) -> None:
    """Each id once, in batches; the result names what was done and what was not."""
    await jobs.connection.execute(
        f"insert into app_jobs.jobs (task_identifier, attempts) select 'x', 25 from generate_series(1, {BATCH + 9})"
    )
    ids = list(range(1, BATCH + 10))
    result = await operations.act(Action.RETRY, [*ids, 1, 0, -5, 10**30, 99_999])
    assert (result.done, result.skipped_count, result.ids) == (BATCH + 9, 4, tuple(ids))
    assert {left.reason for left in result.skipped} == {"there is no such job (any more)"}


async def test_no_ids_do_nothing(operations: Operations) -> None:
    """An empty list is no error."""
    assert (await operations.act(Action.REMOVE, [])).done == 0


async def test_by_filter_all_that_were_there(operations: Operations, jobs: Jobs) -> None:
    """Batch after batch, each told; a job that comes meanwhile is left alone."""
    await jobs.connection.execute(
        f"insert into app_jobs.jobs (task_identifier) select 'x' from generate_series(1, {2 * BATCH + 1})"
    )
    other = await jobs.add("other")
    told: list[int] = []
    adding: list[asyncio.Task[int]] = []

    def progress(count: int) -> None:
        told.append(count)
        if not adding:
            adding.append(asyncio.create_task(jobs.add("x")))

    wanted = JobFilter(task="x")
    assert await operations.count_targets(Action.CANCEL, wanted, at_most=10_000) == 2 * BATCH + 1
    result = await operations.apply_to_matching(Action.CANCEL, wanted, reason="closed", progress=progress)
    added = await adding[0]
    assert (result.done, sum(told), result.skipped_count) == (2 * BATCH + 1, 2 * BATCH + 1, 0)
    left = {job.id for job in (await operations.list_jobs(JobFilter(state=JobState.READY))).jobs}
    assert left == {other, added}


@pytest.mark.parametrize(
    ("action", "running", "touched"),
    [
        (Action.RETRY, False, {"failed"}),
        (Action.RUN_NOW, False, {"delayed"}),
        (Action.CANCEL, False, {"ready", "delayed"}),
        (Action.CANCEL, True, {"ready", "delayed", "running"}),
        (Action.REMOVE, False, {"ready", "delayed", "failed"}),
    ],
)
async def test_by_filter_an_action_means_what_it_can_do(
    operations: Operations,
    jobs: Jobs,
    action: Action,
    running: bool,  # noqa: FBT001  - a parameter of a table
    touched: set[str],
) -> None:
    """Without a state in the filter; only removal meets what runs, and leaves it."""
    ids = {state: await make(jobs, state) for state in ("failed", "running", "delayed", "ready")}
    result = await operations.apply_to_matching(action, JobFilter(task="x"), running=running)
    assert set(result.ids) == {ids[state] for state in touched}
    assert [left.id for left in result.skipped] == ([ids["running"]] if action is Action.REMOVE else [])


async def test_by_filter_with_a_state(operations: Operations, jobs: Jobs) -> None:
    """The state narrows; where nothing can be done there, each is named with its reason."""
    await make(jobs, "failed")
    ready = await make(jobs, "ready")
    result = await operations.apply_to_matching(Action.RETRY, JobFilter(state=JobState.READY))
    assert [(left.id, left.reason) for left in result.skipped] == [(ready, "it has not failed for good: it is ready")]


async def test_by_filter_in_an_empty_table(operations: Operations) -> None:
    """Nothing to do is no error."""
    result = await operations.apply_to_matching(Action.REMOVE, JobFilter(task="x"))
    assert (result.done, result.skipped_count) == (0, 0)


@pytest.mark.parametrize("action", list(Action))
async def test_all_jobs_there_are_is_no_filter(operations: Operations, jobs: Jobs, action: Action) -> None:
    """An empty filter is a slip; completed jobs cannot be helped."""
    await make(jobs, "failed")
    with pytest.raises(ConfigurationError, match="Name a task, a queue, a state or another filter"):
        await operations.apply_to_matching(action, JobFilter())
    with pytest.raises(ConfigurationError, match="completed jobs are gone"):
        await operations.apply_to_matching(action, JobFilter(state=JobState.COMPLETED))
    assert await jobs.count() == 1


async def test_a_claim_and_an_action_do_not_both_have_a_job(
    operations: Operations, jobs: Jobs, pool: "asyncpg.Pool[Any]"
) -> None:
    """A removal that waits for a claim to commit finds the job running, and leaves it."""
    job = await make(jobs, "ready")
    async with pool.acquire() as claiming:
        transaction = claiming.transaction()
        await transaction.start()
        await claiming.execute("select app_jobs.get_job($1)", WORKER)
        removing = asyncio.create_task(operations.act(Action.REMOVE, [job]))
        waiting = "select exists (select from pg_locks where not granted)"
        await eventually(lambda: jobs.connection.fetchval(waiting))
        await transaction.commit()
    result = await removing
    assert (result.done, [left.reason for left in result.skipped]) == (
        0,
        ["it runs: wait for its end, or cancel it first"],
    )
    assert await jobs.row(job) is not None


async def test_on_the_platform_s_schema(on_platform: Operations, platform_pool: "asyncpg.Pool[Any]") -> None:
    """By the contract's functions; what runs stays, and the reason says that it cannot be cancelled there."""
    add = "select (app_jobs.add_job($1, $2, '{}', run_at := now() + $3::interval)).id"
    tenant = uuid.UUID(TENANT)
    past, future = timedelta(seconds=-9), timedelta(days=1)
    running = await platform_pool.fetchval(add, tenant, "run", past)
    await platform_pool.execute("select app_jobs.get_job($1)", WORKER)
    ready = await platform_pool.fetchval(add, tenant, "x", past)
    delayed = await platform_pool.fetchval(add, tenant, "x", future)
    ids = [running, ready, delayed]
    assert (await on_platform.act(Action.RUN_NOW, ids)).ids == (delayed,)
    cancelled = await on_platform.act(Action.CANCEL, ids, running=True)
    assert set(cancelled.ids) == {ready, delayed}
    assert "cannot be cancelled" in cancelled.skipped[0].reason
    assert set((await on_platform.act(Action.RETRY, ids)).ids) == {ready, delayed}
    states = {job.id: job.state for job in (await on_platform.list_jobs()).jobs}
    assert states == {running: "running", ready: "ready", delayed: "ready"}
    removed = await on_platform.apply_to_matching(Action.REMOVE, JobFilter(task="x"))
    assert set(removed.ids) == {ready, delayed}
    assert (await on_platform.act(Action.REMOVE, [running])).done == 0
