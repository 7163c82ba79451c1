"""Whatever ends an attempt writes down what became of it, in the same transaction, and nothing twice."""

from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from jobfn.database.jobs import NativeJobStore, Settlement
from jobfn.operations import Operations, RunOutcome
from support.jobs import WORKER, Jobs, settle

OTHER = "another-worker"


async def runs(jobs: Jobs, job: int | None = None) -> list[tuple[Any, ...]]:
    """Attempt, outcome, worker and error of what history has, in order."""
    rows = await jobs.connection.fetch(
        "select attempt, outcome, worker, error from app_jobs.job_runs where $1::bigint is null or job_id = $1"
        " order by ended_at, job_id, attempt",
        job,
    )
    return [tuple(row) for row in rows]


async def end(jobs: Jobs, job: int, outcome: str, *, error: str | None = None, delay: float | None = None) -> bool:
    """Settle a job that ``WORKER`` holds; returns whether it was held."""
    rows = await jobs.connection.fetch(
        "select * from app_jobs.settle_held_jobs($1, $2, $3, $4, $5, $6)",
        [WORKER],
        [job],
        [None],
        [outcome],
        [error],
        [None if delay is None else timedelta(seconds=delay)],
    )
    return bool(rows)


async def test_a_completed_attempt_is_kept_whole(jobs: Jobs, operations: Operations) -> None:
    """Task, queue, tenant, worker and the four times, although the job's row is gone."""
    job = await jobs.add("send", queue_name="mail")
    await jobs.connection.execute("update app_jobs.jobs set database_id = gen_random_uuid()")
    before = await jobs.claim()
    assert before is not None
    await end(jobs, job, "completed")
    detail = await operations.show_job(job)
    assert detail is not None
    assert (detail.job, detail.payload, detail.task) == (None, None, "send")
    (run,) = detail.runs
    assert (run.attempt, run.outcome, run.worker, run.queue) == (1, RunOutcome.COMPLETED, WORKER, "mail")
    assert run.database_id == str(before["database_id"])
    assert (run.enqueued_at, run.due_at, run.started_at) == (
        before["created_at"],
        before["run_at"],
        before["locked_at"],
    )
    assert run.ended_at > before["locked_at"]
    assert run.error is None


@pytest.mark.parametrize(
    ("outcome", "kept", "error"),
    [
        ("failed", "failed", "boom"),
        ("failed_for_good", "failed_for_good", "boom"),
        ("given_back", "released", None),
        ("completed", "completed", None),
    ],
)
async def test_each_end_of_an_attempt_is_kept(jobs: Jobs, outcome: str, kept: str, error: str | None) -> None:
    """With the attempt's own number, whatever the end makes of the job's."""
    job = await jobs.add("x")
    await jobs.claim()
    assert await end(jobs, job, outcome, error="boom")
    assert await runs(jobs) == [(1, kept, WORKER, error)]


async def test_a_last_attempt_that_fails_is_called_so(jobs: Jobs) -> None:
    """A failure that leaves no attempt is one for good."""
    job = await jobs.add("x", max_attempts=1)
    await jobs.claim()
    await end(jobs, job, "failed", error="boom")
    assert await runs(jobs, job) == [(1, "failed_for_good", WORKER, "boom")]


async def test_the_due_time_is_that_of_the_attempt(jobs: Jobs) -> None:
    """A retry is due later, and its history begins there."""
    job = await jobs.add("x")
    claimed = await jobs.claim()
    assert claimed is not None
    await end(jobs, job, "failed", error="boom", delay=0)
    second = await jobs.claim()
    assert second is not None
    await end(jobs, job, "completed")
    times = await jobs.connection.fetch("select due_at, started_at from app_jobs.job_runs order by attempt")
    assert [tuple(row) for row in times] == [(row["run_at"], row["locked_at"]) for row in (claimed, second)]
    assert second["run_at"] > claimed["run_at"]


async def test_a_batch_is_kept_in_its_order(jobs: Jobs) -> None:
    """Many ends in one statement, good and bad: each once, and only those that were held."""
    ids = [await jobs.add("x") for _ in range(4)]
    for _ in ids:
        await jobs.claim()
    ends = [(WORKER, job, 1, "boom" if job % 2 else None) for job in ids]
    await settle(jobs.connection, *ends, (WORKER, 999, 1, None), (OTHER, ids[0], 1, None))
    assert await jobs.connection.fetch("select job_id, outcome from app_jobs.job_runs order by job_id") == [
        (job, "failed" if job % 2 else "completed") for job in ids
    ]


