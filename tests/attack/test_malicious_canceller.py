"""A stranger who wants to cancel the jobs of others: only the database decides that a job was cancelled."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from jobfn import FunctionSettings, JobContext, create_app, task
from support.fixtures import Serve, StartService
from support.jobs import WORKER, Jobs

SECRET = "an-invoke-secret-of-the-tests-0123456789"
CANCEL = "application/vnd.jobfn.cancel"


@pytest.mark.parametrize(("secrets", "status"), [([], 200), ([SECRET], 401)], ids=["open", "with a secret"])
async def test_message_of_a_stranger_cancels_nothing(
    jobs: Jobs, serve: Serve, start_service: StartService, secrets: list[str], status: int
) -> None:
    started, finish = asyncio.Event(), asyncio.Event()
    cancelled: list[bool] = []

    @task("in_background", background=True)
    async def in_background(_payload: dict[str, Any], ctx: JobContext) -> None:
        started.set()
        await finish.wait()
        cancelled.append(ctx.cancelled)

    url = await serve(create_app(tasks=[in_background], settings=FunctionSettings(invoke_secrets=secrets)))
    await start_service(url, invoke_secrets=secrets)
    job = await jobs.add("in_background")
    async with asyncio.timeout(30):
        await started.wait()
    headers = {"Content-Type": CANCEL, "X-Worker-Id": WORKER, "X-Job-Id": str(job), "X-Job-Attempt": "1"}
    async with httpx.AsyncClient(base_url=url) as stranger:
        answers = [await stranger.post("/in_background/cancel", headers=headers) for _ in range(20)]
        unknown = await stranger.post("/in_background/cancel", headers=headers | {"X-Job-Id": "99"})
    assert {answer.status_code for answer in answers} == {status}
    assert unknown.status_code == (404 if status == 200 else 401)
    assert await jobs.exists(job)
    finish.set()
    await jobs.until_gone(job)
    assert cancelled == [False]


async def test_disconnect_of_a_stranger_cancels_nothing(jobs: Jobs, serve: Serve, start_service: StartService) -> None:
    """He sends a job with the heartbeat URL of another one, and disconnects."""
    started, ended, finish = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @task("long")
    async def long(_payload: dict[str, Any], ctx: JobContext) -> None:
        started.set()
        await finish.wait()
        assert not ctx.cancelled
        ended.set()

    url = await serve(create_app(tasks=[long]))
    service = await start_service(url, support_any=False)
    parts = urlsplit(url)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    heartbeat = service.callback_url.replace("/callback", "/heartbeat")
    writer.write(
        f"POST /long HTTP/1.1\r\nHost: {parts.netloc}\r\nX-Job-Id: 7\r\nX-Worker-Id: {WORKER}\r\nX-Job-Attempt: 1\r\n"
        f"X-Heartbeat-Url: {heartbeat}\r\nX-Lease-Seconds: 30\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    )
    await writer.drain()
    async with asyncio.timeout(30):
        await started.wait()
    writer.close()
    await asyncio.sleep(1.0)  # a disconnect is noticed within 0.2 seconds
    finish.set()
    async with asyncio.timeout(30):
        await ended.wait()
