"""How the worker takes jobs: what, when, how many at a time, and how it stops."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from jobfn.database.connection import pool
from jobfn.database.native_store import NativeJobStore
from jobfn.database.records import Job
from jobfn.errors import SchemaError
from jobfn.http.client import HttpTransport
from jobfn.worker.dispatch import CallbackConfig, Dispatcher, Routes
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.settlement import SettlementBatcher
from jobfn.worker.worker import Worker
from support.fixtures import Serve, StartService
from support.functions import RecordingFunction
from support.jobs import WORKER, Jobs
from support.network import eventually

NEVER_POLLS = 3600.0


async def test_jobs_run_by_priority_then_time_then_id(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """Lower priority numbers first; among equals the earlier run_at; among these the earlier added."""
    await jobs.add("third", priority=0)
    await jobs.add("fourth", priority=0)
    await jobs.add("first", priority=-5)
    await jobs.connection.execute("select app_jobs.add_job('second', '{}', run_at := now() - interval '1 hour')")
    await jobs.add("last", priority=7)
    await start_service(await serve(function.app), concurrency=1)
    await jobs.until_gone()
    assert [received.path for received in function.received] == ["/first", "/second", "/third", "/fourth", "/last"]


async def test_only_supported_tasks_are_taken(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """With JOBS_SUPPORT_ANY=false only the tasks of JOBS_SUPPORTED are claimed; the others stay as they were."""
    other = await jobs.add("other")
    mine = await jobs.add("mine")
    await start_service(await serve(function.app), support_any=False, supported="also-mine, mine")
    await jobs.until_gone(mine)
    row = await jobs.row(other)
    assert row is not None
    assert (row["attempts"], row["locked_by"]) == (0, None)


async def test_at_most_concurrency_requests_are_under_way(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """With concurrency 3, three of five jobs are delivered while none is answered, the rest after that."""
    gate = function.hold()
    await start_service(await serve(function.app), concurrency=3)
    for _ in range(5):
        await jobs.add("t")

    async def three_held() -> bool:
        return bool(
            await jobs.connection.fetchval("select count(*) = 3 from app_jobs.jobs where locked_by is not null")
        )

    await eventually(three_held)
    assert len(function.received) <= 3
    gate.set()
    await jobs.until_gone()
    assert len(function.received) == 5


async def test_a_notification_wakes_the_worker(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """A worker that would poll in an hour runs a job as soon as its transaction commits."""
    await start_service(await serve(function.app), poll_interval_seconds=NEVER_POLLS)
    await jobs.until_gone(await jobs.add("first"))
    async with jobs.connection.transaction():
        job = await jobs.add("in a transaction")
        assert len(function.received) == 1
    await jobs.until_gone(job, seconds=3)


async def test_a_poll_finds_what_no_notification_told_of(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """A job that came in silently is found within the poll interval."""
    await start_service(await serve(function.app), poll_interval_seconds=0.2)
    await jobs.until_gone(await jobs.add("first"))
    await jobs.connection.execute("alter table app_jobs.jobs disable trigger _900_notify_worker")
    await jobs.until_gone(await jobs.add("silent"), seconds=3)


async def test_a_delayed_job_starts_when_it_is_due(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """A worker that would poll in an hour wakes at run_at: not before it, and soon after."""
    await start_service(await serve(function.app), poll_interval_seconds=NEVER_POLLS)
    await jobs.connection.execute("select app_jobs.add_job('t', '{}', run_at := now() + interval '700 milliseconds')")
    started = time.monotonic()
    await function.arrived.wait()
    assert 0.6 < time.monotonic() - started < 3


async def test_a_failed_job_is_tried_again_after_the_backoff(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """After the first failure e seconds pass, then the second attempt is delivered as such."""
    function.answer(500, {"message": "not yet"})
    await start_service(await serve(function.app), poll_interval_seconds=NEVER_POLLS)
    job = await jobs.add("t")
    row = await jobs.until_failed(job)
    failed = time.monotonic()
    assert row["last_error"] == "not yet"
    waits = await jobs.connection.fetchval("select extract(epoch from run_at - updated_at)::float8 from app_jobs.jobs")
    assert waits == pytest.approx(2.718, abs=0.01)
    function.answer(200)
    await jobs.until_gone(job)
    assert 2.0 < time.monotonic() - failed < 6
    assert [received.headers["x-job-attempt"] for received in function.received] == ["1", "2"]


async def test_a_named_queue_runs_one_job_at_a_time_in_order(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """While one job of a queue runs, the next waits and jobs without a queue pass by."""
    first = await jobs.add("first", queue_name="q")
    second = await jobs.add("second", queue_name="q")
    free = await jobs.add("free")
    gate = function.hold()
    await start_service(await serve(function.app), poll_interval_seconds=NEVER_POLLS)
    await jobs.until_held(first)
    await jobs.until_held(free)
    row = await jobs.row(second)
    assert row is not None
    assert row["attempts"] == 0
    gate.set()
    await jobs.until_gone()
    assert [received.path for received in function.received if received.path != "/free"] == ["/first", "/second"]


async def test_stopping_waits_for_what_runs(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """On stop nothing new is taken, and the running job is finished and settled."""
    gate = function.hold()
    service = await start_service(await serve(function.app), concurrency=1)
    running = await jobs.add("running")
    await function.arrived.wait()
    waiting = await jobs.add("waiting")
    stopping = asyncio.ensure_future(service.stop())
    done, _ = await asyncio.wait({stopping}, timeout=0.3)
    assert not done
    gate.set()
    await stopping
    assert await jobs.row(running) is None
    row = await jobs.row(waiting)
    assert row is not None
    assert (row["attempts"], row["locked_by"]) == (0, None)


async def test_stopping_frees_what_does_not_end_in_time(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """A job that outlasts the shutdown is unlocked, with its queue, to run again at once; that attempt counts."""
    gate = function.hold()
    service = await start_service(await serve(function.app), shutdown_timeout_seconds=0.2)
    job = await jobs.add("slow", queue_name="q")
    await function.arrived.wait()
    await service.stop()
    gate.set()
    row = await jobs.row(job)
    assert row is not None
    assert (row["attempts"], row["locked_by"], row["locked_at"]) == (1, None, None)
    assert row["last_error"] == "the worker was stopped before the function answered"
    assert await jobs.connection.fetchval("select run_at <= now() from app_jobs.jobs")
    assert await jobs.connection.fetchval("select locked_by from app_jobs.job_queues") is None


async def test_stopping_leaves_accepted_jobs_to_their_signs_of_life(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """A job that runs in the background of its function (202) is not taken from it when the worker stops."""
    function.answer(202)
    service = await start_service(await serve(function.app))
    job = await jobs.add("long")
    await function.arrived.wait()
    await service.stop()
    assert (await jobs.until_held(job))["locked_by"] == WORKER


async def test_a_restarted_worker_leaves_accepted_jobs_alone(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """A job that its function accepted is not begun again while its signs of life come; without them, it is."""
    function.answer(202)
    url = await serve(function.app)
    service = await start_service(url, lease_seconds=3600.0)
    job = await jobs.add("long", queue_name="q")
    await function.arrived.wait()

    async def noted() -> bool:
        row = await jobs.row(job)
        return row is not None and row["accepted_attempt"] == 1

    await eventually(noted)
    await service.stop()
    service = await start_service(url)
    await jobs.add("other")

    async def other_arrived() -> bool:
        return any(got.path == "/other" for got in function.received)

    await eventually(other_arrived)
    assert (await jobs.until_held(job))["attempts"] == 1
    queue = await jobs.queue("q")
    assert queue is not None
    assert queue["locked_by"] == WORKER
    await service.stop()
    await jobs.connection.execute("update app_jobs.jobs set lease_expires_at = now() - interval '1 second'")
    await start_service(url)

    async def again() -> bool:
        return [got.headers["x-job-attempt"] for got in function.received if got.path == "/long"] == ["1", "2"]

    await eventually(again)


async def test_a_restarted_worker_takes_its_own_jobs_back(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """A job that a worker of this id held when it was killed runs at once when the worker is back, as its next attempt.

    The function may still be at work on the one before: its report must not end the new one.
    """
    gate = function.hold()
    job = await jobs.add("t")
    await jobs.connection.execute("select app_jobs.claim_jobs($1, null, '4 hours', 1, '1 hour')", WORKER)
    service = await start_service(await serve(function.app))
    await function.arrived.wait()
    assert [received.headers["x-job-attempt"] for received in function.received] == ["2"]
    async with httpx.AsyncClient() as client:
        late = {"X-Worker-Id": WORKER, "X-Job-Id": str(job), "X-Job-Attempt": "1"}
        assert (await client.post(service.callback_url, headers=late)).status_code == 409
    gate.set()
    await jobs.until_gone(job)
    assert len(function.received) == 1


async def test_without_a_schema_the_service_does_not_start(empty_database: str, start_service: StartService) -> None:
    """The error says which schema is missing and how to make it."""
    with pytest.raises(SchemaError, match="no jobs schema app_jobs: run `jobfn db migrate`"):
        await start_service("http://127.0.0.1:1", database_url=empty_database)


async def test_a_service_works_on_any_schema_name(
    empty_database: str, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """JOBS_SCHEMA may be any name that PostgreSQL allows."""
    import asyncpg  # noqa: PLC0415

    from jobfn.database.migrate import migrate  # noqa: PLC0415

    connection = await asyncpg.connect(empty_database)
    try:
        await migrate(connection, 'my "odd" jobs')
        await start_service(await serve(function.app), database_url=empty_database, schema_name='my "odd" jobs')
        await connection.execute('select "my ""odd"" jobs".add_job($1)', "t")
        await function.arrived.wait()

        async def gone() -> bool:
            return not await connection.fetchval('select count(*) from "my ""odd"" jobs".jobs')

        await eventually(gone)
    finally:
        await connection.close()


class StoreThatIsSlow(NativeJobStore):
    """After a claim of nothing it lets time pass: the delayed job becomes due before the worker asks when it will."""

    due: asyncio.Event

    async def claim(self, worker_id: str, **options: Any) -> list[Job]:
        """Claim, and come back late."""
        found: list[Job] = await super().claim(worker_id, **options)
        if not found:
            await self.due.wait()
        return found


async def test_a_job_that_becomes_due_between_two_questions_is_not_slept_over(
    jobs: Jobs, database: str, function: RecordingFunction, serve: Serve
) -> None:
    """Not ready when ready ones were looked for, not delayed any more when the next delayed one was asked for."""
    url = await serve(function.app)
    settings = ServiceSettings.from_environ(
        {}, worker_id=WORKER, poll_interval_seconds=NEVER_POLLS, report_grace_seconds=0.0
    )
    async with pool(database, application_name="test", size=4) as connections:
        store = StoreThatIsSlow(connections, "app_jobs")
        store.due = asyncio.Event()
        transport = HttpTransport()
        dispatcher = Dispatcher(
            transport,
            routes=Routes(url, {}),
            worker_id=WORKER,
            callback_config=lambda _job: CallbackConfig(url, url, 30.0),
            request_timeout_seconds=10.0,
        )
        worker = Worker(
            store=store,
            settlements=SettlementBatcher(store),
            deliverer=dispatcher,
            settings=settings,
            wake_event=asyncio.Event(),
        )
        delayed = "select (app_jobs.add_job('t', '{}', run_at := clock_timestamp() + interval '300 milliseconds')).id"
        job = await jobs.connection.fetchval(delayed)
        stop = asyncio.Event()
        running = asyncio.create_task(worker.run(stop))

        async def is_due() -> bool:
            return bool(await jobs.connection.fetchval("select run_at <= clock_timestamp() from app_jobs.jobs"))

        await eventually(is_due)
        store.due.set()
        await jobs.until_gone(job, seconds=5)
        stop.set()
        await running
        await transport.aclose()
