"""Retry fields in reports and responses."""

import asyncio
from typing import Any

import httpx
import pytest

from jobfn import Backoff, PermanentError, RetryLater, create_app, task
from support.fixtures import Serve
from support.function_app import WAIT_FOR_REPORT, CallbackServer, job_headers


@task("permanent")
def permanent(payload: None) -> None:
    raise PermanentError("the account is closed")


@task("later")
async def later(payload: None) -> None:
    raise RetryLater("the bank is closed", seconds=3600)


@task("twice", max_attempts=2)
def twice(payload: None) -> None:
    raise ValueError("no")


@task("slowly", backoff=Backoff(seconds=5, factor=3, jitter=0))
def slowly(payload: None) -> None:
    raise ValueError("no")


@task("hangs", timeout=0.05, max_attempts=1)
async def hangs(payload: None) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("name", "attempt", "error", "fields"),
    [
        ("permanent", 1, "the account is closed", {"permanent": True}),
        ("later", 1, "the bank is closed", {"retryAfterSeconds": 3600.0}),
        ("twice", 1, "no", {}),
        ("twice", 2, "no", {"permanent": True}),
        ("slowly", 3, "no", {"retryAfterSeconds": 45.0}),
        ("hangs", 1, "hangs did not finish within its timeout of 0.05 seconds", {"permanent": True}),
    ],
)
async def test_report_and_response_carry_the_retry_decision(
    name: str,
    attempt: int,
    error: str,
    fields: dict[str, Any],
    serve: Serve,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
) -> None:
    url = await serve(create_app(tasks=[permanent, later, twice, slowly, hangs], settings=WAIT_FOR_REPORT))
    response = await http.post(f"{url}/{name}", headers=job_headers(callbacks.url, X_Job_Attempt=str(attempt)))
    assert response.json() == {"message": error, **fields}
    assert [report.body for report in callbacks.received] == [{"status": "error", "error": error, **fields}]
    assert response.headers["x-job-error"] == "true"
