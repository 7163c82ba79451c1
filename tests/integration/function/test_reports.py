"""Reports: one per delivery, exact to the byte, retried where that helps, never in the response's way."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from jobfn import FunctionSettings, create_app, task
from jobfn.errors import TransportError
from jobfn.function.reporter import Reporter
from jobfn.http.client import HttpTransport, Response
from jobfn.http.server import HttpServer, bind
from jobfn.wire import JobHeaders, Report
from support.fixtures import Serve
from support.function_app import ACTOR, ENTITY, PATIENT, Behaviour, CallbackServer, job_headers
from support.jobs import TENANT
from support.network import LOOPBACK, eventually, free_port


@task("run")
async def run(payload: dict[str, Any]) -> dict[str, Any]:
    if "fail" in payload:
        raise ValueError(payload["fail"])
    return payload


IDS = {"x-worker-id": "worker-7", "x-job-id": "42"}


@pytest.mark.parametrize(
    ("payload", "body", "extra"),
    [
        ({}, {"status": "success"}, {}),
        (
            {"fail": "no 'ü' \0"},
            {"status": "error", "error": "no 'ü' \N{REPLACEMENT CHARACTER}"},
            {"x-job-error": "true"},
        ),
    ],
)
@pytest.mark.parametrize(
    "others", [{}, {"X-Database-Id": TENANT, "X-Actor-Id": ACTOR, "X-Entity-Id": ENTITY, "X-Job-Attempt": "3"}]
)
async def test_a_report_is_what_the_contract_says(
    payload: dict[str, str],
    body: dict[str, str],
    extra: dict[str, str],
    others: dict[str, str],
    serve: Serve,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
) -> None:
    """One POST: the delivery's ids, X-Job-Error on failure only, status and error as JSON, and nothing besides."""
    url = await serve(create_app(tasks=[run], settings=PATIENT))
    await http.post(f"{url}/run", json=payload, headers=job_headers(callbacks.url) | others)
    [report] = callbacks.received
    assert report.target == "/callback"
    assert report.body == body
    of_http = {"host", "accept", "accept-encoding", "user-agent", "content-length"}
    assert {name: value for name, value in report.headers.items() if name not in of_http} == {
        **IDS,
        **{name.lower(): value for name, value in others.items()},
        "content-type": "application/json",
        **extra,
    }


