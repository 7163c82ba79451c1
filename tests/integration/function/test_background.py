"""Jobs that outlive their request: accepted, kept alive by signs of life, reported when they end."""

import asyncio
from typing import Any

import httpx
import pytest

from jobfn import FunctionApp, FunctionSettings, JobContext, create_app, task
from jobfn.function.context import Progress
from support.fixtures import Serve
from support.function_app import PATIENT, Behaviour, CallbackServer, job_headers
from support.network import eventually

LEASE_SECONDS = 0.3


class Long:
    """A task that runs until it is told, and what it went through."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.go = asyncio.Event()
        self.cancelled = asyncio.Event()

        @task("long", background=True)
        async def long(payload: dict[str, Any], ctx: JobContext) -> str:
            self.started.set()
            await ctx.progress(0.25, "rendering")
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
            if payload.get("fail"):
                raise ValueError("no luck")
            return "done"

        self.task = long

    def app(self, settings: FunctionSettings = PATIENT) -> FunctionApp:
        return create_app(tasks=[self.task], settings=settings)


@pytest.fixture
async def long() -> Long:
    return Long()


def headers(callbacks: CallbackServer, job: int = 42) -> dict[str, str]:
    beats = callbacks.url.replace("/callback", "/heartbeat")
    return job_headers(callbacks.url, job, X_Job_Attempt="1", X_Heartbeat_Url=beats, X_Lease_Seconds=str(LEASE_SECONDS))


def heard(callbacks: CallbackServer, path: str) -> list[dict[str, Any]]:
    return [received.body for received in callbacks.received if received.target.endswith(path)]


@pytest.mark.parametrize(
    ("payload", "report"),
    [({}, {"status": "success"}), ({"fail": True}, {"status": "error", "error": "no luck"})],
)
async def test_it_is_accepted_at_once_and_reported_when_it_ends(
    payload: dict[str, Any],
    report: dict[str, Any],
    long: Long,
    serve: Serve,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
) -> None:
    """202 while the handler runs, no report yet; exactly one, with the outcome, after it has ended."""
    url = await serve(long.app())
    response = await http.post(f"{url}/long", json=payload, headers=headers(callbacks))
    assert (response.status_code, response.json()) == (202, {"accepted": True})
    assert "x-job-error" not in response.headers
    await long.started.wait()
    assert heard(callbacks, "/callback") == []
    long.go.set()

    async def reported() -> bool:
        return bool(heard(callbacks, "/callback"))

    await eventually(reported)
    assert heard(callbacks, "/callback") == [report]


async def test_signs_of_life_are_sent_while_it_runs(
    long: Long, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """One every third of the lease, with the job's headers and the progress told last, until it has reported."""
    url = await serve(long.app())
    await http.post(f"{url}/long", json={}, headers=headers(callbacks))

    async def several() -> bool:
        return len(heard(callbacks, "/heartbeat")) >= 4

    await eventually(several)
    assert all(body == {"progress": 0.25, "note": "rendering"} for body in heard(callbacks, "/heartbeat"))
    first = callbacks.received[0]
    assert (first.headers["x-worker-id"], first.headers["x-job-id"], first.headers["x-job-attempt"]) == (
        "worker-7",
        "42",
        "1",
    )
    long.go.set()

    async def reported() -> bool:
        return bool(heard(callbacks, "/callback"))

    await eventually(reported)
    assert heard(callbacks, "/callback") == [{"status": "success"}]


