"""Cancelled jobs: their handlers are stopped, and they end as cancelled."""

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any

import asyncpg
import pytest
from starlette.types import Receive, Scope, Send

from jobfn import FunctionApp, FunctionSettings, JobContext, create_app, task
from jobfn.http.server import bind
from jobfn.in_process import local_settings, local_tasks
from jobfn.operations import Action, open_operations
from jobfn.worker.settings import ServiceRole, ServiceSettings
from support.commands import Command, Spawn
from support.fixtures import Serve, StartService
from support.jobs import NEWEST_PLATFORM_SCHEMA, PLATFORM_SCHEMA, TENANT, WORKER, Jobs
from support.network import LOOPBACK, eventually, free_port
from support.service import start_in_loop

#: Maximum time from the transaction that cancels a job until its handler is stopped. Renewals of leases take longer.
ARRIVAL_SECONDS = 1.0
#: Timeout of waits for events, which is not what is measured.
WAIT_SECONDS = 30.0
#: Runs an app's tasks: over HTTP, or in the worker's process.
Run = Callable[[FunctionApp], Awaitable[None]]


class Handler:
    """Tasks that run until they are cancelled, and what they saw."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        self.seen: list[object] = []
        self.finish = asyncio.Event()
        self.stopped_at: dict[int | None, float] = {}  # by job id, seconds since 1970

    def app(self, **settings: Any) -> FunctionApp:
        loop = asyncio.get_running_loop()

        @task("until_cancelled")
        async def until_cancelled(_payload: dict[str, Any], ctx: JobContext) -> None:
            self.started.set()
            try:
                await self.finish.wait()
            finally:
                self.stopped_at[ctx.job_id] = time.time()
                await asyncio.sleep(0.01)  # cleanup may wait
                self.seen.append(("cleaned up", ctx.cancelled))
                self.ended.set()

        @task("until_told")
        def until_told(_payload: dict[str, Any], ctx: JobContext) -> None:
            loop.call_soon_threadsafe(self.started.set)
            pause = threading.Event()
            while not ctx.cancelled:
                pause.wait(0.01)
            self.stopped_at[ctx.job_id] = time.time()
            self.seen.append("stopped")
            loop.call_soon_threadsafe(self.ended.set)

        @task("swallows")
        async def swallows(_payload: dict[str, Any], ctx: JobContext) -> dict[str, str]:
            self.started.set()
            with contextlib.suppress(asyncio.CancelledError):
                await self.finish.wait()
            self.stopped_at[ctx.job_id] = time.time()
            self.ended.set()
            return {"done": "anyway"}

        @task("raises")
        async def raises(_payload: dict[str, Any], ctx: JobContext) -> None:
            self.started.set()
            try:
                await self.finish.wait()
            finally:
                self.stopped_at[ctx.job_id] = time.time()
                self.ended.set()
                raise ValueError("the cleanup failed")

        @task("in_background", background=True)
        async def in_background(_payload: dict[str, Any], ctx: JobContext) -> None:
            await until_cancelled.handler({}, ctx)

        @task("stubborn")
        async def stubborn(_payload: dict[str, Any]) -> None:
            self.started.set()
            try:
                await self.finish.wait()
            finally:
                try:
                    await asyncio.sleep(3600)  # the cleanup hangs
                finally:
                    self.ended.set()

        @task("quick")
        async def quick(_payload: dict[str, Any]) -> None:
            self.seen.append("quick")

        tasks: list[Any] = [until_cancelled, until_told, swallows, raises, in_background, stubborn, quick]
        return create_app(tasks=tasks, settings=FunctionSettings(**settings))


@pytest.fixture(params=["http", "local"])
async def run(
    request: pytest.FixtureRequest, database: str, serve: Serve, start_service: StartService
) -> AsyncIterator[Run]:
    async with contextlib.AsyncExitStack() as stack:

        async def over_http(app: FunctionApp) -> None:
            await start_service(await serve(app), lease_seconds=60.0)

        async def in_process(app: FunctionApp) -> None:
            settings = ServiceSettings.from_environ({}, database_url=database, worker_id=WORKER, lease_seconds=60.0)
            await start_in_loop(
                stack,
                local_settings(settings, app),
                roles=[ServiceRole.WORKER],
                deliverer_factory=functools.partial(local_tasks, app),
            )

        yield over_http if request.param == "http" else in_process


async def cancel(jobs: Jobs, job: int) -> None:
    """Cancel a job that may run."""
    await jobs.connection.execute("select app_jobs.cancel_jobs(array[$1::bigint], 'not needed', true)", job)


def assert_arrived(form: str, cancelled_at: float, stopped_at: float) -> None:
    """Print and check the time from the transaction that cancels a job until its handler is stopped."""
    seconds = stopped_at - cancelled_at
    print(f"cancellation arrived after {seconds * 1000:.0f} ms: {form}")  # noqa: T201  - for people who measure
    assert seconds < ARRIVAL_SECONDS


async def cancelled_at(jobs: Jobs, job: int) -> float:
    """Return when the transaction began that has cancelled a job, in seconds since 1970."""
    (updated_at,) = await jobs.values(job, "updated_at")
    assert isinstance(updated_at, datetime)
    return updated_at.timestamp()


async def outcomes(jobs: Jobs) -> list[tuple[str, str | None]]:
    """Return the outcomes of the attempts."""
    rows = await jobs.connection.fetch("select outcome, error from app_jobs.job_runs order by job_id, ended_at")
    return [(row["outcome"], row["error"]) for row in rows]


@pytest.mark.parametrize("task_name", ["until_cancelled", "until_told", "swallows", "raises"])
async def test_handler_is_stopped_and_the_job_ends_as_cancelled(
    jobs: Jobs, run: Run, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str], task_name: str
) -> None:
    handler = Handler()
    await run(handler.app())
    job = await jobs.add(task_name)
    async with asyncio.timeout(WAIT_SECONDS):
        await handler.started.wait()
    await cancel(jobs, job)
    async with asyncio.timeout(WAIT_SECONDS):
        await handler.ended.wait()
    after = await jobs.add("quick")
    await jobs.until_gone(after)
    assert await jobs.values(job, "ended_as", "last_error", "locked_by") == ("cancelled", "not needed", None)
    assert await outcomes(jobs) == [("cancelled", "not needed"), ("completed", None)]
    assert "report conflict" not in capfd.readouterr().err
    expected: dict[str, list[object]] = {"until_cancelled": [("cleaned up", True)], "until_told": ["stopped"]}
    assert handler.seen == [*expected.get(task_name, []), "quick"]
    assert_arrived(request.node.callspec.id, await cancelled_at(jobs, job), handler.stopped_at[job])


async def test_cleanup_has_a_grace_time(jobs: Jobs, run: Run) -> None:
    handler = Handler()
    await run(handler.app(cancel_grace_seconds=0.1))
    job = await jobs.add("stubborn")
    async with asyncio.timeout(WAIT_SECONDS):
        await handler.started.wait()
    await cancel(jobs, job)
    async with asyncio.timeout(WAIT_SECONDS):
        await handler.ended.wait()


async def test_other_jobs_of_a_batch_run(jobs: Jobs, run: Run, request: pytest.FixtureRequest) -> None:
    handler = Handler()
    await run(handler.app())
    await jobs.until_gone(await jobs.add("quick"))  # the worker learns that it is quick, and that batches are accepted
    handler.seen.clear()
    await jobs.connection.execute(
        "select app_jobs.add_jobs('quick', array['{}', '{}', '{}']::json[]); "
        "select app_jobs.add_jobs('until_cancelled', array['{}', '{}', '{}']::json[])"
    )
    async with asyncio.timeout(WAIT_SECONDS):
        await handler.started.wait()
    running = await jobs.connection.fetch("select id from app_jobs.jobs where task_identifier = 'until_cancelled'")
    for row in running:
        await cancel(jobs, row["id"])

    async def have_ended() -> bool:
        return len(await outcomes(jobs)) == 7

    await eventually(have_ended)
    async with asyncio.timeout(WAIT_SECONDS):
        await handler.ended.wait()
    assert handler.seen.count("quick") == 3
    assert sorted(await outcomes(jobs), key=str) == [("cancelled", "not needed")] * 3 + [("completed", None)] * 4
    for job, stopped_at in list(handler.stopped_at.items()):
        assert job is not None
        assert_arrived(f"batch-{request.node.callspec.id}", await cancelled_at(jobs, job), stopped_at)


async def test_waiting_jobs_of_a_batch_are_cancelled_and_do_not_stop_the_running_one(jobs: Jobs, run: Run) -> None:
    running, handler = asyncio.Event(), Handler()
    seen: list[int] = []

    @task("mixed")
    async def mixed(payload: dict[str, int]) -> None:
        seen.append(payload["n"])
        if payload["n"]:
            running.set()
            await handler.finish.wait()

    await run(create_app(tasks=[mixed]))
    await jobs.until_gone(await jobs.add("mixed", {"n": 0}))
    await jobs.connection.execute(
        """select app_jobs.add_jobs('mixed', array['{"n": 1}', '{"n": 2}', '{"n": 3}']::json[])"""
    )
    async with asyncio.timeout(WAIT_SECONDS):
        await running.wait()
    first = seen[-1]
    rows = await jobs.connection.fetch("select id from app_jobs.jobs where (payload ->> 'n')::int <> $1", first)
    started = set(seen)
    for row in rows:
        await cancel(jobs, row["id"])
    handler.finish.set()
    await eventually(lambda: _is_done(jobs, first))
    assert ("completed", None) in await outcomes(jobs)
    assert set(seen) >= started


async def _is_done(jobs: Jobs, number: int) -> bool:
    return not await jobs.connection.fetchval(
        "select exists (select from app_jobs.jobs where (payload ->> 'n')::int = $1)", number
    )


@pytest.mark.parametrize(("lease_seconds", "is_told"), [(60.0, True), (1.0, False)])
async def test_background_handler_is_stopped_at_once_or_at_its_next_heartbeat(
    jobs: Jobs,
    serve: Serve,
    start_service: StartService,
    capfd: pytest.CaptureFixture[str],
    lease_seconds: float,
    is_told: bool,  # noqa: FBT001  - a parameter of a table
) -> None:
    handler = Handler()
    function = handler.app()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if not is_told and scope["type"] == "http" and scope["path"].endswith("/cancel"):
            scope["headers"] = []  # as for a function that does not know the request
        await function(scope, receive, send)

    await start_service(await serve(app), lease_seconds=lease_seconds)
    job = await jobs.add("in_background")
    async with asyncio.timeout(WAIT_SECONDS):
        await handler.started.wait()
    if is_told:

        async def is_accepted() -> bool:
            return (await jobs.values(job, "accepted_attempt")) == (1,)

        await eventually(is_accepted)
    await cancel(jobs, job)
    async with asyncio.timeout(WAIT_SECONDS):
        await handler.ended.wait()
    assert handler.seen == [("cleaned up", True)]
    assert await jobs.values(job, "ended_as", "last_error") == ("cancelled", "not needed")
    assert "lease lost" not in capfd.readouterr().err
    form = "background" if is_told else "background, at the heartbeat after a third of a second"
    assert_arrived(form, await cancelled_at(jobs, job), handler.stopped_at[job])


async def test_connection_to_a_function_that_is_not_of_jobfn_is_closed(
    jobs: Jobs, serve: Serve, start_service: StartService
) -> None:
    started, disconnected = asyncio.Event(), asyncio.Event()
    disconnected_at = 0.0

    async def node_function(scope: Scope, receive: Receive, _send: Send) -> None:
        nonlocal disconnected_at
        if scope["type"] != "http":
            return
        while (await receive())["type"] != "http.disconnect":
            started.set()
        disconnected_at = time.time()
        disconnected.set()

    await start_service(await serve(node_function), lease_seconds=60.0)
    job = await jobs.add("x")
    async with asyncio.timeout(WAIT_SECONDS):
        await started.wait()
    await cancel(jobs, job)
    async with asyncio.timeout(WAIT_SECONDS):
        await disconnected.wait()
    assert await jobs.values(job, "ended_as", "attempts") == ("cancelled", 25)
    assert_arrived("the connection to a Node function", await cancelled_at(jobs, job), disconnected_at)


async def test_parked_durable_job_ends_at_once_with_its_children(
    jobs: Jobs, serve: Serve, start_service: StartService
) -> None:
    @task("parent")
    async def parent(_payload: dict[str, Any], ctx: JobContext) -> None:
        await ctx.call("child", {})

    await start_service(await serve(create_app(tasks=[parent])), support_any=False, supported=["parent"])
    job = await jobs.add("parent")

    async def is_parked() -> bool:
        return (await jobs.values(job, "parked_attempt"))[0] is not None

    await eventually(is_parked)
    await cancel(jobs, job)
    rows = await jobs.connection.fetch("select task_identifier, ended_as, last_error from app_jobs.jobs order by id")
    assert [tuple(row) for row in rows] == [
        ("parent", "cancelled", "not needed"),
        ("child", "cancelled", "the job that called it was cancelled"),
    ]


async def test_shutdown_of_the_worker_is_not_a_cancellation(
    jobs: Jobs, serve: Serve, start_service: StartService
) -> None:
    handler = Handler()
    service = await start_service(await serve(handler.app()), shutdown_timeout_seconds=0.5)
    await jobs.add("until_cancelled")
    async with asyncio.timeout(WAIT_SECONDS):
        await handler.started.wait()
    await service.stop()
    await asyncio.sleep(1.0)  # a disconnect is noticed within 0.2 seconds
    handler.finish.set()
    async with asyncio.timeout(WAIT_SECONDS):
        await handler.ended.wait()
    assert handler.seen == [("cleaned up", False)]


async def test_operator_cancels_jobs_of_two_processes(
    jobs: Jobs, database: str, serve: Serve, spawn: Spawn, command: Command
) -> None:
    running: list[str | None] = []
    cancelled: list[tuple[bool, int | None, float]] = []

    @task("until_cancelled")
    async def until_cancelled(_payload: dict[str, Any], ctx: JobContext) -> None:
        running.append(ctx.worker_id)
        try:
            await asyncio.sleep(3600)
        finally:
            cancelled.append((ctx.cancelled, ctx.job_id, time.time()))

    url = await serve(create_app(tasks=[until_cancelled]))
    for worker in ("worker-one", "worker-two"):
        port = str(free_port())
        variables = {"HOSTNAME": worker, "JOBS_CONCURRENCY": "1", "JOBS_LEASE_SECONDS": "60"}
        variables |= {"INTERNAL_JOBS_CALLBACK_PORT": port, "JOBS_CALLBACK_HOST": LOOPBACK}
        process = await spawn("jobfn", "service", DATABASE_URL=database, KNATIVE_SERVICE_URL=url, **variables)
        await process.until("looking for jobs")
        await jobs.add("until_cancelled")

        async def is_running(workers: int = len(running) + 1) -> bool:
            return len(running) == workers

        await eventually(is_running, seconds=WAIT_SECONDS)
    assert running == ["worker-one", "worker-two"]
    result = await command("jobfn", "jobs", "cancel", "1", "2", "--running", "--yes", DATABASE_URL=database)
    assert result.code == 0, result.output

    async def are_cancelled() -> bool:
        return len(cancelled) == 2

    await eventually(are_cancelled, seconds=WAIT_SECONDS)
    assert sorted(each[:2] for each in cancelled) == [(True, 1), (True, 2)]
    assert await jobs.values(1, "ended_as", "last_error") == ("cancelled", "cancelled by hand")
    assert await jobs.values(2, "ended_as", "last_error") == ("cancelled", "cancelled by hand")
    for _, job, stopped_at in cancelled:
        assert job is not None
        assert_arrived("workers of two processes", await cancelled_at(jobs, job), stopped_at)


@pytest.mark.parametrize("schema", [PLATFORM_SCHEMA, NEWEST_PLATFORM_SCHEMA], ids=["published", "newest"])
async def test_handler_of_the_platform_schema_is_stopped(empty_database: str, serve: Serve, schema: str) -> None:
    handler = Handler()
    async with (
        contextlib.AsyncExitStack() as stack,
        asyncpg.create_pool(empty_database, min_size=1, max_size=2) as pool,
    ):
        await pool.execute(schema)
        listener = bind(LOOPBACK, 0)
        settings = ServiceSettings.from_environ(
            {},
            database_url=empty_database,
            gateway_url=await serve(handler.app()),
            own_callback_url=f"http://{LOOPBACK}:{listener.getsockname()[1]}/callback",
            worker_id=WORKER,
            lease_seconds=60.0,
        )
        await start_in_loop(stack, settings, roles=[ServiceRole.WORKER, ServiceRole.CALLBACKS], listener=listener)
        job = await pool.fetchval(
            "insert into app_jobs.jobs (database_id, task_identifier) values ($1, 'until_cancelled') returning id",
            TENANT,
        )
        await pool.execute("select pg_notify('jobs:insert', '')")
        async with asyncio.timeout(WAIT_SECONDS):
            await handler.started.wait()
        operations = await open_operations(pool, "app_jobs")
        assert (await operations.apply(Action.CANCEL, [job])).skipped[0].reason.startswith("it is running")
        started_at = time.time()
        assert (await operations.apply(Action.CANCEL, [job], include_running=True, reason="no")).ids == (job,)
        async with asyncio.timeout(WAIT_SECONDS):
            await handler.ended.wait()
        assert handler.seen == [("cleaned up", True)]
        row = await pool.fetchrow("select locked_by, last_error, attempts = max_attempts from app_jobs.jobs")
        assert row is not None
        assert tuple(row) == (None, "cancelled: no", True)
        assert_arrived("the platform's schema", started_at, handler.stopped_at[job])
