"""Several jobs of one task in one request (contract, section 7)."""

import asyncio
import contextlib
import io
import json
import time
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import httpx
import pytest
import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import Message
from structlog.testing import capture_logs

from jobfn import FunctionApp, FunctionSettings, JobContext, PermanentError, RetryLater, Task, create_app, task
from jobfn.telemetry import logs
from support.fixtures import Serve
from support.function_app import SECRET, WAIT_FOR_REPORT, AsgiRequest, CallbackServer
from support.http import turns
from support.jobs import TENANT

CONTENT_TYPE = "application/x-ndjson"


def batch(*payloads: object, **headers: str) -> bytes:
    """Return a request with these payloads, for jobs 1, 2 and so on; bytes are sent unchanged."""
    lines: list[bytes] = []
    for number, payload in enumerate(payloads, start=1):
        own = {"X-Job-Id": str(number), "X-Job-Attempt": "1"} | headers
        lines += [json.dumps(own).encode(), payload if isinstance(payload, bytes) else json.dumps(payload).encode()]
    return b"".join(line + b"\n" for line in lines)


def shared_headers(callback_url: str | None = None, **others: str) -> dict[str, str]:
    """Return the headers of a request; others by name, with underscores."""
    headers = {"Content-Type": CONTENT_TYPE, "X-Worker-Id": "worker-7", "X-Settle-On": "response"}
    if callback_url is not None:
        headers["X-Callback-Url"] = callback_url
    return headers | {name.replace("_", "-"): value for name, value in others.items()}


def parse(content: bytes) -> list[dict[str, Any]]:
    """Return the lines of a response without the durations, which are numbers of at least 0."""
    lines = [json.loads(line) for line in content.splitlines()]
    for line in lines:
        assert line.pop("seconds", 0.0) >= 0.0
    return lines


async def run_jobs(http: httpx.AsyncClient, url: str, body: bytes, headers: dict[str, str]) -> list[dict[str, Any]]:
    """Send a batch, as a worker does: the jobs that were not started are sent again. Return a line for each job."""
    lines: dict[str, dict[str, Any]] = {}  # in the order of the jobs
    while body:
        response = await http.post(url, content=body, headers=headers)
        assert (response.status_code, response.headers["content-type"]) == (200, CONTENT_TYPE)
        raw_lines = body.split(b"\n")
        jobs = [(own + b"\n", payload + b"\n") for own, payload in zip(raw_lines[::2], raw_lines[1::2], strict=False)]
        parsed = parse(response.content)
        assert len(parsed) == len(jobs)
        lines = lines or {str(json.loads(own)["X-Job-Id"]): {} for own, _ in jobs}
        lines |= {line["job"]: line for line in parsed}
        waiting = {line["job"] for line in parsed if line.get("started") is False}
        body = b"".join(own + payload for own, payload in jobs if str(json.loads(own).get("X-Job-Id")) in waiting)
    return list(lines.values())