async def test_a_job_that_is_somebody_else_s_now_is_stopped(
    long: Long, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """A sign of life answered with 409: the handler is cancelled, and nothing is reported."""
    callbacks.behave(200, 409)
    url = await serve(long.app())
    await http.post(f"{url}/long", json={}, headers=headers(callbacks))
    await asyncio.wait_for(long.cancelled.wait(), 10)
    assert heard(callbacks, "/callback") == []


@pytest.mark.parametrize("first", [500, "close"])  # what the handler's own word of its progress gets
async def test_a_callback_server_in_trouble_does_not_end_it(
    first: Behaviour, long: Long, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """Signs of life that get 500 or no answer are followed by the next; the report comes all the same."""
    callbacks.behave(first, "close", 500, 200)
    url = await serve(long.app())
    await http.post(f"{url}/long", json={}, headers=headers(callbacks))

    async def several() -> bool:
        return len(callbacks.received) >= 5

    await eventually(several)
    long.go.set()

    async def reported() -> bool:
        return bool(heard(callbacks, "/callback"))

    await eventually(reported)
    assert heard(callbacks, "/callback") == [{"status": "success"}]


async def test_a_sign_of_life_that_hangs_does_not_delay_the_next(
    long: Long, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """It is given up after a third of the lease, and the next is sent then: before the lease would end."""
    callbacks.behave(200, "hang", 200)
    url = await serve(long.app())
    await http.post(f"{url}/long", json={}, headers=headers(callbacks) | {"X-Lease-Seconds": "2"})
    await callbacks.until(2)
    hung = asyncio.get_running_loop().time()
    await callbacks.until(3)
    assert asyncio.get_running_loop().time() - hung < 2
    long.go.set()


async def test_at_its_limit_the_function_says_busy(
    long: Long, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """JOBFN_MAX_BACKGROUND_JOBS: one more is answered with 429 and Retry-After, no job error, and not reported."""
    url = await serve(long.app(PATIENT.model_copy(update={"max_background_jobs": 1})))
    assert (await http.post(f"{url}/long", json={}, headers=headers(callbacks))).status_code == 202
    busy = await http.post(f"{url}/long", json={}, headers=headers(callbacks, 43))
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "1")
    assert "x-job-error" not in busy.headers
    assert "JOBFN_MAX_BACKGROUND_JOBS" in busy.json()["message"]
    assert heard(callbacks, "/callback") == []
    long.go.set()


async def test_a_job_that_outlasts_the_shutdown_is_reported_as_stopped(
    long: Long, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """When the app stops, jobs in the background have the shutdown's time, then they end and say so."""
    app = long.app(PATIENT.model_copy(update={"shutdown_timeout_seconds": 0.1}))
    async with (
        app.lifespan_context(),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client,
    ):
        assert (await client.post("/long", json={}, headers=headers(callbacks))).status_code == 202
        await long.started.wait()
    assert long.cancelled.is_set()
    assert heard(callbacks, "/callback") == [
        {"status": "error", "error": "the function was stopped before long finished"}
    ]


async def test_a_job_that_ends_in_time_is_reported_as_it_ended(
    long: Long, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """When the app stops, a job in the background that is nearly done is waited for."""
    app = long.app()
    async with (
        app.lifespan_context(),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client,
    ):
        assert (await client.post("/long", json={}, headers=headers(callbacks))).status_code == 202
        await long.started.wait()
        long.go.set()
    assert heard(callbacks, "/callback") == [{"status": "success"}]


async def test_by_hand_it_runs_without_a_report(long: Long, serve: Serve, http: httpx.AsyncClient) -> None:
    """Without job headers there is nobody to report to; the handler runs all the same."""
    url = await serve(long.app())
    assert (await http.post(f"{url}/long", json={})).status_code == 202
    await long.started.wait()
    long.go.set()


async def test_where_the_response_settles_the_job_it_is_waited_for(
    long: Long, serve: Serve, http: httpx.AsyncClient
) -> None:
    """A worker that wants no report hears of the end in the response, and nowhere else."""
    url = await serve(long.app())
    asking = asyncio.create_task(http.post(f"{url}/long", json={}, headers=job_headers(None)))
    await long.started.wait()
    assert not asking.done()
    long.go.set()
    assert (await asking).status_code == 200


@pytest.mark.parametrize("share", [-0.1, 1.1])
async def test_progress_is_a_share(share: float) -> None:
    """What is not from 0 to 1 is refused where it is written."""
    with pytest.raises(ValueError, match="fraction must be from 0 to 1"):
        await JobContext(task="t").progress(share)


async def test_a_progress_note_has_a_length() -> None:
    """A note over 1,000 characters is refused where it is written."""
    with pytest.raises(ValueError, match="at most 1000 characters"):
        await JobContext(task="t").progress(message="x" * 1001)


async def test_a_test_may_listen_to_progress() -> None:
    """A context made by hand takes a listener, or none."""
    context = JobContext(task="t")
    await context.progress(0.5)
    told: list[Progress] = []

    async def listen(progress: Progress) -> None:
        told.append(progress)

    context.on_progress = listen
    await context.progress(0.75, "nearly")
    assert told == [Progress(0.75, "nearly")]


def test_the_idempotency_key_is_the_job_s() -> None:
    """The same for every attempt of a job, another for another job or tenant."""
    first = JobContext(task="t", job_id=1, attempt=1)
    assert first.idempotency_key == JobContext(task="t", job_id=1, attempt=2).idempotency_key == "jobfn:t:1"
    assert JobContext(task="t", job_id=2).idempotency_key != first.idempotency_key
