"""A cancelled job keeps its slot of a limit and its named queue while its handler cleans up."""

import asyncio
import contextlib
import functools
import json
import threading
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from jobfn import FunctionApp, FunctionSettings, JobContext, create_app, task
from jobfn.errors import TransportError
from jobfn.function.reporter import Reporter
from jobfn.http.client import Response, Transport
from jobfn.in_process import local_settings, local_tasks
from jobfn.wire import JobHeaders
from jobfn.worker.settings import ServiceRole, ServiceSettings
from support.commands import Spawn, spawn_two_workers
from support.fixtures import Serve, StartService
from support.jobs import WORKER, Jobs
from support.limits import assert_consistent, claim, held, set_limit
from support.network import eventually
from support.service import start_in_loop

RUNS = "select count(*) from app_jobs.cancelled_runs"
CANCEL = "select app_jobs.cancel_jobs(array[$1::bigint], 'not needed', true)"
LEASE = "'30 seconds'"


class SlowCleanup:
    """Tasks whose handlers clean up until the test lets them, and how many of them ran at the same time."""

    def __init__(self) -> None:
        self.cleaning, self.finish = asyncio.Event(), asyncio.Event()
        self.started: list[int | None] = []
        self.running = self.most_running = 0

    def app(self, **settings: Any) -> FunctionApp:
        @task("exclusive")
        async def exclusive(_payload: dict[str, Any], ctx: JobContext) -> None:
            self.started.append(ctx.job_id)
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            try:
                if len(self.started) == 1:
                    await asyncio.sleep(3600)
            finally:
                if len(self.started) == 1:
                    self.cleaning.set()
                    await self.finish.wait()
                self.running -= 1

        @task("in_background", background=True)
        async def in_background(payload: dict[str, Any], ctx: JobContext) -> None:
            await exclusive.handler(payload, ctx)

        @task("other")
        async def other(_payload: dict[str, Any]) -> None: ...

        return create_app(tasks=[exclusive, in_background, other], settings=FunctionSettings(**settings))


async def until_set(event: asyncio.Event) -> None:
    async with asyncio.timeout(60):
        await event.wait()


async def check(jobs: Jobs, cleanup: SlowCleanup, task_name: str, options: dict[str, str]) -> None:
    """Cancel a running job. The next one starts when the handler has cleaned up, and not before."""
    first = await jobs.add(task_name, **options)
    await eventually(lambda: _has_started(cleanup, 1), seconds=60)
    second = await jobs.add(task_name, **options)
    await jobs.connection.execute(CANCEL, first)
    await until_set(cleanup.cleaning)
    for _ in range(3):
        await jobs.until_gone(await jobs.add("other"), seconds=60)  # workers claim meanwhile
    assert cleanup.started == [first]
    assert await jobs.connection.fetchval(RUNS) == 1
    cleanup.finish.set()
    await jobs.until_gone(second, seconds=60)
    assert (cleanup.started, cleanup.most_running) == ([first, second], 1)
    assert await jobs.connection.fetchval(RUNS) == 0
    assert await jobs.connection.fetchval("select count(*) from app_jobs.limit_slots") == 0
    assert await jobs.values(first, "ended_as", "last_error") == ("cancelled", "not needed")


async def _has_started(cleanup: SlowCleanup, number: int) -> bool:
    return len(cleanup.started) == number


@pytest.mark.parametrize("kept", ["slot", "queue"])
@pytest.mark.parametrize("task_name", ["exclusive", "in_background"])
async def test_next_job_waits_for_the_cleanup_with_two_workers(
    jobs: Jobs, database: str, serve: Serve, spawn: Spawn, task_name: str, kept: str
) -> None:
    cleanup = SlowCleanup()
    if kept == "slot":
        await set_limit(jobs.connection, "one", task_identifier=task_name, concurrency=1)
    url = await serve(cleanup.app())
    await spawn_two_workers(spawn, database, url, JOBS_CONCURRENCY="2", JOBS_LEASE_SECONDS="600")
    await check(jobs, cleanup, task_name, {"queue_name": "q"} if kept == "queue" else {})


