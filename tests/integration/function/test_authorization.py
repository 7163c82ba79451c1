"""Invoke secrets, and the hosts that a function may send reports to."""

from typing import Any

import httpx
import pytest

from jobfn import FunctionApp, FunctionSettings, create_app, task
from jobfn.wire import INVOKE_SECRET
from support.fixtures import Serve
from support.function_app import WAIT_FOR_REPORT, CallbackServer, job_headers


def secret_app(payloads: list[dict[str, Any]] | None = None) -> FunctionApp:
    """Create an app with two secrets that records its payloads."""

    @task("order")
    async def order(payload: dict[str, Any]) -> None:
        (payloads if payloads is not None else []).append(payload)

    settings = WAIT_FOR_REPORT.model_copy(update={"invoke_secrets": ["open sesame", "old one"], "max_body_bytes": 1000})
    return create_app(tasks=[order], settings=settings)


@pytest.mark.parametrize(
    ("method", "path", "extra"),
    [
        ("POST", "/order", {}),
        ("POST", "/order", {INVOKE_SECRET: ""}),
        ("POST", "/order", {INVOKE_SECRET: "open sesam"}),
        ("POST", "/missing", {}),
        ("POST", "/order", {"X-Database-Id": "malformed"}),
        ("POST", "/order", {"Content-Length": "5000"}),
        ("PUT", "/order", {}),
        ("GET", "/missing", {}),
    ],
)
async def test_request_without_the_secret_runs_nothing_and_causes_no_report(
    method: str, path: str, extra: dict[str, str], serve: Serve, callbacks: CallbackServer, http: httpx.AsyncClient
) -> None:
    payloads: list[dict[str, Any]] = []
    url = await serve(secret_app(payloads))
    body = b"x" * 5000 if "Content-Length" in extra else b"{}"
    response = await http.request(method, f"{url}{path}", content=body, headers=job_headers(callbacks.url) | extra)
    assert response.status_code == 401
    assert response.headers["x-job-id"] == "42"
    assert "open sesame" not in response.text
    assert "X-Invoke-Secret" in response.json()["message"]
    assert (payloads, callbacks.received) == ([], [])


@pytest.mark.parametrize("secret", ["open sesame", "old one"])
async def test_each_secret_is_accepted_and_not_passed_on(
    secret: str, serve: Serve, callbacks: CallbackServer, http: httpx.AsyncClient
) -> None:
    url = await serve(secret_app())
    headers = job_headers(callbacks.url) | {INVOKE_SECRET: secret}
    response = await http.post(f"{url}/order", json={}, headers=headers)
    assert response.status_code == 200
    assert (await http.put(f"{url}/order", headers=headers)).status_code == 405
    assert [report.body["status"] for report in callbacks.received] == ["success", "error"]
    assert "x-invoke-secret" not in response.headers
    assert all("x-invoke-secret" not in report.headers for report in callbacks.received)


@pytest.mark.parametrize(
    ("allowed", "is_reported"),
    [
        ("127.0.0.1:{port}", True),
        ("elsewhere, 127.0.0.1", True),
        ("127.0.0.1:1", False),
        ("*.0.0.1", True),
        ("*.example.com", False),
        ("", True),
    ],
)
async def test_reports_go_only_to_allowed_hosts(
    allowed: str,
    is_reported: bool,  # noqa: FBT001  - a column
    serve: Serve,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
) -> None:
    @task("order")
    async def order(payload: dict[str, Any]) -> None: ...

    port = callbacks.url.rpartition(":")[2].partition("/")[0]
    hosts = FunctionSettings.from_environ({"JOBFN_CALLBACK_ALLOWED_HOSTS": allowed.format(port=port)})
    settings = hosts.model_copy(update={"report_wait_seconds": 30.0})
    url = await serve(create_app(tasks=[order], settings=settings))
    response = await http.post(f"{url}/order", json={}, headers=job_headers(callbacks.url))
    assert response.status_code == 200
    assert bool(callbacks.received) is is_reported
