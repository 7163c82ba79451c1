"""A response with ``Retry-After`` pauses the key of a limit, in all workers."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from jobfn.database.records import Job
from jobfn.worker.delivery import Busy, OnResult
from support.commands import Spawn, spawn_two_workers
from support.fixtures import Serve
from support.jobs import Jobs
from support.limits import held, set_limit
from support.network import eventually
from support.scripted_worker import ScriptedBatches, running_worker

PAUSED = "select key, paused_until - now() as left from app_jobs.limit_keys where paused_until > now() order by key"


class PartnerFunction:
    """A function that is not of jobfn, and whose partner refuses one customer. Jobs of others wait for two workers.

    Attributes:
        received: The customers of the deliveries, by worker.
    """

    def __init__(self, refusal: Response) -> None:
        self.received: Counter[tuple[str, str]] = Counter()
        self._refusal = refusal
        self._both = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a delivery."""
        request = Request(scope, receive)
        customer, worker = json.loads(await request.body())["customer"], request.headers["x-worker-id"]
        self.received[customer, worker] += 1
        if customer == "acme":
            await self._refusal(scope, receive, send)
            return
        if len({worker for customer, worker in self.received if customer != "acme"}) == 2:
            self._both.set()
        await self._both.wait()
        await JSONResponse({})(scope, receive, send)


def http_date(after: timedelta) -> str:
    return format_datetime(datetime.now(UTC) + after, usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
async def test_two_workers_send_no_other_job_of_the_key(
    jobs: Jobs, database: str, serve: Serve, spawn: Spawn, status: int
) -> None:
    """Jobs of other keys go on, also in the worker whose delivery was refused."""
    retry_after = "3600" if status == 429 else http_date(timedelta(hours=1))
    function = PartnerFunction(
        Response("slow down", status, {"Retry-After": retry_after, "Date": http_date(timedelta(0))})
    )
    await set_limit(jobs.connection, "sync", per="payload.customer", concurrency=100, pauses_on_retry_later=True)
    refused = await jobs.add("sync", {"customer": "acme"})
    url = await serve(function)
    await spawn_two_workers(spawn, database, url, JOBS_CONCURRENCY="1", JOBS_REPORT_GRACE_SECONDS="0")

    async def is_held() -> bool:
        return await held(jobs.connection) == [refused]

    await eventually(is_held, seconds=60)
    waiting = [await jobs.add("sync", {"customer": "acme"}) for _ in range(3)]
    others = [await jobs.add("sync", {"customer": customer}) for customer in ("b", "c", "d", "e")]
    await jobs.until_gone(*others, seconds=60)
    assert await held(jobs.connection) == [refused, *waiting]
    assert sum(count for (customer, _), count in function.received.items() if customer == "acme") == 1
    [pause] = await jobs.connection.fetch(PAUSED)
    assert (pause["key"], timedelta(minutes=50) < pause["left"] <= timedelta(hours=1)) == ("acme", True)
    assert await jobs.values(refused, "attempts") == (0,)


@pytest.mark.parametrize(
    ("pauses", "seconds", "paused"),
    [(True, 600.0, ["acme", "beta"]), (True, None, []), (False, 600.0, [])],
)
async def test_refused_batch_pauses_the_keys_of_its_jobs(
    jobs: Jobs,
    database: str,
    pauses: bool,  # noqa: FBT001  - a parameter of a table
    seconds: float | None,
    paused: list[str],
) -> None:
    async def refuse(batch: Sequence[Job], on_result: OnResult) -> None:
        for job in batch:
            on_result(job, Busy("slow down", seconds))

    await set_limit(jobs.connection, "sync", per="payload.customer", concurrency=100, pauses_on_retry_later=pauses)
    for customer in ("acme", "beta", "acme"):
        await jobs.add("sync", {"customer": customer})

    async def are_released() -> bool:
        rows = await jobs.connection.fetch("select outcome from app_jobs.job_runs")
        return [row["outcome"] for row in rows] == ["released"] * 3

    async with running_worker(database, ScriptedBatches(refuse), asyncio.Event(), poll_interval_seconds=3600.0):
        await eventually(are_released, seconds=30)
    assert [row["key"] for row in await jobs.connection.fetch(PAUSED)] == paused


async def test_a_stranger_pauses_no_key(jobs: Jobs) -> None:
    await set_limit(jobs.connection, "sync", concurrency=100, pauses_on_retry_later=True)
    job = await jobs.add("sync")
    await jobs.claim("the-worker")
    pause = "select app_jobs.pause_limits_of_job($1, $2, $3, '1 hour')"
    for worker, attempt in (("another-worker", 1), ("the-worker", 2)):
        assert await jobs.connection.fetchval(pause, worker, job, attempt) is False
    assert await jobs.connection.fetch(PAUSED) == []
    assert await jobs.connection.fetchval(pause, "the-worker", job, 1) is True
