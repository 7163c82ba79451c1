"""Waiting for a job's result, through function app, worker, callback server and database."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import asyncpg
import psycopg
import pytest

from jobfn import (
    JobCancelled,
    JobExpired,
    PermanentError,
    ResultTimeout,
    ResultUnavailable,
    Task,
    TaskDefinitionError,
    create_app,
    enqueue,
    task,
)
from jobfn.wire import MAX_RESULT_BYTES
from support.client import OpenTransaction, maybe_await
from support.fixtures import ConnectTo, Serve, StartService
from support.jobs import Jobs
from support.network import eventually

SETTLE = "select * from app_jobs.settle_jobs_with_results($1, $2, $3, $4, $5, $6, $7::text[]::json[], $8, $9)"


@task("add_up", keep_result=True)
async def add_up(payload: list[int]) -> int:
    return sum(payload)


@task("in_the_background", background=True, keep_result=timedelta(minutes=1))
async def in_the_background(payload: None) -> dict[str, str]:
    return {"done": "é"}


@task("not_stored")
async def not_stored(payload: None) -> int:
    return 1


@task("failing", keep_result=True)
async def failing(payload: None) -> None:
    raise PermanentError("no such invoice")


@task("not_json", keep_result=True)
async def not_json(payload: None) -> object:
    return object()


@task("large", keep_result=True)
async def large(payload: None) -> str:
    return "x" * MAX_RESULT_BYTES


TASKS: list[Task[..., Any]] = [add_up, in_the_background, not_stored, failing, not_json, large]


@pytest.fixture
async def running(serve: Serve, start_service: StartService) -> None:
    """Run the tasks, and a service that calls them."""
    await start_service(await serve(create_app(tasks=TASKS)), report_grace_seconds=5.0)


async def test_result_is_available_on_the_connection_after_the_commit(
    running: None, transaction: OpenTransaction, connection: "asyncpg.Connection[Any]"
) -> None:
    job = await maybe_await(add_up.enqueue(transaction.connection, [1, 2, 39]))
    with pytest.raises(ResultUnavailable, match="commit first"):
        await maybe_await(job.result(timeout=1))
    await transaction.commit()
    if not asyncio.iscoroutinefunction(job.result):  # a sync wait would block the event loop, which runs the worker

        async def is_stored() -> bool:
            stored = "select exists (select from app_jobs.job_results where job_id = $1)"
            return bool(await connection.fetchval(stored, job))

        await eventually(is_stored, seconds=20)
    result = await maybe_await(job.result(timeout=20))
    assert (result.outcome, result.value, result.error, result.job_id) == ("completed", 42, None, job)


async def test_sync_wait_polls_in_its_own_thread(running: None, database: str) -> None:
    def wait_for_two_jobs() -> int:
        with psycopg.connect(database) as connection:
            job = add_up.enqueue(connection, [2, 3])
            future = enqueue(connection, "add_up", [])
            connection.execute("update app_jobs.jobs set run_at = now() + interval '1 hour' where id = %s", (future,))
            connection.commit()
            with pytest.raises(ResultTimeout, match=r"is still waiting after 0\.01 s"):
                future.result(timeout=0.01)
            return job.result(timeout=20).value

    assert await asyncio.to_thread(wait_for_two_jobs) == 5


async def test_pool_can_wait_for_a_background_task(running: None, database: str) -> None:
    async with asyncpg.create_pool(database, min_size=1, max_size=2) as pool:
        job = await in_the_background.enqueue(pool, None)
        assert (await job.result(timeout=20)).value == {"done": "é"}
        retention = "select extract(epoch from expires_at - ended_at) from app_jobs.job_results where job_id = $1"
        assert await pool.fetchval(retention, job) == 60


async def test_failed_job_has_an_error_and_no_value(running: None, connection: "asyncpg.Connection[Any]") -> None:
    result = await (await failing.enqueue(connection, None)).result(timeout=20)
    assert (result.outcome, result.error, result.attempts) == ("failed", "no such invoice", 25)
    with pytest.raises(ResultUnavailable, match="it failed: no such invoice"):
        _ = result.value


async def test_cancelled_job_has_an_outcome_and_an_error_of_its_own(connection: "asyncpg.Connection[Any]") -> None:
    job = await add_up.enqueue(connection, [])
    await connection.execute("select app_jobs.cancel_jobs(array[$1::bigint], 'wrong customer', false)", job)
    result = await job.result(timeout=20)
    assert (result.outcome, result.error) == ("cancelled", "wrong customer")
    with pytest.raises(JobCancelled, match=f"^job {int(job)}: it was cancelled: wrong customer") as raised:
        _ = result.value
    assert isinstance(raised.value, ResultUnavailable)


async def test_expired_job_has_an_outcome_and_an_error_of_its_own(connection: "asyncpg.Connection[Any]") -> None:
    job = await add_up.enqueue(connection, [], expires_in=timedelta(microseconds=1))
    await connection.execute("select app_jobs.expire_jobs()")
    result = await job.result(timeout=20)
    assert result.outcome == "expired"
    assert str(result.error).startswith("expired: it was not started before ")
    with pytest.raises(JobExpired, match=f"^job {int(job)}: it expired: it was not started before ") as raised:
        _ = result.value
    assert isinstance(raised.value, ResultUnavailable)


@pytest.mark.parametrize(
    ("chosen_task", "message"), [(not_json, "is not JSON-serializable"), (large, "larger than the 64 KiB")]
)
async def test_job_completes_without_a_value_that_cannot_be_stored(
    running: None, connection: "asyncpg.Connection[Any]", chosen_task: Any, message: str
) -> None:
    result = await (await chosen_task.enqueue(connection, None)).result(timeout=20)
    assert result.outcome == "completed"
    with pytest.raises(ResultUnavailable, match=message):
        _ = result.value


async def test_without_keep_result_a_wait_sees_the_outcome_only(
    connection: "asyncpg.Connection[Any]", serve: Serve, start_service: StartService
) -> None:
    job = await not_stored.enqueue(connection, None)
    waiting = asyncio.create_task(job.result(timeout=20))
    await asyncio.sleep(0)  # the wait listens and has polled once before the worker starts
    await start_service(await serve(create_app(tasks=TASKS)))
    result = await waiting
    assert result.outcome == "completed"
    with pytest.raises(ResultUnavailable, match="keep_result=True"):
        _ = result.value


async def test_rolled_back_job_has_no_result(database: str, connect_to: ConnectTo) -> None:
    connection = await connect_to(database)
    transaction = connection.transaction()
    await transaction.start()
    job = await not_stored.enqueue(connection, None)
    await transaction.rollback()
    with pytest.raises(ResultUnavailable, match=f"job {int(job)} has no row and no stored result.*rolled back: set"):
        await job.result(timeout=1)


async def test_timeout_error_has_the_job_state_and_last_error(
    connection: "asyncpg.Connection[Any]", jobs: Jobs
) -> None:
    job = await add_up.enqueue(connection, [])
    await jobs.claim()
    await connection.execute("update app_jobs.jobs set last_error = 'no server' where id = $1", job)
    with pytest.raises(TimeoutError, match=r"is still running after 0.05 s; the last attempt failed: no server"):
        await job.result(timeout=0.05)


async def test_notification_ends_a_wait_without_timeout(
    connection: "asyncpg.Connection[Any]", database: str, jobs: Jobs
) -> None:
    job = await add_up.enqueue(connection, [])
    row = await jobs.claim()
    assert row is not None
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool:
        waiting = asyncio.create_task(job.result(connection=pool))
        await connection.execute("select pg_notify('jobs:result', '0')")  # another job's, ignored
        rows = await connection.fetch(
            SETTLE, [row["locked_by"]], [job], [1], ["completed"], [None], [None], ["[1]"], [None], [60.0]
        )
        assert len(rows) == 1
        assert (await waiting).value == [1]


async def test_expired_results_are_deleted_by_the_next_settlement(connection: "asyncpg.Connection[Any]") -> None:
    await connection.execute("insert into app_jobs.job_results values (1, '1', null, now(), now() - interval '1 s')")
    assert json.loads(await connection.fetchval("select app_jobs.job_result(1)")) == {"state": "gone"}
    await connection.fetch(SETTLE, *([] for _ in range(9)))
    assert await connection.fetchval("select count(*) from app_jobs.job_results") == 0


async def test_settlement_of_a_job_that_is_not_locked_stores_no_result(connection: "asyncpg.Connection[Any]") -> None:
    job = await add_up.enqueue(connection, [])
    await connection.fetch(SETTLE, ["nobody"], [job], [1], ["completed"], [None], [None], ["[1]"], [None], [60.0])
    assert await connection.fetchval("select count(*) from app_jobs.job_results") == 0


@pytest.mark.parametrize("retention", [timedelta(0), -1, "yes"])
def test_keep_result_must_be_true_or_a_positive_timedelta(retention: Any) -> None:
    with pytest.raises(TaskDefinitionError, match="timedelta above 0"):
        task("x", keep_result=retention)(lambda payload: payload)
