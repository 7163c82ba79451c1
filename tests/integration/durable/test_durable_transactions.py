"""Steps whose effects commit with their record: ``ctx.transaction``."""

from typing import Any

import asyncpg
import pytest

from integration.durable.conftest import StartTasks
from jobfn import JobContext, StepFailed, task
from jobfn.database.migrate import migrate
from jobfn.database.privileges import Grants
from support.jobs import WORKER, Jobs
from support.roles import temporary_role


@pytest.fixture(autouse=True)
async def effects(jobs: Jobs, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table for effects, in the database of ``ctx.db``."""
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("JOBFN_DB_ANY_CALLER", "true")
    await jobs.connection.execute("create table effects (number int)")


async def insert(connection: "asyncpg.Connection[Any]", number: int) -> int:
    await connection.execute("insert into effects values ($1)", number)
    return number * 10


async def numbers(jobs: Jobs) -> list[int]:
    return [row["number"] for row in await jobs.connection.fetch("select number from effects")]


async def test_committed_effect_is_not_repeated_by_later_deliveries(jobs: Jobs, start_tasks: StartTasks) -> None:
    results: list[int] = []

    @task("t")
    async def handler(number: int, ctx: JobContext) -> None:
        results.append(await ctx.transaction("insert", insert, number))
        await ctx.sleep(0.01)
        results.append(await ctx.transaction("insert", insert, number + 1))

    await start_tasks(handler)
    await jobs.until_gone(await jobs.add("t", 7))
    assert (results, await numbers(jobs)) == ([70, 70, 80], [7, 8])


async def test_effect_of_a_failed_step_is_rolled_back_and_tried_again(jobs: Jobs, start_tasks: StartTasks) -> None:
    failures: list[str] = []

    async def insert_and_fail(connection: "asyncpg.Connection[Any]", number: int) -> None:
        await insert(connection, number)
        if not failures:
            failures.append("once")
            raise LookupError("no such order")

    @task("t")
    async def handler(number: int, ctx: JobContext) -> None:
        await ctx.transaction("insert", insert_and_fail, number)

    await start_tasks(handler)
    job_id = await jobs.add("t", 7)
    row = await jobs.until_failed(job_id)
    assert (row["last_error"], await numbers(jobs)) == ("step 'insert' failed: no such order", [])
    await jobs.connection.execute("select app_jobs.run_jobs_now(array[$1::bigint])", job_id)
    await jobs.until_gone(job_id)
    assert await numbers(jobs) == [7]


async def test_caught_failure_of_a_transaction_is_final(jobs: Jobs, start_tasks: StartTasks) -> None:
    calls: list[str] = []

    async def refuse(_connection: "asyncpg.Connection[Any]") -> None:
        calls.append("refuse")
        raise ValueError("no")

    @task("t")
    async def handler(number: int, ctx: JobContext) -> None:
        try:
            await ctx.transaction("refuse", refuse)
        except StepFailed:
            await ctx.transaction("insert", insert, number)
        await ctx.sleep(0.01)

    await start_tasks(handler)
    await jobs.until_gone(await jobs.add("t", 7))
    assert (calls, await numbers(jobs)) == (["refuse"], [7])


async def test_older_delivery_cannot_commit(jobs: Jobs, start_tasks: StartTasks, database: str) -> None:
    deliveries: list[int] = []

    async def lose_the_job(connection: "asyncpg.Connection[Any]", number: int, job_id: int) -> None:
        await insert(connection, number)
        if len(deliveries) == 1:
            other = await asyncpg.connect(database)
            await other.execute(
                "update app_jobs.jobs set locked_by = null, locked_at = null, lease_expires_at = null where id = $1",
                job_id,
            )
            await other.close()

    @task("t")
    async def handler(number: int, ctx: JobContext) -> None:
        deliveries.append(number)
        assert ctx.job_id is not None
        await ctx.transaction("insert", lose_the_job, number + len(deliveries), ctx.job_id)

    await start_tasks(handler)
    await jobs.until_gone(await jobs.add("t", 7))
    assert (deliveries, await numbers(jobs)) == ([7, 7], [9])


async def test_transaction_that_has_recorded_its_step_must_be_committed_soon(jobs: Jobs, database: str) -> None:
    """A function that vanishes before the commit must not lock its job: settlements and renewals would wait."""
    job_id = await jobs.add("t", 7)
    await jobs.claim()
    record = "select app_jobs.record_transaction_step($1, $2, 1, 1, 'insert', '7', 0.1)"
    limit = "show idle_in_transaction_session_timeout"
    connection = await asyncpg.connect(database)
    async with connection.transaction():
        assert await connection.fetchval(limit) == "0"
        await connection.execute(record, WORKER, job_id)
        assert await connection.fetchval(limit) == "10s"
    assert await connection.fetchval(limit) == "0"
    await connection.close()


async def test_role_without_the_right_gets_a_clear_error(
    jobs: Jobs, start_tasks: StartTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    @task("t")
    async def handler(number: int, ctx: JobContext) -> None:
        await ctx.transaction("insert", insert, number)

    async with temporary_role(jobs.connection) as role:
        await jobs.connection.execute(f"grant insert on effects to {role}")
        monkeypatch.setenv("JOBFN_DB_ROLE", role)
        await start_tasks(handler)
        row = await jobs.until_failed(await jobs.add("t", 7))
        assert (row["exhausted"], await numbers(jobs)) == (True, [])
        assert "run `jobfn db migrate --grant-steps ROLE`" in row["last_error"]
        await migrate(jobs.connection, "app_jobs", grants=Grants(steps=(role,)))
        await jobs.until_gone(await jobs.add("t", 8))
        assert await numbers(jobs) == [8]
        await jobs.connection.execute(f"revoke all on effects from {role}")
