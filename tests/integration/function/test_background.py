"""Background jobs: accepted at once, kept alive by heartbeats, reported when they end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from jobfn import FunctionApp, FunctionSettings, JobContext, create_app, task
from support.fixtures import Serve
from support.function_app import WAIT_FOR_REPORT, CallbackServer, job_headers

LEASE_SECONDS = 0.3


class LongTask:
    """A background task that runs until ``finish`` is set."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.finish = asyncio.Event()
        self.cancelled = asyncio.Event()

        @task("long", background=True)
        async def long(payload: dict[str, Any], ctx: JobContext) -> str:
            self.started.set()
            await ctx.progress(0.25, "rendering")
            try:
                await self.finish.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
            if payload.get("fail"):
                raise ValueError("no luck")
            return "done"

        self.task = long

    def app(self, settings: FunctionSettings = WAIT_FOR_REPORT) -> FunctionApp:
        return create_app(tasks=[self.task], settings=settings)


@pytest.fixture
async def long() -> LongTask:
    return LongTask()


def headers(callbacks: CallbackServer, job: int = 42, lease_seconds: float = LEASE_SECONDS) -> dict[str, str]:
    heartbeat_url = callbacks.url.replace("/callback", "/heartbeat")
    return job_headers(
        callbacks.url, job, X_Job_Attempt="1", X_Heartbeat_Url=heartbeat_url, X_Lease_Seconds=str(lease_seconds)
    )


@pytest.mark.parametrize(
    ("payload", "report"), [({}, {"status": "success"}), ({"fail": True}, {"status": "error", "error": "no luck"})]
)
async def test_background_job_is_accepted_at_once_and_reported_once_when_it_ends(
    payload: dict[str, Any],
    report: dict[str, Any],
    long: LongTask,
    serve: Serve,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
) -> None:
    url = await serve(long.app())
    response = await http.post(f"{url}/long", json=payload, headers=headers(callbacks))
    assert (response.status_code, response.json()) == (202, {"accepted": True})
    assert "x-job-error" not in response.headers
    await long.started.wait()
    assert callbacks.bodies("/callback") == []
    long.finish.set()
    await callbacks.wait_for(1, "/callback")
    assert callbacks.bodies("/callback") == [report]


async def test_heartbeats_carry_headers_and_progress_until_the_report(
    long: LongTask, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    url = await serve(long.app())
    await http.post(f"{url}/long", json={}, headers=headers(callbacks))
    heartbeats = await callbacks.wait_for(4, "/heartbeat")
    assert all(heartbeat.body == {"progress": 0.25, "note": "rendering"} for heartbeat in heartbeats)
    assert heartbeats[0].headers["x-worker-id"] == "worker-7"
    assert heartbeats[0].headers["x-job-id"] == "42"
    assert heartbeats[0].headers["x-job-attempt"] == "1"
    long.finish.set()
    await callbacks.wait_for(1, "/callback")
    assert callbacks.bodies("/callback") == [{"status": "success"}]


async def test_heartbeat_conflict_cancels_the_handler_without_a_report(
    long: LongTask, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    callbacks.respond_with(200, 409)
    url = await serve(long.app())
    await http.post(f"{url}/long", json={}, headers=headers(callbacks))
    await asyncio.wait_for(long.cancelled.wait(), 10)
    assert callbacks.bodies("/callback") == []


async def test_failed_heartbeats_do_not_end_the_job(
    long: LongTask, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    callbacks.respond_with("close", "close", 500, 200)
    url = await serve(long.app())
    await http.post(f"{url}/long", json={}, headers=headers(callbacks))
    await callbacks.wait_for(5)
    long.finish.set()
    await callbacks.wait_for(1, "/callback")
    assert callbacks.bodies("/callback") == [{"status": "success"}]


async def test_hanging_heartbeat_does_not_delay_the_next_beyond_the_lease(
    long: LongTask, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    callbacks.respond_with(200, "hang", 200)
    url = await serve(long.app())
    await http.post(f"{url}/long", json={}, headers=headers(callbacks, lease_seconds=2))
    await callbacks.wait_for(2)
    async with asyncio.timeout(2):
        await callbacks.wait_for(3)
    long.finish.set()


async def test_job_above_the_limit_is_answered_busy_without_a_report(
    long: LongTask, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    url = await serve(long.app(WAIT_FOR_REPORT.model_copy(update={"max_background_jobs": 1})))
    assert (await http.post(f"{url}/long", json={}, headers=headers(callbacks))).status_code == 202
    busy = await http.post(f"{url}/long", json={}, headers=headers(callbacks, 43))
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "1")
    assert "x-job-error" not in busy.headers
    assert "JOBFN_MAX_BACKGROUND_JOBS" in busy.json()["message"]
    assert callbacks.bodies("/callback") == []
    long.finish.set()


@contextlib.asynccontextmanager
async def running_job(app: FunctionApp, long: LongTask, callbacks: CallbackServer) -> AsyncIterator[None]:
    """Run the app's lifespan around a background job that has started."""
    transport = httpx.ASGITransport(app)
    async with app.lifespan_context(), httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        assert (await client.post("/long", json={}, headers=headers(callbacks))).status_code == 202
        await long.started.wait()
        yield


async def test_job_that_exceeds_the_shutdown_timeout_is_reported_as_stopped(
    long: LongTask, callbacks: CallbackServer
) -> None:
    app = long.app(WAIT_FOR_REPORT.model_copy(update={"shutdown_timeout_seconds": 0.1}))
    async with running_job(app, long, callbacks):
        pass
    assert long.cancelled.is_set()
    assert callbacks.bodies("/callback") == [
        {"status": "error", "error": "the function was stopped before long finished"}
    ]


async def test_job_that_ends_within_the_shutdown_timeout_is_reported(long: LongTask, callbacks: CallbackServer) -> None:
    async with running_job(long.app(), long, callbacks):
        long.finish.set()
    assert callbacks.bodies("/callback") == [{"status": "success"}]


async def test_background_job_without_job_headers_runs(long: LongTask, serve: Serve, http: httpx.AsyncClient) -> None:
    url = await serve(long.app())
    assert (await http.post(f"{url}/long", json={})).status_code == 202
    await long.started.wait()
    long.finish.set()


async def test_response_waits_for_the_handler_if_it_settles_the_job(
    long: LongTask, serve: Serve, http: httpx.AsyncClient
) -> None:
    """A worker without a callback URL learns the outcome only from the response."""
    url = await serve(long.app())
    request = asyncio.create_task(http.post(f"{url}/long", json={}, headers=job_headers(None)))
    await long.started.wait()
    assert not request.done()
    long.finish.set()
    assert (await request).status_code == 200


async def test_response_of_a_worker_with_an_invocation_waits_for_the_handler_although_there_is_a_callback_url(
    long: LongTask, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """The platform's newer worker sends no heartbeat URL, and would take 202 as success."""
    url = await serve(long.app())
    headers = job_headers(callbacks.url, X_Invocation_Id="f47ac10b-58cc-4372-a567-0e02b2c3d479")
    request = asyncio.create_task(http.post(f"{url}/long", json={"fail": True}, headers=headers))
    await long.started.wait()
    assert not request.done()
    long.finish.set()
    response = await request
    assert (response.status_code, response.json()) == (500, {"message": "no luck", "code": "F500"})
    assert callbacks.bodies("/callback") == [{"status": "error", "error": "no luck"}]
