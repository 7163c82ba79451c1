"""To whom a function sends tracebacks (``JOBFN_TRACEBACKS``)."""

from typing import Any

import httpx
import pytest

from jobfn import FunctionSettings, create_app, task
from jobfn.http.loopback import without_network
from support.fixtures import Serve
from support.function_app import CallbackServer, job_headers
from support.secrets import INVOKE_SECRET

PAYLOAD = {"card": "4111-1111"}


@task("explode")
async def explode(payload: dict[str, Any]) -> None:
    raise ValueError(f"declined after {len(payload['card'])} digits")


@pytest.mark.parametrize(
    ("settings", "headers", "is_sent"),
    [
        (FunctionSettings(invoke_secrets=[INVOKE_SECRET]), {"X-Invoke-Secret": INVOKE_SECRET}, True),
        (FunctionSettings(invoke_secrets=[INVOKE_SECRET], tracebacks=False), {"X-Invoke-Secret": INVOKE_SECRET}, False),
        (FunctionSettings(), {}, False),
        (FunctionSettings(tracebacks=True), {}, True),
    ],
)
async def test_setting_decides_about_response_and_report(
    settings: FunctionSettings,
    headers: dict[str, str],
    serve: Serve,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
    *,
    is_sent: bool,
) -> None:
    """Without a secret, the caller may be anyone."""
    url = await serve(create_app(tasks=[explode], settings=settings))
    response = await http.post(f"{url}/explode", json=PAYLOAD, headers=job_headers(callbacks.url) | headers)
    [report] = await callbacks.wait_for(1)
    assert response.json()["message"] == report.body["error"] == "declined after 9 digits"
    assert ("traceback" in response.json(), "traceback" in report.body) == (is_sent, is_sent)


async def test_caller_on_this_machine_gets_it_without_a_secret() -> None:
    app = without_network(create_app(tasks=[explode]))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        response = await http.post("/explode", json=PAYLOAD)
    assert ", in explode\n" in response.json()["traceback"]
