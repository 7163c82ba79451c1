"""Reports: one per delivery, in the contract's format, retried if that helps, without blocking the response."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from jobfn import FunctionSettings, create_app, task
from jobfn.errors import TransportError
from jobfn.function.reporter import Reporter
from jobfn.http.client import HttpTransport, Response
from jobfn.testing.buffered_transport import BufferedTransport
from jobfn.wire import JobHeaders, Report
from support.fixtures import Serve
from support.function_app import OPTIONAL_HEADERS, WAIT_FOR_REPORT, CallbackResponse, CallbackServer, job_headers
from support.network import LOOPBACK, free_port


@task("run")
async def run(payload: dict[str, Any]) -> dict[str, Any]:
    if "fail" in payload:
        raise ValueError(payload["fail"])
    return payload


@pytest.fixture
async def url(serve: Serve) -> str:
    """The URL of a function whose responses wait for their report."""
    return await serve(create_app(tasks=[run], settings=WAIT_FOR_REPORT))


@pytest.mark.parametrize(
    ("payload", "optional", "body", "error_headers"),
    [
        ({}, {}, {"status": "success"}, {}),
        (
            {"fail": "no 'ü' \0"},
            OPTIONAL_HEADERS,
            {"status": "error", "error": "no 'ü' \ufffd"},
            {"x-job-error": "true"},
        ),
    ],
)
async def test_report_has_the_contract_s_headers_and_body(
    payload: dict[str, str],
    optional: dict[str, str],
    body: dict[str, str],
    error_headers: dict[str, str],
    url: str,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
) -> None:
    await http.post(f"{url}/run", json=payload, headers=job_headers(callbacks.url) | optional)
    [report] = callbacks.received
    assert report.target == "/callback"
    assert report.body == body
    http_headers = {"host", "accept", "accept-encoding", "user-agent", "content-length"}
    assert {name: value for name, value in report.headers.items() if name not in http_headers} == {
        "x-worker-id": "worker-7",
        "x-job-id": "42",
        **{name.lower(): value for name, value in optional.items()},
        "content-type": "application/json",
        **error_headers,
    }


@pytest.mark.parametrize(
    ("tail", "target"),
    [
        ("", "/callback"),
        ("/?a=%2F&b", "/callback?a=%2F&b"),
        ("/tenant%2Fa:b/callback?t=x%20y", "/tenant%2Fa:b/callback?t=x%20y"),
    ],
)
async def test_report_goes_to_the_path_and_query_of_the_callback_url(
    tail: str, target: str, url: str, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    base = callbacks.url.removesuffix("/callback")
    await http.post(f"{url}/run", json={}, headers=job_headers(base + tail))
    assert [report.target for report in callbacks.received] == [target]


@pytest.mark.parametrize("callback_url", ["ftp://h/callback", "/callback"])
async def test_invalid_callback_url_is_logged_and_the_task_runs(
    callback_url: str, url: str, http: httpx.AsyncClient
) -> None:
    with capture_logs() as lines:
        response = await http.post(f"{url}/run", json={}, headers=job_headers(callback_url))
    assert response.status_code == 200
    [line] = lines
    assert (line["event"], line["log_level"], line["job"]) == ("report not sent", "error", 42)
    assert "X-Callback-Url must be an absolute http(s) URL" in line["reason"]


async def test_concurrent_deliveries_are_reported_once_each(
    url: str, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    jobs = [*range(1, 10), 9]
    responses = await asyncio.gather(
        *(
            http.post(f"{url}/run", json={"fail": "x"} if job % 2 else {}, headers=job_headers(callbacks.url, job))
            for job in jobs
        )
    )
    assert [response.status_code for response in responses] == [500 if job % 2 else 200 for job in jobs]
    assert sorted(int(report.headers["x-job-id"]) for report in callbacks.received) == jobs


async def test_response_waits_for_its_report(url: str, http: httpx.AsyncClient, callbacks: CallbackServer) -> None:
    """After the response nothing is left to do: Knative may take the CPU away."""
    callbacks.respond_with("hang")
    request = asyncio.create_task(http.post(f"{url}/run", json={}, headers=job_headers(callbacks.url)))
    await callbacks.wait_for(1)
    await asyncio.wait({request}, timeout=0.1)
    assert not request.done()
    callbacks.release()
    assert (await request).status_code == 200


@pytest.mark.parametrize("responses", [[500, 200], ["close", 503, 204]], ids=str)
async def test_report_is_retried_after_a_5xx_or_a_closed_connection(
    responses: list[CallbackResponse],
    url: str,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    callbacks.respond_with(*responses)
    response = await http.post(f"{url}/run", json={}, headers=job_headers(callbacks.url))
    assert response.status_code == 200
    reports = callbacks.received
    assert len(reports) == len(responses)
    assert all(report == reports[0] for report in reports)
    lines = [line for line in capsys.readouterr().out.splitlines() if "retry" in line]
    assert ["report not acknowledged: retrying" in line for line in lines] == [True] * (len(responses) - 1)


@pytest.mark.parametrize(
    ("status", "level", "event"),
    [
        (301, "error", "report refused: check X-Callback-Url"),
        (429, "error", "report refused: check X-Callback-Url"),
        (409, "warning", "report conflict: the job was settled already or claimed by another worker"),
    ],
)
async def test_refused_report_is_logged_and_not_retried(
    status: int, level: str, event: str, url: str, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    callbacks.respond_with(status)
    with capture_logs() as lines:
        response = await http.post(f"{url}/run", json={}, headers=job_headers(callbacks.url))
    assert response.status_code == 200
    assert len(callbacks.received) == 1
    [line] = lines
    assert (line["event"], line["log_level"], line["job"]) == (event, level, 42)


@pytest.mark.parametrize(("responses", "reports"), [(["hang"], 1), ([503, 503, 200], 3)], ids=str)
async def test_response_does_not_wait_longer_than_report_wait_seconds(
    responses: list[CallbackResponse], reports: int, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    settings = FunctionSettings(report_wait_seconds=0.01, report_timeout_seconds=20)
    url = await serve(create_app(tasks=[run], settings=settings))
    callbacks.respond_with(*responses)
    response = await http.post(f"{url}/run", json={"a": 1}, headers=job_headers(callbacks.url))
    assert (response.status_code, response.json()) == (200, {"a": 1})
    callbacks.release()
    assert len(await callbacks.wait_for(reports)) == reports


async def test_report_to_an_unreachable_server_is_abandoned_after_its_timeout(
    serve: Serve, http: httpx.AsyncClient
) -> None:
    settings = FunctionSettings(report_wait_seconds=30, report_timeout_seconds=0.2)
    url = await serve(create_app(tasks=[run], settings=settings))
    unreachable = f"http://{LOOPBACK}:{free_port()}/callback"
    with capture_logs() as lines:
        response = await http.post(f"{url}/run", json={}, headers=job_headers(unreachable))
    assert response.status_code == 200
    report_lines = [line for line in lines if line.get("logger") == "jobfn.report"]
    assert [line["event"] for line in report_lines] == [
        "report not acknowledged: retrying",
        "report abandoned: the response or the lease settles the job",
    ]
    assert all(unreachable in line["reason"] for line in report_lines)


async def test_worker_id_that_is_not_ascii_is_returned_byte_by_byte(url: str, callbacks: CallbackServer) -> None:
    transport = HttpTransport()
    headers = {**job_headers(callbacks.url), "X-Worker-Id": "wörker-日本"}
    response = await transport.post(f"{url}/run", body=b"{}", headers=headers)
    assert response.headers["X-Worker-Id"] == "wörker-日本"
    assert callbacks.received[0].headers["x-worker-id"].encode("latin-1") == "wörker-日本".encode()
    await transport.aclose()


class ScriptedTransport(BufferedTransport):
    """A transport that raises or responds as scripted; the last step is repeated."""

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


HEADERS = JobHeaders(job_id=42, worker_id="w", callback_url="http://h/callback")


async def test_unexpected_error_of_the_transport_is_logged() -> None:
    transport = ScriptedTransport(RuntimeError("not a transport's error"))
    reporter = Reporter(transport, report_timeout_seconds=1)
    with capture_logs() as lines:
        await reporter.report(HEADERS, Report("success"), wait_seconds=5)
    assert transport.posts == 1
    assert [(line["event"], line["job"]) for line in lines] == [("report failed", 42)]


async def test_heartbeat_to_a_host_that_is_not_allowed_is_not_sent() -> None:
    transport = ScriptedTransport(200)
    reporter = Reporter(transport, report_timeout_seconds=1, allowed_hosts=["jobs-callback"])
    headers = HEADERS._replace(heartbeat_url="http://h/heartbeat")
    with capture_logs() as lines:
        assert await reporter.send_heartbeat(headers, None) is None
    assert transport.posts == 0
    assert [(line["event"], line["job"]) for line in lines] == [("heartbeat not sent", 42)]
    assert "JOBFN_CALLBACK_ALLOWED_HOSTS" in lines[0]["reason"]


async def test_report_is_not_retried_after_its_timeout() -> None:
    transport = ScriptedTransport(TransportError("down"))
    reporter = Reporter(transport, report_timeout_seconds=-1)
    with capture_logs() as lines:
        await reporter.report(HEADERS, Report("success"), wait_seconds=5)
    assert transport.posts == 1
    assert lines[0]["event"] == "report abandoned: the response or the lease settles the job"


@pytest.mark.parametrize(("setting", "lease", "timeout"), [(None, 7.5, 7.5), (None, None, 30.0), (2.0, 7.5, 2.0)])
def test_report_timeout_is_the_setting_or_the_lease(setting: float | None, lease: float | None, timeout: float) -> None:
    reporter = Reporter(ScriptedTransport(200), report_timeout_seconds=setting)
    assert reporter.timeout_seconds(HEADERS._replace(lease_seconds=lease)) == timeout


async def test_drain_waits_for_reports_and_abandons_those_beyond_its_timeout(callbacks: CallbackServer) -> None:
    transport = HttpTransport()
    reporter = Reporter(transport, report_timeout_seconds=20)
    headers = HEADERS._replace(callback_url=callbacks.url)
    callbacks.respond_with(503, 200)
    await reporter.report(headers, Report("success"), wait_seconds=0)
    await reporter.drain(timeout_seconds=10)
    assert len(callbacks.received) == 2
    callbacks.respond_with("hang")
    await reporter.report(headers, Report("success"), wait_seconds=0)
    await callbacks.wait_for(3)
    with capture_logs() as lines:
        await reporter.drain(timeout_seconds=0.05)
    assert [(line["event"], line["job"]) for line in lines] == [("report abandoned: process is stopping", 42)]
    await reporter.drain(timeout_seconds=0)
    await transport.aclose()