@pytest.fixture
async def local(database: str) -> AsyncIterator[Any]:
    async with contextlib.AsyncExitStack() as stack:

        async def in_process(app: FunctionApp) -> None:
            settings = ServiceSettings.from_environ({}, database_url=database, worker_id=WORKER, lease_seconds=600.0)
            await start_in_loop(
                stack,
                local_settings(settings, app),
                roles=[ServiceRole.WORKER],
                deliverer_factory=functools.partial(local_tasks, app),
            )

        yield in_process


async def test_next_job_waits_for_the_cleanup_in_the_workers_process(jobs: Jobs, local: Any) -> None:
    cleanup = SlowCleanup()
    await set_limit(jobs.connection, "one", task_identifier="exclusive", concurrency=1)
    await local(cleanup.app())
    await check(jobs, cleanup, "exclusive", {})


@pytest.mark.parametrize("is_local", [True, False])
async def test_handler_that_is_left_to_its_thread_keeps_its_slot_until_the_lease_ends(
    jobs: Jobs, serve: Serve, start_service: StartService, local: Any, *, is_local: bool
) -> None:
    started, finish = threading.Event(), threading.Event()

    @task("deaf")
    def deaf(_payload: dict[str, Any]) -> None:
        started.set()
        finish.wait(60)

    @task("other")
    async def other(_payload: dict[str, Any]) -> None: ...

    await set_limit(jobs.connection, "one", task_identifier="deaf", concurrency=1)
    app = create_app(tasks=[deaf, other], settings=FunctionSettings(cancel_grace_seconds=0.05))
    try:
        if is_local:
            await local(app)
        else:
            await start_service(await serve(app), lease_seconds=600.0)
        first = await jobs.add("deaf")
        await asyncio.to_thread(started.wait, 30)
        await jobs.connection.execute(CANCEL, first)
        second = await jobs.add("deaf")
        await asyncio.sleep(0.5)  # longer than the grace time, after which nothing happens that a test could see
        await jobs.until_gone(await jobs.add("other"))
        assert await held(jobs.connection) == [second]
        assert await jobs.connection.fetchval(RUNS) == 1
        await jobs.connection.execute("update app_jobs.cancelled_runs set ends_at = now()")
        finish.set()
        await jobs.until_gone(await jobs.add("other"))
        await jobs.until_gone(second)
    finally:
        finish.set()


