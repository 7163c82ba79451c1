"""Each end of an attempt writes one history row, in the same transaction."""

from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from jobfn.database.native_store import NativeJobStore
from jobfn.database.records import Settlement
from jobfn.operations import Operations, RunOutcome
from support.jobs import WORKER, Jobs, settle_jobs

OTHER = "another-worker"


async def runs(jobs: Jobs, job: int | None = None) -> list[tuple[Any, ...]]:
    """Return attempt, outcome, worker and error of the history rows, in order."""
    rows = await jobs.connection.fetch(
        "select attempt, outcome, worker, error from app_jobs.job_runs where $1::bigint is null or job_id = $1"
        " order by ended_at, job_id, attempt",
        job,
    )
    return [tuple(row) for row in rows]


async def settle_one(
    jobs: Jobs, job: int, outcome: str, *, error: str | None = None, delay: float | None = None
) -> bool:
    """Settle a job of ``WORKER``; return whether it was held."""
    rows = await jobs.connection.fetch(
        "select * from app_jobs.settle_jobs($1, $2, $3, $4, $5, $6)",
        [WORKER],
        [job],
        [None],
        [outcome],
        [error],
        [None if delay is None else timedelta(seconds=delay)],
    )
    return bool(rows)


async def test_completed_attempt_is_recorded_with_its_times(jobs: Jobs, operations: Operations) -> None:
    job = await jobs.add("send", queue_name="mail")
    await jobs.connection.execute("update app_jobs.jobs set database_id = gen_random_uuid()")
    claimed = await jobs.claim()
    assert claimed is not None
    await settle_one(jobs, job, "completed")
    detail = await operations.get_job(job)
    assert detail is not None
    assert (detail.job, detail.payload, detail.task) == (None, None, "send")
    (run,) = detail.runs
    assert (run.attempt, run.outcome, run.worker, run.queue) == (1, RunOutcome.COMPLETED, WORKER, "mail")
    assert run.database_id == str(claimed["database_id"])
    assert (run.enqueued_at, run.due_at, run.started_at) == (
        claimed["created_at"],
        claimed["run_at"],
        claimed["locked_at"],
    )
    assert run.ended_at > claimed["locked_at"]
    assert run.error is None


@pytest.mark.parametrize(
    ("outcome", "recorded", "error"),
    [
        ("failed", "failed", "boom"),
        ("permanently_failed", "permanently_failed", "boom"),
        ("released", "released", None),
        ("completed", "completed", None),
    ],
)
async def test_each_outcome_is_recorded_with_its_attempt(
    jobs: Jobs, outcome: str, recorded: str, error: str | None
) -> None:
    job = await jobs.add("x")
    await jobs.claim()
    assert await settle_one(jobs, job, outcome, error="boom")
    assert await runs(jobs) == [(1, recorded, WORKER, error)]


async def test_failure_of_the_last_attempt_is_permanent(jobs: Jobs) -> None:
    job = await jobs.add("x", max_attempts=1)
    await jobs.claim()
    await settle_one(jobs, job, "failed", error="boom")
    assert await runs(jobs, job) == [(1, "permanently_failed", WORKER, "boom")]


async def test_retry_is_recorded_with_its_own_due_time(jobs: Jobs) -> None:
    job = await jobs.add("x")
    claimed = await jobs.claim()
    assert claimed is not None
    await settle_one(jobs, job, "failed", error="boom", delay=0)
    second = await jobs.claim()
    assert second is not None
    await settle_one(jobs, job, "completed")
    times = await jobs.connection.fetch("select due_at, started_at from app_jobs.job_runs order by attempt")
    assert [tuple(row) for row in times] == [(row["run_at"], row["locked_at"]) for row in (claimed, second)]
    assert second["run_at"] > claimed["run_at"]


async def test_batch_records_each_held_job_once(jobs: Jobs) -> None:
    ids = [await jobs.add("x") for _ in range(4)]
    for _ in ids:
        await jobs.claim()
    settlements = [(WORKER, job, 1, "boom" if job % 2 else None) for job in ids]
    await settle_jobs(jobs.connection, *settlements, (WORKER, 999, 1, None), (OTHER, ids[0], 1, None))
    assert await jobs.connection.fetch("select job_id, outcome from app_jobs.job_runs order by job_id") == [
        (job, "failed" if job % 2 else "completed") for job in ids
    ]


async def test_settlement_of_a_job_not_held_records_nothing(jobs: Jobs) -> None:
    job = await jobs.add("x")
    await jobs.claim(OTHER)
    for outcome in ("completed", "failed", "released"):
        assert not await settle_one(jobs, job, outcome)
    assert await runs(jobs) == []


async def test_rollback_removes_the_history_row(jobs: Jobs) -> None:
    job = await jobs.add("x")
    await jobs.claim()
    transaction = jobs.connection.transaction()
    await transaction.start()
    await settle_one(jobs, job, "completed")
    assert len(await runs(jobs)) == 1
    await transaction.rollback()
    assert await runs(jobs) == []
    assert await jobs.count() == 1


@pytest.mark.parametrize("verb", ["complete_job($1, $2)", "fail_job($1, $2, 'boom')"])
async def test_functions_of_the_contract_record_history(jobs: Jobs, verb: str) -> None:
    job = await jobs.add("x")
    await jobs.claim()
    await jobs.connection.execute(f"select app_jobs.{verb}", WORKER, job)
    assert [(attempt, outcome) for attempt, outcome, *_ in await runs(jobs)] == [
        (1, "completed" if "complete" in verb else "failed")
    ]


