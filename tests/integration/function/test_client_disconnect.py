"""Disconnects and cancellations: an incomplete request runs nothing, a running handler is finished and reported."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from structlog.testing import capture_logs

from jobfn import FunctionApp, create_app, task
from support.fixtures import Serve
from support.function_app import WAIT_FOR_REPORT, AsgiRequest, CallbackServer, job_headers


class PassThrough(BaseHTTPMiddleware):
    """Middleware that runs the app in a task group, as Starlette's base class does."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


class GatedTask:
    """A task that waits for ``gate``."""

    def __init__(self) -> None:
        self.started, self.gate, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

        @task("work")
        async def work(payload: dict[str, Any]) -> None:
            self.started.set()
            await self.gate.wait()
            self.ended.set()

        self.task = work

    def app(self, *middleware: Middleware) -> FunctionApp:
        return create_app(tasks=[self.task], settings=WAIT_FOR_REPORT, middleware=middleware)


@pytest.fixture
async def work() -> GatedTask:
    return GatedTask()


def raw_request(headers: dict[str, str], body: bytes, *, length: int) -> bytes:
    """Return a request whose Content-Length may exceed its body."""
    lines = [f"{name}: {value}" for name, value in {**headers, "Host": "x", "Content-Length": str(length)}.items()]
    return "\r\n".join(["POST /work HTTP/1.1", *lines, "", ""]).encode() + body


@contextlib.asynccontextmanager
async def connect(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


WITH_AND_WITHOUT_MIDDLEWARE = pytest.mark.parametrize(
    "middleware", [[], [Middleware(PassThrough)]], ids=["plain", "middleware"]
)


@WITH_AND_WITHOUT_MIDDLEWARE
async def test_client_that_disconnects_within_its_body_starts_nothing(
    middleware: list[Middleware], work: GatedTask, serve: Serve, callbacks: CallbackServer
) -> None:
    url = await serve(work.app(*middleware))
    with capture_logs() as lines:
        async with connect(url) as (_, writer):
            writer.write(raw_request(job_headers(callbacks.url), b'{"a"', length=100))
            await writer.drain()
    work.gate.set()
    async with connect(url) as (reader, writer):
        writer.write(raw_request(job_headers(callbacks.url, 43), b"{}", length=2))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    assert [report.headers["x-job-id"] for report in callbacks.received] == ["43"]
    assert lines == []


@WITH_AND_WITHOUT_MIDDLEWARE
async def test_handler_whose_client_disconnects_is_finished_and_reported(
    middleware: list[Middleware], work: GatedTask, serve: Serve, callbacks: CallbackServer
) -> None:
    url = await serve(work.app(*middleware))
    async with connect(url) as (_, writer):
        writer.write(raw_request(job_headers(callbacks.url), b"{}", length=2))
        await work.started.wait()
    await asyncio.sleep(0)
    assert not work.ended.is_set()
    work.gate.set()
    [report] = await callbacks.wait_for(1)
    assert work.ended.is_set()
    assert report.body == {"status": "success"}


async def test_os_error_of_send_is_ignored_after_the_report(work: GatedTask, callbacks: CallbackServer) -> None:
    """Some ASGI servers raise OSError when the client has disconnected."""
    work.gate.set()
    request = AsgiRequest()

    async def send(_message: object) -> None:
        raise BrokenPipeError

    app = work.app()
    async with app.lifespan_context():
        await app(request.scope("/work", job_headers(callbacks.url)), request.receive, send)
    assert [report.body for report in callbacks.received] == [{"status": "success"}]


async def test_disconnect_instead_of_a_body_is_not_answered(work: GatedTask) -> None:
    request = AsgiRequest([{"type": "http.disconnect"}])
    await work.app()(request.scope("/work"), request.receive, request.send)
    assert request.sent == []
    assert not work.started.is_set()


def deliver(app: FunctionApp, path: str, callbacks: CallbackServer, request: AsgiRequest) -> "asyncio.Task[None]":
    scope = request.scope(path, job_headers(callbacks.url))

    async def call() -> None:
        await app(scope, request.receive, request.send)

    return asyncio.create_task(call())


async def test_cancelled_delivery_is_answered_reported_and_stays_cancelled(
    work: GatedTask, callbacks: CallbackServer
) -> None:
    request = AsgiRequest()
    app = work.app()
    async with app.lifespan_context():
        delivery = deliver(app, "/work", callbacks, request)
        await work.started.wait()
        delivery.cancel()
        await asyncio.wait({delivery})
    assert delivery.cancelled()
    assert request.status == 503
    message = "the function was stopped before work finished"
    assert [report.body for report in callbacks.received] == [{"status": "error", "error": message}]
    assert not work.ended.is_set()


async def test_shutdown_waits_for_cancelled_handlers_and_their_reports(callbacks: CallbackServer) -> None:
    events: list[str] = []
    started = asyncio.Event()

    @task("clean_up")
    async def clean_up(payload: dict[str, Any]) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            events.append("handler")

    @contextlib.asynccontextmanager
    async def lifespan(_app: FunctionApp) -> AsyncIterator[None]:
        yield
        events.append("lifespan")

    app = create_app(tasks=[clean_up], settings=WAIT_FOR_REPORT, lifespan=lifespan)
    callbacks.respond_with(503, 200)
    async with app.lifespan_context():
        delivery = deliver(app, "/clean_up", callbacks, AsgiRequest())
        await started.wait()
        delivery.cancel()
    assert events == ["handler", "lifespan"]
    assert [report.body["status"] for report in callbacks.received] == ["error", "error"]
    await asyncio.wait({delivery})


async def test_delivery_that_is_cancelled_while_it_reports_keeps_its_report(
    work: GatedTask, callbacks: CallbackServer
) -> None:
    work.gate.set()
    callbacks.respond_with("hang")
    app = work.app()
    async with app.lifespan_context():
        delivery = deliver(app, "/work", callbacks, AsgiRequest())
        await callbacks.wait_for(1)
        delivery.cancel()
        await asyncio.wait({delivery})
        callbacks.release()
    assert delivery.cancelled()
    assert [report.body for report in callbacks.received] == [{"status": "success"}]
