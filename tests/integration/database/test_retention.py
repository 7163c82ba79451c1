"""Permanently failed jobs are removed, and completed jobs stored with their payloads, for a time."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from jobfn.database.job_retention import JobRetention
from jobfn.database.migrate import migrate, migration_files
from jobfn.telemetry.metrics import Counter
from jobfn.worker.maintenance.job_pruner import JobPruner
from jobfn.worker.maintenance.periodic import PRUNE_BATCH_SIZE
from jobfn.worker.telemetry.metrics import WorkerMetrics
from support.fixtures import Connect
from support.jobs import TENANT, WORKER, Jobs, settle_jobs
from support.migrations import migrate_to
from support.network import eventually
from support.roles import temporary_role

STORED = "select array_agg(id order by id) from app_jobs.completed_jobs"


async def keep(jobs: Jobs, days: float) -> None:
    await jobs.connection.execute("select app_jobs.set_completed_payload_retention($1)", days)


async def complete_one(jobs: Jobs, payload: object = None, **options: object) -> int:
    job = await jobs.add("x", payload, **options)
    assert await jobs.claim_id() == job
    assert await jobs.complete(job) == job
    return job


async def fail_permanently(jobs: Jobs, count: int, *, days_ago: float = 0.0) -> list[int]:
    ids = [await jobs.add("x") for _ in range(count)]
    await jobs.connection.execute("select app_jobs.permanently_fail_jobs($1, 'boom')", ids)
    await jobs.connection.execute(
        "update app_jobs.jobs set updated_at = now() - $2::interval where id = any ($1)", ids, timedelta(days=days_ago)
    )
    return ids


async def test_nothing_is_stored_and_no_function_is_called_by_default(jobs: Jobs) -> None:
    await complete_one(jobs)
    assert await jobs.connection.fetchval(STORED) is None
    enabled = "select tgenabled from pg_trigger where tgname = '_800_store_completed_job'"
    assert await jobs.connection.fetchval(enabled) == b"D"


async def test_completed_jobs_are_stored_with_their_payloads(jobs: Jobs) -> None:
    await keep(jobs, 1.0)
    single = await complete_one(jobs, {"n": 1}, priority=-3)
    batch = [await jobs.add("x"), await jobs.add("x")]
    await jobs.claim()
    await jobs.claim()
    await settle_jobs(jobs.connection, (WORKER, batch[0], 1, None), (WORKER, batch[1], 1, "boom"))
    row = await jobs.connection.fetchrow("select payload, priority from app_jobs.completed_jobs where id = $1", single)
    assert tuple(row) == ('{"n": 1}', -3)
    assert await jobs.connection.fetchval(STORED) == [single, batch[0]]


async def test_removed_jobs_are_not_stored(jobs: Jobs) -> None:
    await keep(jobs, 1.0)
    completed = await complete_one(jobs)
    waiting, expired = await jobs.add("x"), await jobs.add("x", priority=-1)
    assert await jobs.claim_id() == expired
    await jobs.connection.execute("update app_jobs.jobs set locked_at = '2020-01-01' where id = $1", expired)
    await jobs.connection.execute("select app_jobs.complete_jobs($1)", [completed, waiting, expired])
    assert await jobs.connection.fetchval(STORED) == [completed]


async def test_stored_jobs_are_deleted_past_the_retention_or_when_it_is_turned_off(jobs: Jobs) -> None:
    await keep(jobs, 1.0)
    old, new = await complete_one(jobs), await complete_one(jobs)
    await jobs.connection.execute(
        "update app_jobs.completed_jobs set completed_at = now() - interval '25 hours' where id = $1", old
    )
    prune = "select app_jobs.prune_completed_jobs(10)"
    assert await jobs.connection.fetchval(prune) == 1
    assert await jobs.connection.fetchval(STORED) == [new]
    await keep(jobs, 0.0)
    await complete_one(jobs)
    assert await jobs.connection.fetchval(prune) == 1
    assert await jobs.connection.fetchval(STORED) is None


async def test_transaction_that_holds_the_table_delays_the_setting_for_a_moment_only(
    jobs: Jobs, connect: Connect
) -> None:
    other = await connect()
    async with other.transaction():
        await other.execute("select app_jobs.add_job('x')")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await keep(jobs, 1.0)
    await keep(jobs, 1.0)


async def test_job_runs_again_as_a_new_job(jobs: Jobs) -> None:
    await keep(jobs, 1.0)
    await jobs.connection.execute(f"set jwt.claims.database_id = '{TENANT}'")
    job = await complete_one(jobs, {"n": 1}, priority=7, queue_name="q", job_key="k", max_attempts=3)
    await jobs.connection.execute("reset jwt.claims.database_id")
    [[old, new]] = await jobs.connection.fetch("select * from app_jobs.run_jobs_again($1)", [job, 10**9])
    assert old == job
    columns = ("task_identifier", "payload", "priority", "queue_name", "key", "max_attempts", "attempts", "database_id")
    assert await jobs.values(new, *columns) == ("x", '{"n": 1}', 7, "q", None, 3, 0, UUID(TENANT))
    assert await jobs.claim_id() == new


async def test_failed_jobs_past_the_retention_are_removed(jobs: Jobs) -> None:
    old = await fail_permanently(jobs, 3, days_ago=31)
    new = await fail_permanently(jobs, 1, days_ago=29)
    retried = await jobs.add("x", priority=-1)
    await jobs.claim()
    await jobs.fail(retried)
    await jobs.connection.execute("update app_jobs.jobs set updated_at = '2020-01-01' where id = $1", retried)
    prune = "select removed, last_id from app_jobs.prune_failed_jobs('30 days', $1, $2)"
    assert tuple(await jobs.connection.fetchrow(prune, 0, 2)) == (2, old[1])
    assert tuple(await jobs.connection.fetchrow(prune, old[1], 10)) == (1, None)
    assert [row["id"] for row in await jobs.connection.fetch("select id from app_jobs.jobs order by 1")] == [
        *new,
        retried,
    ]
    history = "select outcome, error from app_jobs.job_runs where job_id = $1 and outcome <> 'cancelled'"
    assert [tuple(row) for row in await jobs.connection.fetch(history, old[0])] == [("removed", "boom")]


async def test_job_that_is_retried_meanwhile_is_not_removed(jobs: Jobs, connect: Connect) -> None:
    [first, second] = await fail_permanently(jobs, 2, days_ago=31)
    other = await connect()
    async with other.transaction():
        await other.execute("select app_jobs.retry_jobs($1)", [first])
        await jobs.connection.execute("set lock_timeout = '5s'")
        prune = "select removed from app_jobs.prune_failed_jobs('30 days', 0, 100)"
        assert await jobs.connection.fetchval(prune) == 1
    assert await jobs.exists(first)
    assert not await jobs.exists(second)


async def test_pruner_removes_more_than_one_batch_and_counts(pool: "asyncpg.Pool[Any]", jobs: Jobs) -> None:
    await jobs.connection.execute(
        "insert into app_jobs.jobs (task_identifier, attempts, max_attempts, last_error, updated_at)"
        " select 'x', 1, 1, 'boom', now() - interval '2 days' from generate_series(1, $1)",
        PRUNE_BATCH_SIZE + 5,
    )
    await keep(jobs, 1.0)
    await jobs.connection.execute(
        "insert into app_jobs.completed_jobs (id, task_identifier, payload, priority, max_attempts, created_at,"
        " completed_at) select n, 'x', '{}', 0, 1, now(), now() - interval '2 days' from generate_series(1, $1) n",
        PRUNE_BATCH_SIZE + 7,
    )
    metrics, stop = WorkerMetrics(), asyncio.Event()
    pruner = JobPruner(JobRetention(pool, "app_jobs"), failed_days=1.0, completed_days=1.0, metrics=metrics)
    running = asyncio.create_task(pruner.run(stop))
    empty = "select not exists (select from app_jobs.jobs) and not exists (select from app_jobs.completed_jobs)"
    await eventually(lambda: jobs.connection.fetchval(empty))
    stop.set()
    await running
    pruned = next(metric for metric in metrics.collect() if metric.name == "jobfn_pruned_jobs_total").values
    assert isinstance(pruned, Counter)
    assert dict(pruned.samples()) == {("failed",): PRUNE_BATCH_SIZE + 5, ("completed",): PRUNE_BATCH_SIZE + 7}


async def test_failed_jobs_are_kept_by_default(pool: "asyncpg.Pool[Any]", jobs: Jobs) -> None:
    [failed] = await fail_permanently(jobs, 1, days_ago=3000)
    await keep(jobs, 1.0)
    stop = asyncio.Event()
    pruner = JobPruner(
        JobRetention(pool, "app_jobs"),
        failed_days=None,
        completed_days=0.0,
        metrics=WorkerMetrics(),
        interval_seconds=0.01,
    )
    running = asyncio.create_task(pruner.run(stop))
    is_off = "select completed_payload_retention = interval '0' from app_jobs.history_settings"
    await eventually(lambda: jobs.connection.fetchval(is_off))
    stop.set()
    await running
    assert await jobs.exists(failed)


async def test_roles_of_an_older_version_get_the_new_rights(empty: asyncpg.Connection) -> None:
    version = next(file.version for file in migration_files() if file.name == "retention")
    await migrate_to(empty, version - 1)
    async with temporary_role(empty) as worker, temporary_role(empty) as viewer, temporary_role(empty) as operator:
        await empty.execute(
            f"grant usage on schema app_jobs to {worker}, {viewer}, {operator};"
            f"grant execute on function app_jobs.prune_job_runs to {worker};"
            f"grant select on app_jobs.jobs to {viewer};"
            f"grant execute on function app_jobs.run_jobs_now to {operator}"
        )
        await migrate(empty, "app_jobs")
        allowed = (
            "select has_function_privilege($1::text, 'app_jobs.prune_failed_jobs(interval, bigint, int)', 'execute'),"
            " has_function_privilege($1::text, 'app_jobs.run_jobs_again(bigint[])', 'execute'),"
            " has_table_privilege($1::text, 'app_jobs.completed_jobs', 'select')"
        )
        rights = [tuple(await empty.fetchrow(allowed, role)) for role in (worker, viewer, operator)]
        assert rights == [(True, False, False), (False, False, True), (False, True, False)]