def failed(job: int, status: int, message: str, headers: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """Return the line of a job that failed."""
    body = json.dumps({"message": message, **more})
    return {"job": str(job), "status": status, "headers": headers or {"X-Job-Error": "true"}, "body": body}


def done(*jobs: int) -> list[dict[str, Any]]:
    """Return the lines of jobs that succeeded."""
    return [{"job": str(job), "status": 200} for job in jobs]


def not_started(*jobs: int) -> list[dict[str, Any]]:
    """Return the lines of jobs that go back to the worker."""
    return [{"job": str(job), "started": False} for job in jobs]


@pytest.fixture(autouse=True)
def stream(undo_logging: None, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """The log, as jobfn configures it: a traceback for people would take most of a batch's time."""
    for variable in ("LOG_LEVEL", "K_SERVICE", "K_REVISION"):
        monkeypatch.delenv(variable, raising=False)
    recorded = io.StringIO()
    logs.configure(stream=recorded)
    return recorded


class Recorder:
    """A task that records its jobs, and waits for ``gate`` for one payload."""

    def __init__(self) -> None:
        self.contexts: list[JobContext] = []
        self.payloads: list[Any] = []
        self.blocked, self.gate = asyncio.Event(), asyncio.Event()

        @task("record")
        async def record(payload: Any, ctx: JobContext) -> str:
            self.contexts.append(ctx)
            self.payloads.append(payload)
            if payload == "block":
                self.blocked.set()
                await self.gate.wait()
            return "result"

        self.task = record

    def app(self, **settings: Any) -> FunctionApp:
        return create_app(tasks=[self.task], settings=WAIT_FOR_REPORT.model_copy(update=settings))


@pytest.fixture
async def recorder() -> Recorder:
    return Recorder()


async def test_jobs_run_in_order_each_with_its_own_payload_and_ids(
    recorder: Recorder, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    url = await serve(recorder.app())
    body = batch({"a": [1, "ü"]}) + (
        b'{"X-Job-Id": 9, "x-job-attempt": "2", "X-Worker-Id": "other", "X-Database-Id": "%b"}\nnull\n'
        % TENANT.encode()
    )
    assert await run_jobs(http, f"{url}/record/batch", body, shared_headers(callbacks.url)) == done(1, 9)
    assert recorder.payloads == [{"a": [1, "ü"]}, None]
    first, second = recorder.contexts
    assert (first.job_id, first.attempt, first.worker_id, first.database_id) == (1, 1, "worker-7", None)
    assert (second.job_id, second.attempt, second.worker_id, str(second.database_id)) == (9, 2, "other", TENANT)
    assert callbacks.received == [], "the response settles the jobs"


@pytest.mark.parametrize(
    "payload",
    [
        b'{"a": 1, "a": 2}',
        b"123456789012345678901234567890",
        b'[1.10, -0.0, 1e5,\t"\\u00fc\\n"]  ',
        '"日本 🎉 \u2028\u0085"'.encode(),
        b'"' + b"x" * 900_000 + b'"',
    ],
)
async def test_payload_means_what_it_means_in_a_request_alone(
    payload: bytes, recorder: Recorder, serve: Serve, http: httpx.AsyncClient
) -> None:
    url = await serve(recorder.app())
    alone = await http.post(f"{url}/record", content=payload, headers={"Content-Type": "application/json"})
    together = await run_jobs(http, f"{url}/record/batch", batch(payload), shared_headers())
    assert (alone.status_code, together) == (200, done(1))
    assert repr(recorder.payloads[0]) == repr(recorder.payloads[1])


async def test_failure_concerns_its_job_only(serve: Serve, http: httpx.AsyncClient) -> None:
    @task("fragile", timeout=0.02)
    async def fragile(payload: str) -> None:
        match payload:
            case "raise":
                raise ValueError("no such order")
            case "permanent":
                raise PermanentError("closed")
            case "later":
                raise RetryLater("busy", seconds=60)
            case "exit":
                raise SystemExit(1)
            case "hang":
                await asyncio.Event().wait()

    body = (
        batch("ok", "raise", "permanent", "later", "exit", 6, b"{", "x" * 100, "hang")
        + b'{"X-Job-Id": "10", "X-Job-Attempt": "first"}\n"ok"\n'
        + b'{"X-Job-Id": "eleven"}\n"ok"\n'
        + b'{"X-Job-Id": "12"}\n"ok"\n'
    )
    settings = FunctionSettings(max_body_bytes=100)
    url = await serve(create_app(tasks=[fragile], settings=settings))
    lines = await run_jobs(http, f"{url}/fragile/batch", body, shared_headers())
    invalid = json.loads(lines[5].pop("body"))
    assert invalid["permanent"] is True
    assert lines == [
        *done(1),
        failed(2, 500, "no such order"),
        failed(3, 500, "closed", permanent=True),
        failed(4, 500, "busy", retryAfterSeconds=60.0),
        failed(5, 500, "1"),
        {"job": "6", "status": 422, "headers": {"X-Job-Error": "true"}},
        failed(7, 400, json.loads(lines[6]["body"])["message"], permanent=True),
        failed(
            8,
            413,
            "The body is over 100 bytes (JOBFN_MAX_BODY_BYTES): send a reference instead of the data",
            permanent=True,
        ),
        failed(9, 504, "fragile did not finish within its timeout of 0.02 seconds"),
        failed(
            10,
            400,
            "X-Job-Attempt must be a whole number from 1 to 2147483647, in decimal digits: "
            "leave it out if there is none",
        ),
        {
            "job": "eleven",
            "status": 400,
            "headers": {"X-Job-Error": "true"},
            "body": json.dumps(
                {
                    "message": "X-Job-Id must be a whole number from 1 to 9223372036854775807, in decimal digits: "
                    "leave it out if there is none"
                }
            ),
        },
        *done(12),
    ]


async def test_results_are_in_the_lines_only_if_they_are_kept(serve: Serve, http: httpx.AsyncClient) -> None:
    @task("kept", keep_result=True)
    async def kept(payload: int) -> object:
        return {1: "ü", 2: object(), 3: "x" * 2_000_000}.get(payload)

    url = await serve(create_app(tasks=[kept]))
    lines = await run_jobs(http, f"{url}/kept/batch", batch(1, 2, 3, 4), shared_headers())
    keep = {"X-Keep-Result-Seconds": "86400"}
    problem = "its result is not JSON-serializable: see the function's log"
    too_large = "the result is larger than the 64 KiB limit: store it elsewhere and return a reference"
    assert lines == [
        {"job": "1", "status": 200, "headers": keep, "body": '"ü"'},
        {"job": "2", "status": 200, "headers": keep | {"X-Result-Problem": problem}},
        {"job": "3", "status": 200, "headers": keep | {"X-Result-Problem": too_large}},
        {"job": "4", "status": 200, "headers": keep, "body": "null"},
    ]


async def test_background_jobs_are_accepted_up_to_the_limit_and_reported_when_they_end(
    serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    finish = asyncio.Event()

    @task("long", background=True)
    async def long(payload: None) -> None:
        await finish.wait()

    settings = WAIT_FOR_REPORT.model_copy(update={"max_background_jobs": 2})
    url = await serve(create_app(tasks=[long], settings=settings))
    body = batch(None, None, None, "x")
    lines = await run_jobs(http, f"{url}/long/batch", body, shared_headers(callbacks.url))
    busy = "2 background jobs are running already (JOBFN_MAX_BACKGROUND_JOBS): retry later"
    accepted = json.dumps({"accepted": True})
    assert lines[:3] == [
        {"job": "1", "status": 202, "body": accepted},
        {"job": "2", "status": 202, "body": accepted},
        failed(3, 429, busy, {"Retry-After": "1"}),
    ]
    assert (lines[3]["job"], lines[3]["status"]) == ("4", 422)
    assert callbacks.received == []
    finish.set()
    reports = await callbacks.wait_for(2)
    assert [(report.headers["x-job-id"], report.body) for report in reports] == [
        ("1", {"status": "success"}),
        ("2", {"status": "success"}),
    ]


async def test_job_waits_no_longer_than_the_budget_for_a_slow_one(
    recorder: Recorder, serve: Serve, http: httpx.AsyncClient
) -> None:
    """The outcomes so far are sent, the jobs behind the slow one go back, and its outcome follows."""
    url = await serve(recorder.app())
    content = batch("quick", "block", "behind", "behind")
    async with http.stream("POST", f"{url}/record/batch", content=content, headers=shared_headers()) as response:
        parts = response.aiter_bytes()
        first = parse(await anext(parts))
        assert first == [*done(1), *not_started(3, 4)]
        recorder.gate.set()
        assert parse(b"".join([part async for part in parts])) == done(2)
    assert recorder.payloads == ["quick", "block"]


async def test_job_that_blocks_the_event_loop_ends_the_batch(serve: Serve, http: httpx.AsyncClient) -> None:
    @task("compute")
    async def compute(payload: float) -> None:
        time.sleep(payload)  # noqa: ASYNC251  - as a computation does

    url = await serve(create_app(tasks=[compute]))
    response = await http.post(f"{url}/compute/batch", content=batch(0, 0.06, 0, 0), headers=shared_headers())
    assert parse(response.content) == [*done(1, 2), *not_started(3, 4)]


async def test_long_batch_lets_other_requests_run(serve: Serve, http: httpx.AsyncClient) -> None:
    events: list[str] = []
    started, responded = asyncio.Event(), asyncio.Event()

    @task("compute")
    async def compute(payload: int) -> None:
        started.set()
        time.sleep(0.006)  # noqa: ASYNC251  - as a computation does
        events.append(f"job {payload}")

    url = await serve(create_app(tasks=[compute]))

    async def record_turns() -> None:
        await started.wait()
        while not responded.is_set():
            await asyncio.sleep(0)
            events.append("turn")

    recording = asyncio.create_task(record_turns())
    lines = await run_jobs(http, f"{url}/compute/batch", batch(1, 2, 3, 4), shared_headers())
    responded.set()
    await recording
    assert lines == done(1, 2, 3, 4)
    for number in (2, 3):  # after the first one, the recording task starts
        assert events[events.index(f"job {number}") + 1] == "turn"


REFUSED = [
    ("/record/batch", batch(1), {"X-Invoke-Secret": "wrong"}, 401, "X-Invoke-Secret is missing or wrong"),
    ("/record/batch", batch(1, X_Invoke_Secret=SECRET), {}, 401, "X-Invoke-Secret is missing or wrong"),
    ("/other/batch", batch(1), {"X-Invoke-Secret": SECRET}, 404, "No task at /other"),
    ("/record/batch", b"", {"X-Invoke-Secret": SECRET}, 400, "The body is not a batch of jobs: the body must have"),
    (
        "/record/batch",
        batch(1) + b"{}\n",
        {"X-Invoke-Secret": SECRET},
        400,
        "The body is not a batch of jobs: the body",
    ),
    (
        "/record/batch",
        batch(1) + b"x\n1\n",
        {"X-Invoke-Secret": SECRET},
        400,
        "The body is not a batch of jobs: line 3",
    ),
    (
        "/record/batch",
        batch("x" * 2**20),
        {"X-Invoke-Secret": SECRET},
        413,
        "The batch is over 1048576 bytes: send few",
    ),
    ("/record/batch/", batch(1), {"X-Invoke-Secret": SECRET}, 404, "No task 'record/batch/' here. Known: record"),
    (
        "/record/batch",
        batch(1),
        {"X-Invoke-Secret": SECRET, "Content-Type": "application/json"},
        404,
        "No task 'record/batch' here. Known: record",
    ),
]


@pytest.mark.parametrize(("path", "body", "headers", "status", "message"), REFUSED)
async def test_refused_request_runs_nothing_and_causes_no_report(
    path: str,
    body: bytes,
    headers: dict[str, str],
    status: int,
    message: str,
    recorder: Recorder,
    serve: Serve,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
) -> None:
    url = await serve(recorder.app(invoke_secrets=[SECRET]))
    response = await http.post(f"{url}{path}", content=body, headers=shared_headers(callbacks.url) | headers)
    assert response.status_code == status
    assert response.json()["message"].startswith(message)
    assert SECRET not in response.text
    assert (recorder.payloads, callbacks.received) == ([], [])


async def test_secret_of_the_request_is_that_of_all_its_jobs(
    recorder: Recorder, serve: Serve, http: httpx.AsyncClient
) -> None:
    url = await serve(recorder.app(invoke_secrets=["other", SECRET]))
    headers = shared_headers(X_Invoke_Secret=SECRET)
    lines = await run_jobs(http, f"{url}/record/batch", batch(1, 2), headers)
    assert (lines, recorder.payloads) == (done(1, 2), [1, 2])


@pytest.mark.parametrize(
    ("identifiers", "path", "ran"),
    [
        (["only"], "/batch", "only"),
        (["only"], "/only/batch", "only"),
        (["a/b", "a"], "/a%2Fb/batch", "a/b"),
        (["a/b", "a"], "/a/batch", "a"),
        (["a", "a/batch"], "/a/batch", "a"),
        (["a", "a/batch"], "/a%2Fbatch/batch", "a/batch"),
        (["batch", "a"], "/batch/batch", "batch"),
        (["日本 %", "a"], "/%E6%97%A5%E6%9C%AC%20%25/batch", "日本 %"),
    ],
)
async def test_path_is_that_of_the_task_and_batch(
    identifiers: list[str], path: str, ran: str, serve: Serve, http: httpx.AsyncClient
) -> None:
    calls: list[str] = []

    def create_task(identifier: str) -> Task[..., Any]:
        @task(identifier)
        async def handler(payload: int, ctx: JobContext) -> None:
            calls.append(ctx.task)

        return handler

    url = await serve(create_app(tasks=[create_task(identifier) for identifier in identifiers]))
    response = await http.post(f"{url}{path}", content=batch(1), headers=shared_headers())
    assert (response.status_code, calls) == (200, [ran])


async def test_task_named_batch_is_delivered_alone_as_usual(serve: Serve, http: httpx.AsyncClient) -> None:
    @task("batch")
    async def named_batch(payload: int) -> int:
        return payload

    @task("a/batch")
    async def a_batch(payload: int) -> int:
        return -payload

    url = await serve(create_app(tasks=[named_batch, a_batch]))
    assert (await http.post(f"{url}/batch", json=5)).json() == 5
    assert (await http.post(f"{url}/a%2Fbatch", json=5)).json() == -5


async def test_response_to_a_single_job_offers_batches_and_tells_the_duration(
    recorder: Recorder, serve: Serve, http: httpx.AsyncClient
) -> None:
    url = await serve(recorder.app())
    offered = await http.post(f"{url}/record", json=1, headers={"X-Settle-On": "response"})
    assert offered.headers["x-accept-batch"] == "50"
    assert 0 <= float(offered.headers["x-handler-seconds"]) < 10
    not_offered = await http.post(f"{url}/record", json=1)
    assert not {"x-accept-batch", "x-handler-seconds"} & set(not_offered.headers)


class PassThrough(BaseHTTPMiddleware):
    """Middleware that must see every job."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


async def test_app_with_http_middleware_accepts_no_batches(
    recorder: Recorder, serve: Serve, http: httpx.AsyncClient
) -> None:
    url = await serve(create_app(tasks=[recorder.task], middleware=[Middleware(PassThrough)]))
    alone = await http.post(f"{url}/record", json=1, headers={"X-Settle-On": "response"})
    assert alone.headers["x-settle-on"] == "response"
    assert not {"x-accept-batch", "x-handler-seconds"} & set(alone.headers)
    together = await http.post(f"{url}/record/batch", content=batch(2), headers=shared_headers())
    assert (together.status_code, recorder.payloads) == (404, [1])


async def test_mounted_app_offers_no_batches(recorder: Recorder, serve: Serve, http: httpx.AsyncClient) -> None:
    """The app that it is mounted in may have middleware."""
    url = await serve(Starlette(routes=[Mount("/jobs", recorder.app())]))
    response = await http.post(f"{url}/jobs/record", json=1, headers={"X-Settle-On": "response"})
    assert response.headers["x-settle-on"] == "response"
    assert not {"x-accept-batch", "x-handler-seconds"} & set(response.headers)


async def test_jobs_that_their_worker_does_not_settle_by_the_response_are_reported(
    serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    @task("some")
    async def some(payload: int) -> None:
        if payload == 2:
            raise ValueError("odd")

    url = await serve(create_app(tasks=[some], settings=WAIT_FOR_REPORT))
    headers = shared_headers(callbacks.url)
    del headers["X-Settle-On"]
    lines = await run_jobs(http, f"{url}/some/batch", batch(1, 2), headers)
    assert lines == [*done(1), failed(2, 500, "odd")]
    assert [(report.headers["x-job-id"], report.body) for report in callbacks.received] == [
        ("1", {"status": "success"}),
        ("2", {"status": "error", "error": "odd"}),
    ]


async def test_heartbeats_go_to_the_url_of_their_job(
    serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    @task("slow")
    async def slow(payload: float, ctx: JobContext) -> None:
        await ctx.progress(payload)

    url = await serve(create_app(tasks=[slow]))
    base = callbacks.url.removesuffix("/callback")
    body = batch(0.25, X_Heartbeat_Url="unused").replace(b"X_Heartbeat_Url", b"X-Other") + (
        f'{{"X-Job-Id": "2", "X-Heartbeat-Url": "{base}/two"}}\n0.5\n'.encode()
    )
    headers = shared_headers(callbacks.url, X_Heartbeat_Url=f"{base}/shared")
    assert await run_jobs(http, f"{url}/slow/batch", body, headers) == done(1, 2)
    assert [(each.target, each.headers["x-job-id"], each.body) for each in callbacks.received] == [
        ("/shared", "1", {"progress": 0.25}),
        ("/two", "2", {"progress": 0.5}),
    ]


# Log lines and context variables.


async def test_every_line_has_the_ids_of_its_job(stream: io.StringIO, serve: Serve, http: httpx.AsyncClient) -> None:
    @task("async")
    async def async_handler(payload: int, ctx: JobContext) -> None:
        ctx.log.info("one")
        await asyncio.sleep(0)
        await asyncio.create_task(log_in_task())
        if payload < 0:
            raise ValueError("negative")

    async def log_in_task() -> None:
        structlog.get_logger().info("two")

    @task("sync")
    def sync_handler(payload: int) -> None:
        structlog.get_logger().info("three")

    url = await serve(create_app(tasks=[async_handler, sync_handler]))
    body = batch(1, -2, "x", X_Database_Id=TENANT).replace(b"X_Database_Id", b"X-Database-Id")
    for name in ("async", "sync"):
        await run_jobs(http, f"{url}/{name}/batch", body, shared_headers())
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line["task"], line["job"], line["attempt"]) for line in lines if "job" in line] == [
        ("one", "async", 1, 1),
        ("two", "async", 1, 1),
        ("one", "async", 2, 1),
        ("two", "async", 2, 1),
        ("task failed", "async", 2, 1),
        ("request refused", "async", 3, 1),
        ("three", "sync", 1, 1),
        ("three", "sync", 2, 1),
        ("request refused", "sync", 3, 1),
    ]
    assert {(line["worker"], line["tenant"]) for line in lines if "job" in line} == {("worker-7", TENANT)}


async def test_context_variables_of_a_handler_do_not_reach_the_next_job(serve: Serve, http: httpx.AsyncClient) -> None:
    """As in requests of their own, which are tasks of their own."""
    user: ContextVar[str] = ContextVar("user", default="nobody")
    seen: list[tuple[str, dict[str, Any]]] = []

    @task("bind")
    async def bind(payload: str) -> None:
        seen.append((user.get(), structlog.contextvars.get_contextvars()))
        user.set(payload)
        structlog.contextvars.bind_contextvars(order=payload)
        if payload == "suspend":
            await asyncio.sleep(0)
        seen.append((user.get(), structlog.contextvars.get_contextvars()))
        if payload == "fail":
            raise ValueError(payload)

    url = await serve(create_app(tasks=[bind]))
    lines = await run_jobs(http, f"{url}/bind/batch", batch("first", "suspend", "fail", "last"), shared_headers())
    assert [line["status"] for line in lines] == [200, 200, 500, 200]
    expected: list[tuple[str, dict[str, Any]]] = []
    for payload in ("first", "suspend", "fail", "last"):
        expected += [("nobody", {}), (payload, {"order": payload})]
    assert seen == expected


# Lost responses.


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