@pytest.mark.parametrize(
    ("tail", "target"),
    [
        ("", "/callback"),
        ("/", "/callback"),
        ("?job=1", "/callback?job=1"),
        ("/?a=%2F&b", "/callback?a=%2F&b"),
        ("/callback", "/callback"),
        ("/callback/", "/callback/"),
        ("/tenant%2Fa:b/callback?t=x%20y", "/tenant%2Fa:b/callback?t=x%20y"),
    ],
)
async def test_a_report_goes_where_the_url_says(
    tail: str, target: str, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """No path or / is /callback; another path and the query arrive as they were sent."""
    url = await serve(create_app(tasks=[run], settings=PATIENT))
    base = callbacks.url.removesuffix("/callback")
    await http.post(f"{url}/run", json={}, headers=job_headers(base + tail))
    assert [report.target for report in callbacks.received] == [target]


@pytest.mark.parametrize("callback_url", ["ftp://h/callback", "callback", "/callback", "http://"])
async def test_a_callback_url_that_is_none_is_logged(callback_url: str, serve: Serve, http: httpx.AsyncClient) -> None:
    """The task runs and is answered; the log says why nobody was told."""
    url = await serve(create_app(tasks=[run], settings=PATIENT))
    with capture_logs() as lines:
        response = await http.post(f"{url}/run", json={}, headers=job_headers(callback_url))
    assert response.status_code == 200
    [line] = lines
    assert (line["event"], line["log_level"], line["job"]) == ("report not sent", "error", 42)
    assert "X-Callback-Url must be an absolute http(s) URL" in line["reason"]


async def test_each_delivery_is_reported_once(serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer) -> None:
    """Forty at once, good and bad, the same job among them twice: forty reports, over kept connections."""
    url = await serve(create_app(tasks=[run], settings=PATIENT))
    jobs = [*range(1, 40), 39]
    responses = await asyncio.gather(
        *(
            http.post(f"{url}/run", json={"fail": "x"} if job % 2 else {}, headers=job_headers(callbacks.url, job))
            for job in jobs
        )
    )
    assert [response.status_code for response in responses] == [500 if job % 2 else 200 for job in jobs]
    assert sorted(int(report.headers["x-job-id"]) for report in callbacks.received) == jobs


async def test_the_report_goes_before_the_response(
    serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """When the response is there the report has been heard: nothing is left for a CPU that is taken away."""
    url = await serve(create_app(tasks=[run], settings=PATIENT))
    callbacks.behave("hang")
    answering = asyncio.create_task(http.post(f"{url}/run", json={}, headers=job_headers(callbacks.url)))
    await callbacks.until(1)
    done, _ = await asyncio.wait({answering}, timeout=0.1)
    assert not done
    callbacks.release()
    assert (await answering).status_code == 200


@pytest.mark.parametrize("behaviours", [[500, 200], [503, 502, 204], ["close", 200], ["close", 503, 200]], ids=str)
async def test_a_report_that_was_not_heard_is_sent_again(
    behaviours: list[Behaviour], serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """After a 5xx or a lost connection, the same report, until it is heard."""
    url = await serve(create_app(tasks=[run], settings=PATIENT))
    callbacks.behave(*behaviours)
    response = await http.post(f"{url}/run", json={}, headers=job_headers(callbacks.url))
    assert response.status_code == 200
    reports = await callbacks.until(len(behaviours))
    assert len(reports) == len(behaviours)
    assert all(report == reports[0] for report in reports)


@pytest.mark.parametrize("status", [400, 401, 404, 413, 429, 301, 307, 304])
async def test_a_report_that_was_refused_is_not_sent_again(
    status: int, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """4xx is the callback server's last word; a redirect is not followed; the log says so."""
    url = await serve(create_app(tasks=[run], settings=PATIENT))
    callbacks.behave(status)
    with capture_logs() as lines:
        response = await http.post(f"{url}/run", json={}, headers=job_headers(callbacks.url))
    assert response.status_code == 200
    assert len(callbacks.received) == 1
    [line] = lines
    assert line == {
        "event": "report refused: check X-Callback-Url",
        "log_level": "error",
        "logger": "jobfn.report",
        "job": 42,
        "status": status,
        "url": callbacks.url,
    }


async def test_a_report_that_comes_too_late_is_no_fault(
    serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """409, the job was settled or given to somebody else: not sent again, and only a warning."""
    url = await serve(create_app(tasks=[run], settings=PATIENT))
    callbacks.behave(409)
    with capture_logs() as lines:
        await http.post(f"{url}/run", json={}, headers=job_headers(callbacks.url))
    assert len(callbacks.received) == 1
    assert [(line["event"], line["log_level"], line["job"]) for line in lines] == [
        ("report conflict: the job was settled already or claimed by another worker", "warning", 42)
    ]


@pytest.mark.parametrize("behaviour", ["hang", 503])
async def test_the_response_does_not_wait_for_a_callback_server_in_trouble(
    behaviour: Behaviour, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """It comes after report_wait_seconds with the handler's result; the report is tried on."""
    settings = FunctionSettings(report_wait_seconds=0.1, report_timeout_seconds=20)
    url = await serve(create_app(tasks=[run], settings=settings))
    callbacks.behave(*[behaviour] * 2, 200)
    started = time.monotonic()
    response = await http.post(f"{url}/run", json={"a": 1}, headers=job_headers(callbacks.url))
    assert (response.status_code, response.json()) == (200, {"a": 1})
    assert 0.1 <= time.monotonic() - started < 2
    callbacks.release()
    heard = 3 if behaviour == 503 else 1
    assert len(await callbacks.until(heard)) == heard


async def test_a_callback_server_that_is_not_there(serve: Serve, http: httpx.AsyncClient) -> None:
    """The response comes; the report is tried for report_timeout_seconds and then given up, which the log says."""
    settings = FunctionSettings(report_wait_seconds=30, report_timeout_seconds=0.5)
    url = await serve(create_app(tasks=[run], settings=settings))
    nowhere = f"http://{LOOPBACK}:{free_port()}/callback"
    with capture_logs() as lines:
        response = await http.post(f"{url}/run", json={}, headers=job_headers(nowhere))
    assert response.status_code == 200
    ours = [line for line in lines if line.get("logger") == "jobfn.report"]
    assert [line["event"] for line in ours] == [
        "report not acknowledged: retrying",
        "report abandoned: the response or the lease settles the job",
    ]
    assert all(nowhere in line["reason"] for line in ours)


async def test_a_callback_server_that_comes_back_is_told(serve: Serve, http: httpx.AsyncClient) -> None:
    """A report survives the callback server's restart."""
    settings = FunctionSettings(report_wait_seconds=0, report_timeout_seconds=20)
    url = await serve(create_app(tasks=[run], settings=settings))
    port = free_port()
    await http.post(f"{url}/run", json={}, headers=job_headers(f"http://{LOOPBACK}:{port}/callback"))
    recorder = CallbackServer()
    server = HttpServer(recorder, bind(LOOPBACK, port), shutdown_timeout_seconds=1, lifespan=False)
    await server.start()
    await recorder.until(1)
    await server.stop()


class Scripted:
    """A transport that does what it is told, post by post; the last one for all that follow."""

    def __init__(self, *script: Exception | int) -> None:
        self.script = list(script)
        self.posts = 0

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> Response:
        self.posts += 1
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, Exception):
            raise step
        return Response(step, {}, b"")

    async def aclose(self) -> None: ...


HEADERS = JobHeaders(job_id=42, worker_id="w", callback_url="http://h/callback")


async def test_a_transport_that_breaks_takes_nothing_down() -> None:
    """Whatever it raises is logged with the job, and the delivery goes on."""
    transport = Scripted(RuntimeError("not a transport's error"))
    reporter = Reporter(transport, report_timeout_seconds=1)
    with capture_logs() as lines:
        await reporter.report(HEADERS, Report("success"), wait_seconds=5)
    assert transport.posts == 1
    assert [(line["event"], line["job"]) for line in lines] == [("report failed", 42)]


async def test_a_sign_of_life_goes_where_reports_may_go_and_nowhere_else() -> None:
    """A host that is not allowed hears nothing, and the log says which it is."""
    transport = Scripted(200)
    reporter = Reporter(transport, report_timeout_seconds=1, allowed_hosts=["jobs-callback"])
    elsewhere = JobHeaders(job_id=42, worker_id="w", callback_url="http://h", heartbeat_url="http://h/heartbeat")
    with capture_logs() as lines:
        assert await reporter.send_heartbeat(elsewhere, None) is None
    assert transport.posts == 0
    assert [(line["event"], line["job"]) for line in lines] == [("heartbeat not sent", 42)]
    assert "JOBFN_CALLBACK_ALLOWED_HOSTS" in lines[0]["reason"]


async def test_a_report_whose_time_is_over_is_not_tried_again() -> None:
    """The first try took it all."""
    transport = Scripted(TransportError("down"))
    reporter = Reporter(transport, report_timeout_seconds=-1)
    with capture_logs() as lines:
        await reporter.report(HEADERS, Report("success"), wait_seconds=5)
    assert transport.posts == 1
    assert lines[0]["event"].startswith("report abandoned")


@pytest.mark.parametrize(("said", "lease", "seconds"), [(None, 7.5, 7.5), (None, None, 30.0), (2.0, 7.5, 2.0)])
def test_a_report_is_tried_for_as_long_as_the_lease_holds(
    said: float | None, lease: float | None, seconds: float
) -> None:
    """That is what the worker told of, 30 seconds where it told of none; the setting goes first."""
    reporter = Reporter(Scripted(200), report_timeout_seconds=said)
    assert reporter.timeout_seconds(HEADERS._replace(lease_seconds=lease)) == seconds


async def test_draining_waits_for_reports_and_gives_the_rest_up(callbacks: CallbackServer) -> None:
    """Within the seconds it is given reports are heard; after them they are cancelled, and the log says whose."""
    transport = HttpTransport()
    reporter = Reporter(transport, report_timeout_seconds=20)
    headers = JobHeaders(job_id=42, worker_id="w", callback_url=callbacks.url)
    callbacks.behave(503, 200)
    await reporter.report(headers, Report("success"), wait_seconds=0)
    await reporter.drain(timeout_seconds=10)
    assert len(callbacks.received) == 2
    callbacks.behave("hang")
    await reporter.report(headers, Report("success"), wait_seconds=0)
    await callbacks.until(3)
    with capture_logs() as lines:
        await reporter.drain(timeout_seconds=0.05)
    assert [(line["event"], line["job"]) for line in lines] == [("report abandoned: process is stopping", 42)]
    await reporter.drain(timeout_seconds=0)
    await transport.aclose()


async def test_a_cancelled_caller_leaves_its_report_under_way(callbacks: CallbackServer) -> None:
    """Who waits for the report may be cancelled; the report is not."""
    transport = HttpTransport()
    reporter = Reporter(transport, report_timeout_seconds=20)
    callbacks.behave(503, 503, 200)
    headers = JobHeaders(job_id=42, worker_id="w", callback_url=callbacks.url)
    waiting = asyncio.create_task(reporter.report(headers, Report("success"), wait_seconds=30))
    await callbacks.until(1)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
    await callbacks.until(3)
    await reporter.drain(timeout_seconds=5)
    await transport.aclose()


async def test_a_report_s_worker_id_is_the_worker_s_to_the_byte(serve: Serve, callbacks: CallbackServer) -> None:
    """An id that is not ASCII comes back as it came, or the row would not be found."""
    url = await serve(create_app(tasks=[run], settings=PATIENT))
    transport = HttpTransport()
    headers = {**job_headers(callbacks.url), "X-Worker-Id": "wörker-日本"}
    answer = await transport.post(f"{url}/run", body=b"{}", headers=headers)
    assert answer.headers["X-Worker-Id"].encode("latin-1") == "wörker-日本".encode()

    async def heard() -> bool:
        return bool(callbacks.received)

    await eventually(heard)
    assert callbacks.received[0].headers["x-worker-id"].encode("latin-1") == "wörker-日本".encode()
    await transport.aclose()
