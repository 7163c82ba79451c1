"""Batches whose worker disconnects, and batches that are cancelled: what has run is reported."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.types import Message
from structlog.testing import capture_logs

from jobfn import FunctionApp, create_app, task
from support.batch_request import (
    Recorder,
    batch,
    done,
    failed,
    not_started,
    parse,
    shared_headers,
)
from support.fixtures import Serve
from support.function_app import WAIT_FOR_REPORT, AsgiRequest, CallbackServer
from support.http import turns

#: A traceback for people would take most of a batch's time.
pytestmark = pytest.mark.usefixtures("log_stream")


@contextlib.asynccontextmanager
async def connect(url: str) -> AsyncIterator[asyncio.StreamWriter]:
    host, _, port = url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    try:
        yield writer
    finally:
        writer.close()


def raw_request(path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"{name}: {value}" for name, value in {**headers, "Host": "x", "Content-Length": str(len(body))}.items()]
    return "\r\n".join([f"POST {path} HTTP/1.1", *lines, "", ""]).encode() + body


async def test_outcomes_are_reported_if_the_worker_disconnects(serve: Serve, callbacks: CallbackServer) -> None:
    blocked, gate = asyncio.Event(), asyncio.Event()

    @task("work")
    async def work(payload: str) -> None:
        if payload == "fail":
            raise ValueError("no")
        if payload == "block":
            blocked.set()
            await gate.wait()

    url = await serve(create_app(tasks=[work], settings=WAIT_FOR_REPORT))
    async with connect(url) as writer:
        body = batch("quick", "fail", "block")
        writer.write(raw_request("/work/batch", shared_headers(callbacks.url), body))
        await blocked.wait()
    await turns(10)  # the server learns of it
    gate.set()
    reports = await callbacks.wait_for(3)
    assert {report.headers["x-job-id"]: report.body for report in reports} == {
        "1": {"status": "success"},
        "2": {"status": "error", "error": "no"},
        "3": {"status": "success"},
    }


async def test_accepted_background_jobs_are_not_reported_as_done_if_the_worker_disconnects(
    serve: Serve, callbacks: CallbackServer
) -> None:
    finish = asyncio.Event()

    @task("long", background=True)
    async def long(payload: str) -> None:
        await finish.wait()

    app = create_app(tasks=[long], settings=WAIT_FOR_REPORT)
    messages: list[Message] = [
        {"type": "http.request", "body": batch("x", "y")},
        {"type": "http.disconnect"},
    ]
    request = AsgiRequest(messages)
    async with app.lifespan_context():
        await app(request.scope("/long/batch", shared_headers(callbacks.url)), request.receive, request.send)
        assert callbacks.received == []
        finish.set()
        reports = await callbacks.wait_for(2)
    assert sorted((report.headers["x-job-id"], report.body["status"]) for report in reports) == [
        ("1", "success"),
        ("2", "success"),
    ]


def deliver(app: FunctionApp, callbacks: CallbackServer, request: AsgiRequest) -> "asyncio.Task[None]":
    async def call() -> None:
        await app(request.scope("/record/batch", shared_headers(callbacks.url)), request.receive, request.send)

    return asyncio.create_task(call())


def content_of(request: AsgiRequest) -> bytes:
    return b"".join(message.get("body", b"") for message in request.sent)


async def test_cancelled_batch_reports_what_ran_and_returns_the_rest(
    recorder: Recorder, callbacks: CallbackServer
) -> None:
    """As a server does that stops."""
    request = AsgiRequest([{"type": "http.request", "body": batch("quick", "block", "behind")}])
    app = recorder.app()
    async with app.lifespan_context():
        delivery = deliver(app, callbacks, request)
        await recorder.blocked.wait()
        delivery.cancel()
        await asyncio.wait({delivery})
    assert delivery.cancelled()
    stopped = "the function was stopped before record finished"
    assert {report.headers["x-job-id"]: report.body for report in callbacks.received} == {
        "1": {"status": "success"},
        "2": {"status": "error", "error": stopped},
    }
    assert parse(content_of(request)) == [*done(1), failed(2, 503, stopped), *not_started(3)]


async def test_batch_that_is_cancelled_before_it_responds_is_reported(
    recorder: Recorder, callbacks: CallbackServer
) -> None:
    """The jobs have run; the cancellation arrives while the app looks for a disconnect."""
    request = AsgiRequest([{"type": "http.request", "body": batch(1, 2)}])
    app = recorder.app()

    async def receive() -> Message:
        if request.receive_count == 0:
            return await request.receive()
        delivery.cancel()
        never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return await never

    async def call() -> None:
        await app(request.scope("/record/batch", shared_headers(callbacks.url)), receive, request.send)

    async with app.lifespan_context():
        delivery = asyncio.create_task(call())
        await asyncio.wait({delivery})
    assert delivery.cancelled()
    assert [report.headers["x-job-id"] for report in callbacks.received] == ["1", "2"]


async def test_batch_that_is_cancelled_between_jobs_returns_the_rest(callbacks: CallbackServer) -> None:
    """The batch yields to the event loop after 5 ms."""
    ran: list[int] = []

    @task("record")
    async def record(payload: int) -> None:
        ran.append(payload)
        time.sleep(0.006)  # noqa: ASYNC251  - as a computation does
        asyncio.get_running_loop().call_soon(delivery.cancel)

    app = create_app(tasks=[record], settings=WAIT_FOR_REPORT)
    request = AsgiRequest([{"type": "http.request", "body": batch(1, 2)}])
    async with app.lifespan_context():
        delivery = deliver(app, callbacks, request)
        await asyncio.wait({delivery})
    assert (delivery.cancelled(), ran) == (True, [1])
    assert [report.headers["x-job-id"] for report in callbacks.received] == ["1"]
    assert parse(content_of(request)) == [*done(1), *not_started(2)]


async def test_streamed_batch_that_is_cancelled_reports_the_running_job(
    recorder: Recorder, callbacks: CallbackServer
) -> None:
    request = AsgiRequest([{"type": "http.request", "body": batch("quick", "block", "behind")}])
    sent = asyncio.Event()

    async def send(message: Message) -> None:
        await request.send(message)
        if message.get("body"):
            sent.set()

    app = recorder.app()
    async with app.lifespan_context():

        async def call() -> None:
            await app(request.scope("/record/batch", shared_headers(callbacks.url)), request.receive, send)

        delivery = asyncio.create_task(call())
        await sent.wait()
        delivery.cancel()
        await asyncio.wait({delivery})
    assert delivery.cancelled()
    stopped = "the function was stopped before record finished"
    assert [(report.headers["x-job-id"], report.body["error"]) for report in callbacks.received] == [("2", stopped)]
    assert parse(content_of(request)) == [*done(1), *not_started(3), failed(2, 503, stopped)]
    assert [message.get("more_body") for message in request.sent] == [None, True, False]


async def test_handler_that_cancels_its_own_task_ends_the_batch_for_no_other_job(
    serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    ran: list[str] = []

    @task("rude")
    async def rude(payload: str) -> None:
        ran.append(payload)
        if payload == "cancel":
            current = asyncio.current_task()
            assert current is not None
            current.cancel()

    url = await serve(create_app(tasks=[rude], settings=WAIT_FOR_REPORT))
    response = await http.post(
        f"{url}/rude/batch", content=batch("a", "cancel", "b"), headers=shared_headers(callbacks.url)
    )
    assert parse(response.content) == [*done(1, 2), *not_started(3)]
    assert ran == ["a", "cancel"]


async def test_incomplete_request_runs_nothing(recorder: Recorder, serve: Serve, http: httpx.AsyncClient) -> None:
    url = await serve(recorder.app())
    with capture_logs() as lines:
        async with connect(url) as writer:
            writer.write(raw_request("/record/batch", shared_headers(), batch(1, 2))[:-5])
            await writer.drain()
        await turns(10)
    response = await http.post(f"{url}/record/batch", content=batch(3), headers=shared_headers())
    assert (parse(response.content), recorder.payloads, lines) == (done(1), [3], [])
