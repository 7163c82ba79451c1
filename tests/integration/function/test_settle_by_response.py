"""Jobs whose response settles them, because the worker offers it (contract, section 7)."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from jobfn import FunctionApp, PermanentError, create_app, task
from support.fixtures import Serve
from support.function_app import OPTIONAL_HEADERS, SECRET, WAIT_FOR_REPORT, AsgiRequest, CallbackServer, job_headers
from support.http import turns

OFFER = {"X-Settle-On": "response"}


class PassThrough(BaseHTTPMiddleware):
    """Middleware that runs the app in a task group, as Starlette's base class does."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


WITH_AND_WITHOUT_MIDDLEWARE = pytest.mark.parametrize(
    "middleware", [[], [Middleware(PassThrough)]], ids=["plain", "middleware"]
)


class GatedTask:
    """A task that succeeds, fails, or waits for ``gate``."""

    def __init__(self) -> None:
        self.started, self.gate = asyncio.Event(), asyncio.Event()

        @task("work")
        async def work(payload: str) -> str:
            self.started.set()
            if payload == "wait":
                await self.gate.wait()
            if payload == "fail":
                raise PermanentError("closed")
            return "result"

        self.task = work

    def app(self, *middleware: Middleware, **settings: Any) -> FunctionApp:
        return create_app(
            tasks=[self.task], settings=WAIT_FOR_REPORT.model_copy(update=settings), middleware=middleware
        )


@pytest.fixture
async def work() -> GatedTask:
    return GatedTask()


