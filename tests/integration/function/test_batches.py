"""Several jobs of one task in one request: their outcomes, their budget of time, their log lines."""

import asyncio
import io
import json
import time
from contextvars import ContextVar
from typing import Any

import httpx
import pytest
import structlog

from jobfn import FunctionSettings, JobContext, PermanentError, RetryLater, create_app, task
from support.batch_request import (
    Recorder,
    batch,
    done,
    failed,
    not_started,
    parse,
    run_jobs,
    shared_headers,
)
from support.fixtures import Serve
from support.function_app import WAIT_FOR_REPORT, CallbackServer
from support.jobs import TENANT

#: A traceback for people would take most of a batch's time.
pytestmark = pytest.mark.usefixtures("log_stream")


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
        failed(4, 500, "busy", retryAfterSeconds=60.0, snoozeMaxAgeSeconds=604800.0),
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
                    "leave it out if there is none",
                    "code": "F400",
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
        {"job": "1", "status": 202, "headers": {"X-Accept-Cancel": "true"}, "body": accepted},
        {"job": "2", "status": 202, "headers": {"X-Accept-Cancel": "true"}, "body": accepted},
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
    body = batch(0.25) + f'{{"X-Job-Id": "2", "X-Heartbeat-Url": "{base}/two"}}\n0.5\n'.encode()
    headers = shared_headers(callbacks.url, X_Heartbeat_Url=f"{base}/shared")
    assert await run_jobs(http, f"{url}/slow/batch", body, headers) == done(1, 2)
    assert [(each.target, each.headers["x-job-id"], each.body) for each in callbacks.received] == [
        ("/shared", "1", {"progress": 0.25}),
        ("/two", "2", {"progress": 0.5}),
    ]


async def test_every_line_has_the_ids_of_its_job(
    log_stream: io.StringIO, serve: Serve, http: httpx.AsyncClient
) -> None:
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
    body = batch(1, -2, "x", X_Database_Id=TENANT)
    for name in ("async", "sync"):
        await run_jobs(http, f"{url}/{name}/batch", body, shared_headers())
    lines = [json.loads(line) for line in log_stream.getvalue().splitlines()]
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


async def test_request_does_not_wait_for_all_batches_that_came_before() -> None:
    """Each batch occupies the event loop for a while. A single job runs between two of them."""
    order: list[str] = []
    started = asyncio.Event()

    @task("busy")
    async def busy(payload: str) -> None:
        order.append(payload)
        started.set()

    app = create_app(tasks=[busy])

    async def post(path: str, body: bytes, headers: dict[str, str]) -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://function") as client:
            assert (await client.post(path, content=body, headers=headers)).status_code == 200

    batches = [asyncio.create_task(post("/busy/batch", batch("batch"), shared_headers())) for _ in range(30)]
    await started.wait()
    single = post("/busy", b'"single"', {"Content-Type": "application/json"})
    await asyncio.gather(*batches, single)
    assert "single" in order[:-10]