async def test_what_is_not_held_leaves_nothing(jobs: Jobs) -> None:
    """A late, foreign or repeated report writes no history."""
    job = await jobs.add("x")
    await jobs.claim(OTHER)
    for outcome in ("completed", "failed", "given_back"):
        assert not await end(jobs, job, outcome)
    assert await runs(jobs) == []


async def test_history_goes_with_its_transaction(jobs: Jobs) -> None:
    """Rolled back together with the end that it tells of."""
    job = await jobs.add("x")
    await jobs.claim()
    transaction = jobs.connection.transaction()
    await transaction.start()
    await end(jobs, job, "completed")
    assert len(await runs(jobs)) == 1
    await transaction.rollback()
    assert await runs(jobs) == []
    assert await jobs.count() == 1


@pytest.mark.parametrize("verb", ["complete_job($1, $2)", "fail_job($1, $2, 'boom')"])
async def test_the_contract_s_functions_keep_it_too(jobs: Jobs, verb: str) -> None:
    """A worker of the platform's ends jobs by these."""
    job = await jobs.add("x")
    await jobs.claim()
    await jobs.connection.execute(f"select app_jobs.{verb}", WORKER, job)
    assert [(attempt, outcome) for attempt, outcome, *_ in await runs(jobs)] == [
        (1, "completed" if "complete" in verb else "failed")
    ]


async def test_released_and_taken_back(jobs: Jobs) -> None:
    """A worker that stops gives back, one that comes again after a crash has lost."""
    for verb in ("release_jobs", "take_back_jobs"):
        await jobs.add("x")
        await jobs.claim()
        await jobs.connection.execute(f"select app_jobs.{verb}($1)", WORKER)
    assert await runs(jobs, 1) == [
        (1, "released", WORKER, None),
        (1, "lost", WORKER, f"the worker {WORKER} died, or lost its lease"),
    ]


async def test_a_claim_that_takes_over_tells_of_the_lost_attempt(jobs: Jobs) -> None:
    """The lease ended, another worker claims: the attempt before is lost, with its own start."""
    await jobs.add("x")
    await jobs.connection.execute("select app_jobs.claim_jobs($1, null, '4 hours', 1, '1 minute')", WORKER)
    await jobs.connection.execute("update app_jobs.jobs set lease_expires_at = now() - interval '1 s'")
    before = await jobs.row(1)
    assert before is not None
    assert await jobs.claim(OTHER) is not None
    assert await runs(jobs) == [(1, "lost", WORKER, f"the worker {WORKER} died, or lost its lease")]
    assert await jobs.connection.fetchval("select started_at from app_jobs.job_runs") == before["locked_at"]


async def test_a_buried_job_is_lost_for_good(jobs: Jobs) -> None:
    """The last attempt's worker died: history and the job's own error say the same."""
    await jobs.add("x", max_attempts=1)
    await jobs.connection.execute("select app_jobs.claim_jobs($1, null, '4 hours', 1, '1 minute')", WORKER)
    await jobs.connection.execute("update app_jobs.jobs set lease_expires_at = now() - interval '1 s'")
    assert await jobs.connection.fetch("select id from app_jobs.bury_expired_jobs('4 hours')") == [(1,)]
    row = await jobs.row(1)
    assert row is not None
    assert await runs(jobs) == [(1, "lost", WORKER, row["last_error"])]


async def test_by_hand(jobs: Jobs) -> None:
    """What people remove or fail is told from what a worker did: no worker, no start."""
    await jobs.add("x")
    await jobs.add("y")
    await jobs.connection.execute("select app_jobs.complete_jobs('{1}')")
    await jobs.connection.execute("select app_jobs.permanently_fail_jobs('{2}', 'not wanted')")
    assert await runs(jobs) == [(0, "removed", None, None), (0, "cancelled", None, "not wanted")]
    assert await jobs.connection.fetchval("select count(started_at) from app_jobs.job_runs") == 0


