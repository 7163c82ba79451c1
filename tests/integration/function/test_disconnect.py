"""Clients that go away: before the body is whole nothing runs, afterwards the work is finished and reported."""

import asyncio
import contextlib
from typing import Any

import pytest
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.testing import capture_logs

from jobfn import FunctionApp, create_app, task
from support.fixtures import Serve
from support.function_app import PATIENT, CallbackServer, HandMade, job_headers


class PassingOn(BaseHTTPMiddleware):
    """Starlette's own kind, which runs the app in a task group."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


class Work:
    """A task that says when it started, waits to be let on, and says that it ended."""

    def __init__(self) -> None:
        self.started, self.gate, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

        @task("work")
        async def work(payload: dict[str, Any]) -> None:
            self.started.set()
            await self.gate.wait()
            self.ended.set()

        self.task = work

    def app(self, *middleware: Middleware) -> FunctionApp:
        """An app with this task alone."""
        return create_app(tasks=[self.task], settings=PATIENT, middleware=middleware)


def request_of(headers: dict[str, str], body: bytes, *, length: int) -> bytes:
    """A request that may promise more than it sends."""
    lines = [f"{name}: {value}" for name, value in {**headers, "Host": "x", "Content-Length": str(length)}.items()]
    return "\r\n".join(["POST /work HTTP/1.1", *lines, "", ""]).encode() + body


@contextlib.asynccontextmanager
async def connected(url: str) -> Any:
    """A raw connection."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


@pytest.mark.parametrize("middleware", [[], [Middleware(PassingOn)]], ids=["plain", "middleware"])
async def test_a_client_that_leaves_while_it_sends_starts_nothing(
    middleware: list[Middleware], serve: Serve, callbacks: CallbackServer
) -> None:
    """Half a body is no delivery: no handler, no report, and the server takes the next one."""
    work = Work()
    url = await serve(work.app(*middleware))
    with capture_logs() as lines:
        async with connected(url) as (_, writer):
            writer.write(request_of(job_headers(callbacks.url), b'{"a"', length=100))
            await writer.drain()
    work.gate.set()
    async with connected(url) as (reader, writer):
        writer.write(request_of(job_headers(callbacks.url, 43), b"{}", length=2))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    assert [report.headers["x-job-id"] for report in callbacks.received] == ["43"]
    assert lines == []


@pytest.mark.parametrize("middleware", [[], [Middleware(PassingOn)]], ids=["plain", "middleware"])
async def test_a_client_that_leaves_while_the_handler_runs_changes_nothing(
    middleware: list[Middleware], serve: Serve, callbacks: CallbackServer
) -> None:
    """The handler ends and its success is reported: a worker that timed out hears of it all the same."""
    work = Work()
    url = await serve(work.app(*middleware))
    async with connected(url) as (_, writer):
        writer.write(request_of(job_headers(callbacks.url), b"{}", length=2))
        await work.started.wait()
    await asyncio.sleep(0)
    assert not work.ended.is_set()
    work.gate.set()
    [report] = await callbacks.until(1)
    assert work.ended.is_set()
    assert report.body == {"status": "success"}


async def test_a_server_that_says_so_by_an_error_is_believed(callbacks: CallbackServer) -> None:
    """Some servers raise OSError from send when the client is gone; the report is out, so that is no failure."""
    work = Work()
    work.gate.set()
    by_hand = HandMade([{"type": "http.request", "body": b"{}"}])

    async def gone(_message: object) -> None:
        raise BrokenPipeError

    app = work.app()
    async with app.lifespan_context():
        await app(by_hand.scope("/work", job_headers(callbacks.url)), by_hand.receive, gone)
    assert [report.body for report in callbacks.received] == [{"status": "success"}]


async def test_a_disconnect_instead_of_a_body_is_silence() -> None:
    """Nothing is sent to nobody."""
    work = Work()
    by_hand = HandMade([{"type": "http.disconnect"}])
    await work.app()(by_hand.scope("/work"), by_hand.receive, by_hand.send)
    assert by_hand.sent == []
    assert not work.started.is_set()


async def test_a_delivery_that_is_cancelled_is_reported_as_failed(callbacks: CallbackServer) -> None:
    """A server that stops waits only so long: the job is told, the caller answered, and the cancellation goes on."""
    work = Work()
    by_hand = HandMade([{"type": "http.request", "body": b"{}"}])
    app = work.app()
    async with app.lifespan_context():
        delivering = asyncio.create_task(
            app(by_hand.scope("/work", job_headers(callbacks.url)), by_hand.receive, by_hand.send)
        )
        await work.started.wait()
        delivering.cancel()
        await asyncio.wait({delivering})
    assert delivering.cancelled()
    assert by_hand.status == 503
    message = "the function was stopped before work finished"
    assert [report.body for report in callbacks.received] == [{"status": "error", "error": message}]
    assert not work.ended.is_set()


async def test_an_app_that_stops_waits_for_the_reports_of_what_was_cancelled(callbacks: CallbackServer) -> None:
    """The lifespan ends after handlers have cleaned up and their failures were heard, in that order."""
    order: list[str] = []
    started = asyncio.Event()

    @task("tidy")
    async def tidy(payload: dict[str, Any]) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            order.append("handler")

    @contextlib.asynccontextmanager
    async def lifespan(_app: FunctionApp) -> Any:
        yield
        order.append("lifespan")

    app = create_app(tasks=[tidy], settings=PATIENT, lifespan=lifespan)
    by_hand = HandMade([{"type": "http.request", "body": b"{}"}])
    callbacks.behave(503, 200)
    async with app.lifespan_context():
        delivering = asyncio.create_task(
            app(by_hand.scope("/tidy", job_headers(callbacks.url)), by_hand.receive, by_hand.send)
        )
        await started.wait()
        delivering.cancel()
    assert order == ["handler", "lifespan"]
    assert [report.body["status"] for report in callbacks.received] == ["error", "error"]
    await asyncio.wait({delivering})


async def test_a_delivery_that_is_cancelled_while_it_reports_leaves_the_report_under_way(
    callbacks: CallbackServer,
) -> None:
    """The work was done: that it was is told."""
    work = Work()
    work.gate.set()
    by_hand = HandMade([{"type": "http.request", "body": b"{}"}])
    callbacks.behave("hang")
    app = work.app()
    async with app.lifespan_context():
        delivering = asyncio.create_task(
            app(by_hand.scope("/work", job_headers(callbacks.url)), by_hand.receive, by_hand.send)
        )
        await callbacks.until(1)
        delivering.cancel()
        await asyncio.wait({delivering})
        callbacks.release()
    assert delivering.cancelled()
    assert [report.body for report in callbacks.received] == [{"status": "success"}]


class TimeLimit:
    """Middleware of a user's that ends what takes too long."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await self.app(scope, receive, send)


async def test_middleware_may_end_a_delivery(callbacks: CallbackServer) -> None:
    """A time limit around the app works as it does around any: its own cancellation reaches it, once reported."""
    work = Work()
    by_hand = HandMade([{"type": "http.request", "body": b"{}"}])
    app = work.app(Middleware(TimeLimit))
    async with app.lifespan_context():
        await app(by_hand.scope("/work", job_headers(callbacks.url)), by_hand.receive, by_hand.send)
    assert [report.body["status"] for report in callbacks.received] == ["error"]
    assert by_hand.status == 503
