"""Waiting for a job's end, over the real path: function app, worker, callback server, database."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import asyncpg
import psycopg
import pytest

from jobfn import PermanentError, ResultTimeout, ResultUnavailable, Task, TaskDefinitionError, create_app, enqueue, task
from jobfn.function.outcome import succeeded
from jobfn.wire import MAX_RESULT_BYTES, Report, StoredResult
from support.client import User, settled
from support.fixtures import ConnectTo, Serve, StartService
from support.jobs import Jobs
from support.network import eventually


@task("add_up", keep_result=True)
async def add_up(payload: list[int]) -> int:
    """Kept for a day."""
    return sum(payload)


@task("in_the_background", background=True, keep_result=timedelta(minutes=1))
async def in_the_background(payload: None) -> dict[str, str]:
    """Kept for a minute."""
    return {"done": "é"}


@task("not_kept")
async def not_kept(payload: None) -> int:
    """Its result is nobody's business."""
    return 1


@task("never", keep_result=True)
async def never(payload: None) -> None:
    """It cannot succeed."""
    raise PermanentError("no such invoice")


@task("unwritable", keep_result=True)
async def unwritable(payload: None) -> object:
    """It returns what JSON cannot hold."""
    return object()


@task("large", keep_result=True)
async def large(payload: None) -> str:
    """It returns more than is kept."""
    return "x" * MAX_RESULT_BYTES


TASKS: list[Task[..., Any]] = [add_up, in_the_background, not_kept, never, unwritable, large]


@pytest.fixture
async def running(serve: Serve, start_service: StartService) -> None:
    """The tasks, and a platform side that runs them."""
    await start_service(await serve(create_app(tasks=TASKS)), report_grace_seconds=5.0)


