"""``@task(max_attempts=...)`` of handlers that kill their process, so that their function never responds."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from support.fixtures import StartService
from support.jobs import Jobs
from support.network import LOOPBACK


@dataclass
class DyingFunction:
    """A function app that lists ``listed``, and closes the connection of each job without a response.

    Attributes:
        listed: The tasks of its list.
        response: What a job gets instead, as bytes.
    """

    listed: object
    response: bytes = b""
    attempts: list[str] = field(default_factory=list)
    url: str = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if head.startswith("GET / "):
            body = json.dumps({"tasks": self.listed}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        else:
            headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            await reader.readexactly(int(headers["Content-Length"]))
            self.attempts.append(headers["X-Job-Attempt"])
            writer.write(self.response)
        await writer.drain()
        writer.close()


@pytest.fixture
async def dying(start_service: StartService) -> AsyncIterator[DyingFunction]:
    """A function whose task ``kills`` allows two attempts, with a worker."""
    function = DyingFunction([{"identifier": "other"}, {"identifier": "kills", "max_attempts": 2}])
    server = await asyncio.start_server(function.handle, LOOPBACK, 0)
    function.url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    await start_service(function.url, poll_interval_seconds=0.05)
    yield function
    server.close()


async def fail_twice(jobs: Jobs, job: int) -> "tuple[object, ...]":
    await jobs.until_failed(job, attempts=1)
    await jobs.update("run_at = now()")
    await jobs.until_failed(job, attempts=2)
    return await jobs.values(job, "exhausted")


async def test_job_that_kills_its_function_has_as_many_attempts_as_its_task_allows(
    dying: DyingFunction, jobs: Jobs
) -> None:
    assert await fail_twice(jobs, await jobs.add("kills")) == (True,)
    assert dying.attempts == ["1", "2"]


async def test_proxy_s_response_for_a_dead_function_counts_as_none(dying: DyingFunction, jobs: Jobs) -> None:
    dying.response = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert await fail_twice(jobs, await jobs.add("kills")) == (True,)


@pytest.mark.parametrize(
    "listed", [None, 7, [], ["kills"], [{"identifier": "kills"}], [{"identifier": "kills", "max_attempts": "2.5"}]]
)
async def test_task_without_a_listed_limit_has_that_of_the_job(
    listed: object, dying: DyingFunction, jobs: Jobs
) -> None:
    dying.listed = listed
    assert await fail_twice(jobs, await jobs.add("kills")) == (False,)


async def test_limit_of_a_response_counts_from_the_next_job(dying: DyingFunction, jobs: Jobs) -> None:
    dying.response = (
        b"HTTP/1.1 200 OK\r\nX-Job-Id: 1\r\nX-Settle-On: response\r\nX-Max-Attempts: 1\r\n"
        b"Content-Length: 4\r\nConnection: close\r\n\r\nnull"
    )
    await jobs.until_gone(await jobs.add("once"))
    dying.response = b""
    job = await jobs.add("once")
    await jobs.until_failed(job)
    assert await jobs.values(job, "exhausted") == (True,)


async def test_function_that_cannot_be_reached_has_not_started_the_last_attempt(
    start_service: StartService, jobs: Jobs
) -> None:
    await start_service("http://127.0.0.1:1", poll_interval_seconds=0.05)
    assert await fail_twice(jobs, await jobs.add("kills")) == (False,)