async def test_released_and_reclaimed_jobs_are_recorded(jobs: Jobs) -> None:
    for verb in ("release_jobs", "reclaim_jobs"):
        await jobs.add("x")
        await jobs.claim()
        await jobs.connection.execute(f"select app_jobs.{verb}($1)", WORKER)
    assert await runs(jobs, 1) == [
        (1, "released", WORKER, None),
        (1, "lost", WORKER, f"the worker {WORKER} died, or lost its lease"),
    ]


async def test_claim_of_an_expired_job_records_the_lost_attempt(jobs: Jobs) -> None:
    await jobs.add("x")
    await jobs.connection.execute("select app_jobs.claim_jobs($1, null, '4 hours', 1, '1 minute')", WORKER)
    await jobs.connection.execute("update app_jobs.jobs set lease_expires_at = now() - interval '1 s'")
    before = await jobs.row(1)
    assert await jobs.claim(OTHER) is not None
    assert await runs(jobs) == [(1, "lost", WORKER, f"the worker {WORKER} died, or lost its lease")]
    assert await jobs.connection.fetchval("select started_at from app_jobs.job_runs") == before["locked_at"]


async def test_reaped_job_is_recorded_as_lost(jobs: Jobs) -> None:
    await jobs.add("x", max_attempts=1)
    await jobs.connection.execute("select app_jobs.claim_jobs($1, null, '4 hours', 1, '1 minute')", WORKER)
    await jobs.connection.execute("update app_jobs.jobs set lease_expires_at = now() - interval '1 s'")
    assert await jobs.connection.fetch("select id from app_jobs.reap_expired_jobs('4 hours')") == [(1,)]
    row = await jobs.row(1)
    assert await runs(jobs) == [(1, "lost", WORKER, row["last_error"])]


async def test_removed_and_cancelled_jobs_have_no_worker(jobs: Jobs) -> None:
    await jobs.add("x")
    await jobs.add("y")
    await jobs.connection.execute("select app_jobs.complete_jobs('{1}')")
    await jobs.connection.execute("select app_jobs.permanently_fail_jobs('{2}', 'not wanted')")
    assert await runs(jobs) == [(0, "removed", None, None), (0, "cancelled", None, "not wanted")]
    assert await jobs.connection.fetchval("select count(started_at) from app_jobs.job_runs") == 0


async def test_zero_retention_records_nothing(jobs: Jobs, pool: "asyncpg.Pool[Any]") -> None:
    await jobs.connection.execute("select app_jobs.set_history_retention(0)")
    for verb in ("complete_job($1, 1)", "fail_job($1, 2, 'x')", "release_jobs($1)", "reclaim_jobs($1)"):
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


async def test_old_attempts_are_pruned_oldest_first(jobs: Jobs) -> None:
    await jobs.connection.execute(
        """
        insert into app_jobs.job_runs (job_id, attempt, task_identifier, enqueued_at, due_at, ended_at, outcome)
        select n, 1, 'x', now(), now(), now() - n * interval '1 day', 'completed' from generate_series(1, 10) n
        """
    )
    prune = "select app_jobs.prune_job_runs($1)"
    assert await jobs.connection.fetchval(prune, 2) == 2
    remaining = "select array_agg(job_id order by job_id) from app_jobs.job_runs"
    assert await jobs.connection.fetchval(remaining) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert await jobs.connection.fetchval(prune, 100) == 2
    assert await jobs.connection.fetchval(prune, 100) == 0
    await jobs.connection.execute("select app_jobs.set_history_retention(2.5)")
    await jobs.connection.fetchval(prune, 100)
    assert await jobs.connection.fetchval(remaining) == [1, 2]
    await jobs.connection.execute("select app_jobs.set_history_retention(0)")
    assert await jobs.connection.fetchval(prune, 100) == 2


async def test_pruners_skip_each_others_rows(jobs: Jobs, pool: "asyncpg.Pool[Any]") -> None:
    await jobs.connection.execute(
        """
        insert into app_jobs.job_runs (job_id, attempt, task_identifier, enqueued_at, due_at, ended_at, outcome)
        select n, 1, 'x', now(), now(), now() - interval '9 days', 'completed' from generate_series(1, 10) n
        """
    )
    async with pool.acquire() as other, other.transaction():
        assert await other.fetchval("select app_jobs.prune_job_runs(6)") == 6
        await jobs.connection.execute("set lock_timeout = '5s'")
        assert await jobs.connection.fetchval("select app_jobs.prune_job_runs(100)") == 4


async def test_negative_retention_is_rejected(jobs: Jobs) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await jobs.connection.execute("select app_jobs.set_history_retention(-1)")


async def test_claim_is_a_hot_update(jobs: Jobs) -> None:
    """No index of the history may cover a column that a claim changes."""
    for _ in range(20):
        await jobs.add("x")
    async with jobs.connection.transaction():
        await jobs.connection.fetch("select app_jobs.claim_jobs($1, null, '4 hours', 20)", WORKER)
        stats = await jobs.connection.fetchrow(
            "select n_tup_upd, n_tup_hot_upd from pg_stat_xact_user_tables where relid = 'app_jobs.jobs'::regclass"
        )
    assert stats is not None
    assert tuple(stats) == (20, 20)