async def test_report_of_a_function_in_another_language_frees_the_slot(
    jobs: Jobs, serve: Serve, start_service: StartService
) -> None:
    """It does not notice that the connection is closed, and reports when it has ended."""
    started: list[str] = []
    closed, finish, statuses = asyncio.Event(), asyncio.Event(), []

    async def node_function(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await request.body()
        started.append(request.headers["x-job-id"])
        if len(started) == 1:
            while (await receive())["type"] != "http.disconnect":
                pass
            closed.set()
            await finish.wait()
        headers = {name: request.headers[name] for name in ("x-worker-id", "x-job-id")}
        async with httpx.AsyncClient() as client:
            response = await client.post(request.headers["x-callback-url"], json={"status": "success"}, headers=headers)
        statuses.append(response.status_code)
        await JSONResponse({})(scope, receive, send)

    await set_limit(jobs.connection, "one", task_identifier="x", concurrency=1)
    await start_service(await serve(node_function), lease_seconds=600.0)
    first = await jobs.add("x")
    await jobs.until_claimed(first)
    await eventually(lambda: _is_length(started, 1))
    await jobs.connection.execute(CANCEL, first)
    await until_set(closed)
    second = await jobs.add("x")
    assert (await claim(jobs.connection, 1), await held(jobs.connection)) == ([], [second])
    finish.set()
    await jobs.until_gone(second)
    await eventually(lambda: _is_length(statuses, 2))
    assert (started, statuses) == ([str(first), str(second)], [409, 200])


async def _is_length(items: list[str] | list[int], length: int) -> bool:
    return len(items) == length


async def test_only_the_worker_and_attempt_of_a_cancelled_job_free_its_slot(jobs: Jobs) -> None:
    await set_limit(jobs.connection, "one", concurrency=1)
    first = await jobs.add("x")
    await jobs.connection.execute(f"select app_jobs.claim_jobs('worker-x', null, '4 hours', 1, {LEASE})")
    await jobs.connection.execute(CANCEL, first)
    second = await jobs.add("x")
    assert await claim(jobs.connection, 1) == []
    end = "select app_jobs.end_cancelled_run($1, $2, $3)"
    assert await jobs.connection.fetchval(end, "another", first, 1) is False
    assert await jobs.connection.fetchval(end, "worker-x", first, 2) is False
    assert await claim(jobs.connection, 1) == []
    assert await jobs.connection.fetchval(end, "worker-x", first, None) is True
    assert await claim(jobs.connection, 1) == [second]
    await assert_consistent(jobs.connection)


async def test_slot_and_queue_are_free_when_the_lease_ends(jobs: Jobs) -> None:
    connection = jobs.connection
    await set_limit(connection, "one", task_identifier="limited", concurrency=1)
    first, queued = await jobs.add("limited"), await jobs.add("x", queue_name="q")
    await connection.execute(f"select app_jobs.claim_jobs('worker-x', null, '4 hours', 2, {LEASE})")
    waiting = [await jobs.add("limited"), await jobs.add("x", queue_name="q")]
    for job in (first, queued):
        await connection.execute(CANCEL, job)
    assert await claim(connection, 10) == []
    assert await jobs.queue("q") == (2, "worker-x")
    await connection.execute("select app_jobs.sweep_limits()")
    assert await claim(connection, 10) == []
    await assert_consistent(connection)
    await connection.execute("update app_jobs.cancelled_runs set ends_at = now()")
    await connection.execute("update app_jobs.queue_locks set lease_expires_at = now() - interval '1 second'")
    assert await claim(connection, 10) == waiting
    assert await connection.fetchval(RUNS) == 0
    await assert_consistent(connection)


async def test_job_that_is_retried_during_the_cleanup_needs_a_slot_of_its_own(jobs: Jobs) -> None:
    connection = jobs.connection
    await set_limit(connection, "one", concurrency=1)
    job = await jobs.add("x")
    await connection.execute(f"select app_jobs.claim_jobs('worker-x', null, '4 hours', 1, {LEASE})")
    await connection.execute(CANCEL, job)
    await connection.execute("select app_jobs.retry_jobs(array[$1::bigint])", job)
    assert (await claim(connection, 1), await held(connection)) == ([], [job])
    reason = "select reason from app_jobs.explain_wait($1)"
    assert await connection.fetchval(reason, job) == f"limit one reached: 1 of 1 running, job {job}"
    await connection.execute("select app_jobs.end_cancelled_run('worker-x', $1, 1)", job)
    assert await claim(connection, 1) == [job]
    await assert_consistent(connection)


async def test_locks_without_a_lease_and_jobs_without_limits_are_free_at_once(jobs: Jobs) -> None:
    """The Node worker's locks have no lease: nothing would end them for hours."""
    connection = jobs.connection
    first, second = [await jobs.add("x", queue_name="q") for _ in range(2)]
    assert await jobs.claim_id("worker-x") == first
    free = await jobs.add("x")
    await connection.execute(f"select app_jobs.claim_jobs('worker-x', null, '4 hours', 1, {LEASE})")
    for job in (first, free):
        await connection.execute(CANCEL, job)
    assert await connection.fetchval(RUNS) == 0
    assert await jobs.claim_id("worker-y") == second


async def test_end_is_reported_until_the_callback_server_answers(capfd: pytest.CaptureFixture[str]) -> None:
    """After the time of reports, it is logged, and the end of the lease frees the slot."""
    statuses = [500, 409]
    bodies: list[object] = []

    class Server:
        async def post(self, _url: str, *, body: bytes, **_options: Any) -> Response:
            bodies.append(json.loads(body))
            if not statuses:
                raise TransportError("the callback server is not reachable")
            return Response(statuses.pop(0), Headers(), b"")

    headers = JobHeaders.parse(
        {"X-Worker-Id": WORKER, "X-Job-Id": "1", "X-Job-Attempt": "1", "X-Heartbeat-Url": "http://callbacks/heartbeat"}
    )
    for seconds in (10.0, 0.0):
        reporter = Reporter(cast("Transport", Server()), report_timeout_seconds=seconds)
        reporter.report_ended(headers)
        await reporter.drain(timeout_seconds=10)
    assert bodies == [{"renew": False, "ended": True}] * 3
    assert "end of a cancelled job not reported" in capfd.readouterr().out