async def test_a_result_arrives_on_every_async_driver_and_by_polling(
    running: None, user: User, database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    """After the commit, each kind of connection can wait on itself and gets what the handler returned."""
    job = await settled(add_up.enqueue(user.connection, [1, 2, 39]))
    with pytest.raises(ResultUnavailable, match="commit first"):
        await settled(job.result(timeout=1))
    await settled(user.commit())
    if not asyncio.iscoroutinefunction(job.result):  # this loop also runs the worker, which a sync wait would stop
        await _until_kept(connection, job)
    result = await settled(job.result(timeout=20))
    assert (result.outcome, result.value, result.error, result.job_id) == ("completed", 42, None, job)


async def _until_kept(connection: "asyncpg.Connection[Any]", job: int) -> None:
    async def kept() -> bool:
        return bool(
            await connection.fetchval("select exists (select from app_jobs.job_results where job_id = $1)", job)
        )

    await eventually(kept, seconds=20)


async def test_a_sync_wait_blocks_only_its_own_thread(running: None, database: str) -> None:
    """It looks again until the job has ended, as long as that takes."""
    found: list[Any] = []

    def work() -> None:
        with psycopg.connect(database) as connection:
            job = add_up.enqueue(connection, [2, 3])
            connection.commit()
            found.append(job.result(timeout=20).value)
            with pytest.raises(ResultTimeout, match=r"is still waiting after 0\.01 s"):
                _never_run(connection).result(timeout=0.01)

    def _never_run(connection: "psycopg.Connection[Any]") -> Any:
        job = enqueue(connection, "add_up", [], queue="held")
        connection.execute("update app_jobs.jobs set run_at = now() + interval '1 hour' where id = %s", (int(job),))
        connection.commit()
        return job

    await asyncio.to_thread(work)
    assert found == [5]


async def test_a_pool_can_wait(running: None, database: str) -> None:
    """On a pool the wait takes a connection of its own; a background task's result is kept as well."""
    async with asyncpg.create_pool(database, min_size=1, max_size=2) as pool:
        job = await in_the_background.enqueue(pool, None)
        assert (await job.result(timeout=20)).value == {"done": "é"}
        seconds = await pool.fetchval(
            "select extract(epoch from expires_at - ended_at) from app_jobs.job_results where job_id = $1", job
        )
        assert seconds == 60


async def test_a_failure_is_an_outcome(running: None, connection: "asyncpg.Connection[Any]") -> None:
    """Failed for good: the reason is told, and asking for the value repeats it."""
    result = await (await never.enqueue(connection, None)).result(timeout=20)
    assert (result.outcome, result.error, result.attempts) == ("failed", "no such invoice", 25)
    with pytest.raises(ResultUnavailable, match="it failed: no such invoice"):
        _ = result.value


@pytest.mark.parametrize(
    ("chosen", "told"), [(unwritable, "cannot be written as JSON"), (large, "larger than the 64 KiB")]
)
async def test_a_result_that_cannot_be_kept_is_told(
    running: None, connection: "asyncpg.Connection[Any]", chosen: Any, told: str
) -> None:
    """The job has completed all the same; its value says why it is not there."""
    result = await (await chosen.enqueue(connection, None)).result(timeout=20)
    assert result.outcome == "completed"
    with pytest.raises(ResultUnavailable, match=told):
        _ = result.value


async def test_without_keep_result_the_outcome_is_seen_while_waiting(
    database: str, connection: "asyncpg.Connection[Any]", serve: Serve, start_service: StartService
) -> None:
    """Who waits from before the job's end knows that it has completed, but not what was returned."""
    job = await not_kept.enqueue(connection, None)
    waiting = asyncio.create_task(job.result(timeout=20))
    await asyncio.sleep(0)  # it listens, and has looked, before the worker is there: starting one takes far longer
    await start_service(await serve(create_app(tasks=TASKS)))
    result = await waiting
    assert result.outcome == "completed"
    with pytest.raises(ResultUnavailable, match="keep_result=True"):
        _ = result.value


async def test_a_job_that_left_no_trace(database: str, connect_to: ConnectTo) -> None:
    """Rolled back, removed or long done: that cannot be told apart, and is said so."""
    connection = await connect_to(database)
    transaction = connection.transaction()
    await transaction.start()
    job = await not_kept.enqueue(connection, None)
    await transaction.rollback()
    with pytest.raises(ResultUnavailable, match=f"no trace of job {int(job)}.*rolled back; @task"):
        await job.result(timeout=1)


async def test_time_is_over(connection: "asyncpg.Connection[Any]", jobs: Jobs) -> None:
    """A TimeoutError that says how the job stands; the last attempt's error with it."""
    job = await add_up.enqueue(connection, [])
    await jobs.claim()
    await connection.execute("update app_jobs.jobs set last_error = 'no server' where id = $1", job)
    with pytest.raises(TimeoutError, match=r"is still running after 0.05 s; the last attempt said: no server"):
        await job.result(timeout=0.05)


async def test_a_wait_without_end_is_woken(connection: "asyncpg.Connection[Any]", database: str, jobs: Jobs) -> None:
    """Without a timeout it waits on another connection until the notification; other jobs' do not end it."""
    job = await add_up.enqueue(connection, [])
    row = await jobs.claim()
    assert row is not None
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool:
        waiting = asyncio.create_task(job.result(on=pool))
        await connection.execute("select pg_notify('jobs:result', '0')")
        rows = await connection.fetch(
            "select * from app_jobs.settle_and_keep($1, $2, $3, $4, $5, $6, $7::text[]::json[], $8, $9)",
            *([row["locked_by"]], [job], [1], ["completed"], [None], [None], ["[1]"], [None], [60.0]),
        )
        assert len(rows) == 1
        assert (await waiting).value == [1]


async def test_expired_results_are_cleared_away(connection: "asyncpg.Connection[Any]", jobs: Jobs) -> None:
    """An expired result is not told any more, and goes when the next one comes."""
    await connection.execute("insert into app_jobs.job_results values (1, '1', null, now(), now() - interval '1 s')")
    assert json.loads(await connection.fetchval("select app_jobs.job_result(1)")) == {"state": "gone"}
    await connection.fetch("select app_jobs.settle_and_keep('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')")
    assert await connection.fetchval("select count(*) from app_jobs.job_results") == 0


async def test_a_report_of_a_job_that_is_not_held_keeps_nothing(connection: "asyncpg.Connection[Any]") -> None:
    """What a stranger says was returned is not kept."""
    job = await add_up.enqueue(connection, [])
    await connection.fetch(
        "select app_jobs.settle_and_keep($1, $2, $3, $4, $5, $6, $7::text[]::json[], $8, $9)",
        *(["nobody"], [job], [1], ["completed"], [None], [None], ["[1]"], [None], [60.0]),
    )
    assert await connection.fetchval("select count(*) from app_jobs.job_results") == 0


def test_a_report_carries_the_result_beside_what_node_reads() -> None:
    """The body says success as ever, and three fields more; what is read back is what was returned."""
    body = succeeded({"a": ["é", None]}, keep_seconds=60).report.body()
    assert json.loads(body) == {"status": "success", "keepResultSeconds": 60, "result": {"a": ["é", None]}}
    kept = StoredResult.from_report(body)
    assert kept is not None
    assert (kept.keep_seconds, json.loads(kept.result or "")) == (60, {"a": ["é", None]})
    assert Report("success").body() == b'{"status": "success"}'


@pytest.mark.parametrize(
    "body",
    [
        b'{"status": "success"}',
        b'{"keepResultSeconds": 5',
        b'["keepResultSeconds"]',
        b'{"keepResultSeconds": "x", "result": 1}',
        b'{"keepResultSeconds": 0, "result": 1}',
        b'{"keepResultSeconds": 1, "result": NaN}',
        b'{"keepResultSeconds": 1, "result": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'"keepResultSeconds"',
    ],
)
def test_a_report_that_says_nothing_to_keep(body: bytes) -> None:
    """What cannot be read, or kept, is not kept; the report counts all the same."""
    assert StoredResult.from_report(body) is None


def test_what_a_report_says_is_bounded() -> None:
    """However long it asks for, and however much it sends."""
    large = StoredResult.from_report(b'{"keepResultSeconds": 1e300, "result": "' + b"x" * MAX_RESULT_BYTES + b'"}')
    assert large is not None
    assert large.keep_seconds < 1e9
    assert large.problem is not None
    told = StoredResult.from_report(b'{"keepResultSeconds": 1, "resultProblem": "a\\u0000b"}')
    assert told == StoredResult(1, problem="ab")


@pytest.mark.parametrize("wrong", [timedelta(0), -1, "yes"])
def test_keep_result_is_checked(wrong: Any) -> None:
    """A retention that is none is refused where the task is defined."""
    with pytest.raises(TaskDefinitionError, match="timedelta above 0"):
        task("x", keep_result=wrong)(lambda payload: payload)
