"""Who may call a function, and whom it may be made to call."""

import httpx
import pytest

from jobfn import FunctionSettings, create_app, task
from support.fixtures import Serve
from support.function_app import PATIENT, CallbackServer, job_headers

ran: list[object] = []


@task("t")
def t(payload: dict[str, object]) -> None:
    ran.append(payload)


@pytest.mark.parametrize("given", [None, "", "wrong", "rights", "righ"])
async def test_without_the_secret_nothing_runs_and_nothing_is_reported(
    given: str | None, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """JOBFN_INVOKE_SECRET: a caller who does not know it gets 401, and causes no request anywhere."""
    ran.clear()
    url = await serve(create_app(tasks=[t], settings=PATIENT.model_copy(update={"invoke_secrets": ["right"]})))
    secret = {} if given is None else {"X-Invoke-Secret": given}
    response = await http.post(f"{url}/t", json={}, headers=job_headers(callbacks.url) | secret)
    assert response.status_code == 401
    assert "X-Invoke-Secret" in response.json()["message"]
    assert "right" not in response.text.replace("right now", "")
    assert (ran, callbacks.received) == ([], [])


@pytest.mark.parametrize("given", ["new", "old"])
async def test_each_of_several_secrets_opens_the_door(
    given: str, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """Secrets rotate: all that are listed are accepted; the secret is not sent on with the report."""
    url = await serve(create_app(tasks=[t], settings=PATIENT.model_copy(update={"invoke_secrets": ["new", "old"]})))
    response = await http.post(f"{url}/t", json={}, headers=job_headers(callbacks.url) | {"X-Invoke-Secret": given})
    assert response.status_code == 200
    [report] = callbacks.received
    assert "x-invoke-secret" not in report.headers
    assert "x-invoke-secret" not in response.headers


@pytest.mark.parametrize(
    ("allowed", "reported"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:{port}", True),
        ("elsewhere, 127.0.0.1", True),
        ("127.0.0.1:1", False),
        ("localhost", False),
        ("*.0.0.1", True),
        ("*.example.com", False),
        ("", True),
    ],
)
async def test_reports_go_to_allowed_hosts_only(
    allowed: str,
    reported: bool,  # noqa: FBT001  - a column
    serve: Serve,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
) -> None:
    """JOBFN_CALLBACK_ALLOWED_HOSTS: names, names with a port, domains; without it, any host."""
    port = callbacks.url.rpartition(":")[2].partition("/")[0]
    settings = FunctionSettings.from_environ({"JOBFN_CALLBACK_ALLOWED_HOSTS": allowed.format(port=port)})
    url = await serve(create_app(tasks=[t], settings=settings.model_copy(update={"report_wait_seconds": 30.0})))
    response = await http.post(f"{url}/t", json={}, headers=job_headers(callbacks.url))
    assert response.status_code == 200
    assert bool(callbacks.received) is reported
