"""Which jobs the worker claims, when, how many at a time, and how it stops."""

import asyncio
import time
from typing import Any

import asyncpg
import httpx
import pytest

from jobfn.database.connection import open_pool
from jobfn.database.migrate import migrate
from jobfn.database.native_store import NativeJobStore
from jobfn.database.records import Job
from jobfn.errors import SchemaError
from jobfn.worker.delivery import Deliverer, DeliveryResult, Succeeded
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.settlement import SettlementBatcher
from jobfn.worker.tokens import Claim
from jobfn.worker.worker import Worker
from support.fixtures import Serve, StartService, StartWorker
from support.functions import RecordingFunction
from support.jobs import WORKER, Jobs
from support.network import eventually
from support.secrets import schema_tokens, sign_url

NO_POLLS = 3600.0


async def test_jobs_run_by_priority_then_time_then_id(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    await jobs.add("third", priority=0)
    await jobs.add("fourth", priority=0)
    await jobs.add("first", priority=-5)
    await jobs.connection.execute("select app_jobs.add_job('second', '{}', run_at := now() - interval '1 hour')")
    await jobs.add("last", priority=7)
    await start_worker(concurrency=1)
    await jobs.until_gone()
    assert [request.path for request in function.received] == ["/first", "/second", "/third", "/fourth", "/last"]


async def test_only_supported_tasks_are_claimed(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    other = await jobs.add("other")
    supported = await jobs.add("supported")
    await start_worker(support_any=False, supported="also-supported, supported")
    await jobs.until_gone(supported)
    row = await jobs.row(other)
    assert (row["attempts"], row["locked_by"]) == (0, None)


async def test_concurrency_limits_the_open_requests(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    gate = function.hold()
    await start_worker(concurrency=3)
    for _ in range(5):
        await jobs.add("t")

    async def three_are_open() -> bool:
        return len(function.received) == 3

    await eventually(three_are_open)
    assert await jobs.connection.fetchval("select count(*) from app_jobs.jobs where locked_by is not null") == 3
    gate.set()
    await jobs.until_gone()
    assert len(function.received) == 5


async def test_notification_wakes_the_worker(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    await start_worker(poll_interval_seconds=NO_POLLS)
    await jobs.until_gone(await jobs.add("first"))
    async with jobs.connection.transaction():
        job = await jobs.add("in a transaction")
        assert len(function.received) == 1
    await jobs.until_gone(job, seconds=3)


async def test_poll_claims_jobs_without_a_notification(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    await start_worker(poll_interval_seconds=0.2)
    await jobs.until_gone(await jobs.add("first"))
    await jobs.connection.execute("alter table app_jobs.jobs disable trigger _900_notify_worker")
    await jobs.until_gone(await jobs.add("silent"), seconds=3)


async def test_delayed_job_starts_when_it_is_due(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    await start_worker(poll_interval_seconds=NO_POLLS)
    await jobs.connection.execute("select app_jobs.add_job('t', '{}', run_at := now() + interval '700 milliseconds')")
    started_at = time.monotonic()
    await function.arrived.wait()
    assert 0.6 < time.monotonic() - started_at < 3


async def test_failed_job_is_retried_when_it_is_due(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    function.respond(500, {"message": "not yet", "retryAfterSeconds": 0.5})
    await start_worker(poll_interval_seconds=NO_POLLS)
    job = await jobs.add("t")
    assert (await jobs.until_failed(job))["last_error"] == "not yet"
    function.respond(200)
    await jobs.until_gone(job, seconds=5)
    assert [request.headers["x-job-attempt"] for request in function.received] == ["1", "2"]


async def test_named_queue_runs_one_job_at_a_time(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    first = await jobs.add("first", queue_name="q")
    second = await jobs.add("second", queue_name="q")
    unqueued = await jobs.add("unqueued")
    gate = function.hold()
    await start_worker(poll_interval_seconds=NO_POLLS)
    await jobs.until_claimed(first)
    await jobs.until_claimed(unqueued)
    row = await jobs.row(second)
    assert row["attempts"] == 0
    gate.set()
    await jobs.until_gone()
    assert [request.path for request in function.received if request.path != "/unqueued"] == ["/first", "/second"]


async def test_shutdown_waits_for_running_jobs(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    gate = function.hold()
    service = await start_worker(concurrency=1)
    running = await jobs.add("running")
    await function.arrived.wait()
    waiting = await jobs.add("waiting")
    stopping = asyncio.ensure_future(service.stop())
    done, _ = await asyncio.wait({stopping}, timeout=0.3)
    assert not done
    gate.set()
    await stopping
    assert not await jobs.exists(running)
    row = await jobs.row(waiting)
    assert (row["attempts"], row["locked_by"]) == (0, None)


async def test_job_that_outlasts_the_shutdown_is_unlocked_and_its_attempt_counts(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    gate = function.hold()
    service = await start_worker(shutdown_timeout_seconds=0.2)
    job = await jobs.add("slow", queue_name="q")
    await function.arrived.wait()
    await service.stop()
    gate.set()
    row = await jobs.row(job)
    assert (row["attempts"], row["locked_by"], row["locked_at"]) == (1, None, None)
    assert row["last_error"] == "the worker was stopped before the function responded"
    assert await jobs.connection.fetchval("select run_at <= now() from app_jobs.jobs")
    assert await jobs.connection.fetchval("select locked_by from app_jobs.job_queues") is None


async def test_restarted_worker_reclaims_its_jobs(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    """The function may still be running the attempt before: its report must not settle the new one."""
    gate = function.hold()
    job = await jobs.add("t")
    await jobs.connection.execute("select app_jobs.claim_jobs($1, null, '4 hours', 1, '1 hour')", WORKER)
    service = await start_worker()
    await function.arrived.wait()
    assert [request.headers["x-job-attempt"] for request in function.received] == ["2"]
    async with httpx.AsyncClient() as client:
        stale = {"X-Worker-Id": WORKER, "X-Job-Id": str(job), "X-Job-Attempt": "1"}
        url = sign_url(await schema_tokens(jobs.connection), service.callback_url, Claim(WORKER, job, 1))
        assert (await client.post(url, headers=stale)).status_code == 409
    gate.set()
    await jobs.until_gone(job)
    assert len(function.received) == 1


async def test_restarted_worker_leaves_accepted_jobs_alone_until_their_lease_expires(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    function.respond(202)
    url = await serve(function.app)
    service = await start_service(url, lease_seconds=3600.0)
    job = await jobs.add("long", queue_name="q")
    await function.arrived.wait()

    async def is_accepted() -> bool:
        return await jobs.values(job, "accepted_attempt") == (1,)

    await eventually(is_accepted)
    await service.stop()
    assert (await jobs.until_claimed(job))["locked_by"] == WORKER
    service = await start_service(url)
    await jobs.add("other")

    async def other_has_arrived() -> bool:
        return any(request.path == "/other" for request in function.received)

    await eventually(other_has_arrived)
    assert (await jobs.until_claimed(job))["attempts"] == 1
    assert await jobs.queue("q") == (1, WORKER)
    await service.stop()
    await jobs.connection.execute("update app_jobs.jobs set lease_expires_at = now() - interval '1 second'")
    await start_service(url)

    async def second_attempt_has_arrived() -> bool:
        attempts = [request.headers["x-job-attempt"] for request in function.received if request.path == "/long"]
        return attempts == ["1", "2"]

    await eventually(second_attempt_has_arrived)


async def test_missing_schema_fails_the_startup(empty_database: str, start_service: StartService) -> None:
    with pytest.raises(SchemaError, match="no jobs schema app_jobs: run `jobfn db migrate`"):
        await start_service("http://127.0.0.1:1", database_url=empty_database)


async def test_schema_name_may_need_quotes(
    empty_database: str, function: RecordingFunction, start_worker: StartWorker
) -> None:
    connection = await asyncpg.connect(empty_database)
    try:
        await migrate(connection, 'my "odd" jobs')
        await start_worker(database_url=empty_database, schema_name='my "odd" jobs')
        await connection.execute('select "my ""odd"" jobs".add_job($1)', "t")
        await function.arrived.wait()

        async def is_gone() -> bool:
            return not await connection.fetchval('select count(*) from "my ""odd"" jobs".jobs')

        await eventually(is_gone)
    finally:
        await connection.close()


class SlowStore(NativeJobStore):
    """Returns an empty claim only after ``due`` is set."""

    due: asyncio.Event

    async def claim(self, worker_id: str, **options: Any) -> list[Job]:
        """See ``JobStore.claim``."""
        jobs: list[Job] = await super().claim(worker_id, **options)
        if not jobs:
            await self.due.wait()
        return jobs


class Success(Deliverer):
    """A deliverer whose jobs succeed."""

    async def deliver(self, _job: Job) -> DeliveryResult:
        """See ``Deliverer.deliver``."""
        return Succeeded()


async def test_job_that_becomes_due_during_a_claim_is_claimed_at_once(jobs: Jobs, database: str) -> None:
    settings = ServiceSettings.from_environ({}, worker_id=WORKER, poll_interval_seconds=NO_POLLS, settle_on="response")
    async with open_pool(database, application_name="test", size=4) as connections:
        store = SlowStore(connections, "app_jobs")
        store.due = asyncio.Event()
        worker = Worker(
            store=store,
            settlements=SettlementBatcher(store),
            deliverer=Success(),
            settings=settings,
            wake_event=asyncio.Event(),
        )
        add_delayed = "select (app_jobs.add_job('t', '{}', run_at := clock_timestamp() + interval '300 ms')).id"
        job = await jobs.connection.fetchval(add_delayed)
        stop = asyncio.Event()
        running = asyncio.create_task(worker.run(stop))

        async def is_due() -> bool:
            return bool(await jobs.connection.fetchval("select run_at <= clock_timestamp() from app_jobs.jobs"))

        await eventually(is_due)
        store.due.set()
        await jobs.until_gone(job, seconds=5)
        stop.set()
        await running