@WITH_AND_WITHOUT_MIDDLEWARE
async def test_offer_is_accepted_and_no_report_is_sent(
    middleware: list[Middleware], work: GatedTask, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    url = await serve(work.app(*middleware))
    headers = job_headers(callbacks.url) | OPTIONAL_HEADERS | OFFER
    response = await http.post(f"{url}/work", json="x", headers=headers)
    assert (response.status_code, response.json()) == (200, "result")
    assert response.headers["x-settle-on"] == "response"
    for name, value in OPTIONAL_HEADERS.items():
        assert response.headers[name] == value
    assert callbacks.received == []


@pytest.mark.parametrize(
    ("path", "content", "headers", "status", "message"),
    [
        ("/work", b'"fail"', {}, 500, "closed"),
        ("/work", b"7", {}, 422, "Input should be a valid string"),
        ("/work", b"{", {}, 400, "The body is not valid JSON"),
        ("/work", b'"' + b"x" * 100 + b'"', {}, 413, "The body is over 100 bytes"),
        ("/work", b'"x"', {"Content-Type": "text/plain"}, 415, "Content-Type text/plain is not supported"),
        ("/work", b'"x"', {"X-Job-Attempt": "first"}, 400, "X-Job-Attempt must be a whole number"),
        ("/work", b'"x"', {"X-Job-Id": "seven"}, 400, "X-Job-Id must be a whole number"),
        ("/other", b'"x"', {}, 404, "No task 'other' here. Known: work"),
    ],
)
async def test_failure_is_settled_by_its_response(
    path: str,
    content: bytes,
    headers: dict[str, str],
    status: int,
    message: str,
    work: GatedTask,
    serve: Serve,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
) -> None:
    url = await serve(work.app(max_body_bytes=100))
    headers = {"Content-Type": "application/json"} | job_headers(callbacks.url) | OFFER | headers
    response = await http.post(f"{url}{path}", content=content, headers=headers)
    assert response.status_code == status
    assert message in response.json()["message"]
    assert (response.headers["x-settle-on"], response.headers["x-job-error"]) == ("response", "true")
    assert callbacks.received == []


async def test_unauthorized_worker_gets_no_report(
    work: GatedTask, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    url = await serve(work.app(invoke_secrets=[SECRET]))
    response = await http.post(f"{url}/work", json="x", headers=job_headers(callbacks.url) | OFFER)
    assert (response.status_code, work.started.is_set(), callbacks.received) == (401, False, [])


@pytest.mark.parametrize("offer", [{}, {"X-Settle-On": "report"}, {"X-Settle-On": ""}, {"X-Settle-On": "RESPONSE"}])
async def test_without_the_offer_the_outcome_is_reported(
    offer: dict[str, str], work: GatedTask, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """As to a Node worker, which knows no offer."""
    url = await serve(work.app())
    response = await http.post(f"{url}/work", json="fail", headers=job_headers(callbacks.url) | offer)
    assert not {"x-settle-on", "x-accept-batch", "x-handler-seconds"} & set(response.headers)
    assert [report.body for report in callbacks.received] == [{"status": "error", "error": "closed", "permanent": True}]


async def test_background_job_is_reported(serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer) -> None:
    finish = asyncio.Event()

    @task("long", background=True)
    async def long(payload: None) -> None:
        await finish.wait()

    settings = WAIT_FOR_REPORT.model_copy(update={"max_background_jobs": 1})
    url = await serve(create_app(tasks=[long], settings=settings))
    accepted = await http.post(f"{url}/long", json=None, headers=job_headers(callbacks.url) | OFFER)
    assert (accepted.status_code, "x-settle-on" in accepted.headers) == (202, False)
    busy = await http.post(f"{url}/long", json=None, headers=job_headers(callbacks.url, 43) | OFFER)
    assert (busy.status_code, busy.headers["retry-after"], "x-job-error" in busy.headers) == (429, "1", False)
    assert callbacks.received == []
    finish.set()
    reports = await callbacks.wait_for(1)
    assert [(report.headers["x-job-id"], report.body) for report in reports] == [("42", {"status": "success"})]


@WITH_AND_WITHOUT_MIDDLEWARE
@pytest.mark.parametrize("callback_url", ["{callbacks}", None])
async def test_outcome_is_reported_if_the_worker_has_disconnected(
    callback_url: str | None, middleware: list[Middleware], work: GatedTask, serve: Serve, callbacks: CallbackServer
) -> None:
    """If it sent a callback URL; a worker that did not runs the job again."""
    url = await serve(work.app(*middleware))
    headers = job_headers(callbacks.url if callback_url else None) | OFFER
    lines = [f"{name}: {value}" for name, value in {**headers, "Host": "x", "Content-Length": "6"}.items()]
    host, _, port = url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write("\r\n".join(["POST /work HTTP/1.1", *lines, "", '"wait"']).encode())
    await work.started.wait()
    writer.close()
    await turns(20)  # the server learns of it
    work.gate.set()
    if callback_url is None:
        await turns(20)
        assert callbacks.received == []
    else:
        [report] = await callbacks.wait_for(1)
        assert (report.body, report.headers["x-job-id"]) == ({"status": "success"}, "42")


def deliver(app: FunctionApp, headers: dict[str, str], request: AsgiRequest) -> "asyncio.Task[None]":
    async def call() -> None:
        await app(request.scope("/work", headers), request.receive, request.send)

    return asyncio.create_task(call())


def response_headers(request: AsgiRequest) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in request.sent[0]["headers"]}


async def test_cancelled_delivery_is_reported_and_answered_without_settling(
    work: GatedTask, callbacks: CallbackServer
) -> None:
    """As a server does that stops. The report decides, should the response arrive nevertheless."""
    request = AsgiRequest([{"type": "http.request", "body": b'"wait"'}])
    app = work.app()
    async with app.lifespan_context():
        delivery = deliver(app, job_headers(callbacks.url) | OFFER, request)
        await work.started.wait()
        delivery.cancel()
        await asyncio.wait({delivery})
    assert delivery.cancelled()
    message = "the function was stopped before work finished"
    assert [report.body for report in callbacks.received] == [{"status": "error", "error": message}]
    assert request.status == 503
    assert json.loads(request.sent[1]["body"]) == {"message": message, "code": "F503"}
    assert "x-settle-on" not in response_headers(request)


async def test_delivery_that_is_cancelled_before_it_responds_is_reported(
    work: GatedTask, callbacks: CallbackServer
) -> None:
    """The handler has ended; the cancellation arrives while the app looks for a disconnect."""
    request = AsgiRequest([{"type": "http.request", "body": b'"x"'}])

    async def receive() -> Message:
        if request.receive_count == 0:
            return await request.receive()
        delivery.cancel()
        never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return await never

    async def call() -> None:
        await app(request.scope("/work", job_headers(callbacks.url) | OFFER), receive, request.send)

    app = work.app()
    async with app.lifespan_context():
        delivery = asyncio.create_task(call())
        await asyncio.wait({delivery})
    assert delivery.cancelled()
    assert [report.body for report in callbacks.received] == [{"status": "success"}]
    assert "x-settle-on" not in response_headers(request)


async def test_limit_of_a_task_is_in_its_responses_and_in_the_list(serve: Serve, http: httpx.AsyncClient) -> None:
    """So that the worker can apply it if a handler kills the process."""

    @task("limited", max_attempts=3)
    async def limited(payload: None) -> None: ...

    @task("unlimited")
    async def unlimited(payload: None) -> None: ...

    url = await serve(create_app(tasks=[limited, unlimited]))
    limits = [
        (await http.post(f"{url}/{name}", content=b"null")).headers.get("x-max-attempts")
        for name in ("limited", "unlimited")
    ]
    assert limits == ["3", None]
    assert [each.get("max_attempts") for each in (await http.get(f"{url}/")).json()["tasks"]] == [3, None]