async def test_turned_off_nothing_is_written(jobs: Jobs, pool: "asyncpg.Pool[Any]") -> None:
    """With 0 days no attempt leaves a row, whichever way it ends."""
    await jobs.connection.execute("select app_jobs.set_history_days(0)")
    for verb in ("complete_job($1, 1)", "fail_job($1, 2, 'x')", "release_jobs($1)", "take_back_jobs($1)"):
        await jobs.add("x")
        await jobs.claim()
        await jobs.connection.execute(f"select app_jobs.{verb}", WORKER)
    await jobs.connection.execute("update app_jobs.jobs set run_at = now(), max_attempts = 25")
    await jobs.connection.execute("select app_jobs.claim_jobs($1, null, '4 hours', 1, '-1 s')", WORKER)
    await jobs.claim(OTHER)
    await jobs.connection.execute("update app_jobs.jobs set locked_at = null, locked_by = null")
    await jobs.connection.execute("select app_jobs.permanently_fail_jobs(array(select id from app_jobs.jobs))")
    await jobs.connection.execute("select app_jobs.complete_jobs(array(select id from app_jobs.jobs))")
    assert await runs(jobs) == []
    store = NativeJobStore(pool, "app_jobs")
    job = await jobs.add("x")
    await store.claim(WORKER, tasks=None, limit=1)
    assert await store.settle([Settlement(WORKER, job, 1)]) == {job}
    assert await runs(jobs) == []


async def test_old_attempts_are_swept_oldest_first(jobs: Jobs) -> None:
    """No more than asked for at a time, nothing that is young enough; with 0 days, everything."""
    await jobs.connection.execute(
        """
        insert into app_jobs.job_runs (job_id, attempt, task_identifier, enqueued_at, due_at, ended_at, outcome)
        select n, 1, 'x', now(), now(), now() - n * interval '1 day', 'completed' from generate_series(1, 10) n
        """
    )
    sweep = "select app_jobs.sweep_history($1)"
    assert await jobs.connection.fetchval(sweep, 2) == 2
    left = "select array_agg(job_id order by job_id) from app_jobs.job_runs"
    assert await jobs.connection.fetchval(left) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert await jobs.connection.fetchval(sweep, 100) == 2
    assert await jobs.connection.fetchval(sweep, 100) == 0
    await jobs.connection.execute("select app_jobs.set_history_days(2.5)")
    await jobs.connection.fetchval(sweep, 100)
    assert await jobs.connection.fetchval(left) == [1, 2]
    await jobs.connection.execute("select app_jobs.set_history_days(0)")
    assert await jobs.connection.fetchval(sweep, 100) == 2


async def test_two_sweepers_do_not_wait_for_each_other(jobs: Jobs, pool: "asyncpg.Pool[Any]") -> None:
    """What one has in hand the other passes over."""
    await jobs.connection.execute(
        """
        insert into app_jobs.job_runs (job_id, attempt, task_identifier, enqueued_at, due_at, ended_at, outcome)
        select n, 1, 'x', now(), now(), now() - interval '9 days', 'completed' from generate_series(1, 10) n
        """
    )
    async with pool.acquire() as one, one.transaction():
        assert await one.fetchval("select app_jobs.sweep_history(6)") == 6
        await jobs.connection.execute("set lock_timeout = '5s'")
        assert await jobs.connection.fetchval("select app_jobs.sweep_history(100)") == 4


async def test_negative_days_are_refused(jobs: Jobs) -> None:
    """The setting has one row, and it is never less than nothing."""
    with pytest.raises(asyncpg.CheckViolationError):
        await jobs.connection.execute("select app_jobs.set_history_days(-1)")


async def test_a_claim_still_updates_in_place(jobs: Jobs) -> None:
    """History's index on errors is none that a claim touches: the new row version stays on its page (HOT)."""
    for _ in range(20):
        await jobs.add("x")
    await jobs.connection.execute("select pg_stat_force_next_flush()")
    await jobs.connection.fetch("select app_jobs.claim_jobs($1, null, '4 hours', 20)", WORKER)
    await jobs.connection.execute("select pg_stat_force_next_flush()")
    stats = await jobs.connection.fetchrow(
        "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relname = 'jobs' and schemaname = 'app_jobs'"
    )
    assert stats is not None
    assert tuple(stats) == (20, 20)
