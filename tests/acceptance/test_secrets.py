"""Secrets and payloads do not appear in logs, responses or job rows."""

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from textwrap import dedent

import httpx
import pytest

from jobfn.database.migrate import migrate
from jobfn.database.privileges import Grants
from support.commands import Command, RunningCommand, Spawn
from support.jobs import Jobs
from support.network import LOOPBACK, free_port

PAYLOAD, KEY = "p4yl0ad-value", "p4yl0ad_key"
CALLBACK_SECRET, INVOKE_SECRET = "c4llb4ck-secret" * 3, "1nv0ke-secret" * 3
PASSWORD, GATEWAY_PASSWORD = "dsn-p4ssw0rd", "g4tew4y-p4ssw0rd"
FUNCTIONS = dedent(
    """
    import asyncio
    from typing import Annotated, Any
    from pydantic import AfterValidator, BaseModel
    from jobfn import JobContext, PermanentError, RetryLater, task

    def reject(value: str) -> str:
        raise ValueError(f"{value} is not allowed")

    def fail(value: str) -> str:
        raise KeyError("the user's validator failed")

    class Card(BaseModel):
        number: int

    class Picky(BaseModel):
        note: Annotated[str, AfterValidator(reject)]

    class Breaking(BaseModel):
        note: Annotated[str, AfterValidator(fail)]

    @task("well")
    async def well(payload: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
        ctx.log.debug("working")
        return payload

    @task("background", background=True)
    async def background(payload: dict[str, Any], ctx: JobContext) -> None:
        await ctx.progress(0.5, "half")

    @task("raises")
    async def raises(payload: dict[str, Any]) -> None:
        raise RuntimeError("the user's error")

    @task("permanent")
    def permanent(payload: dict[str, Any]) -> None:
        raise PermanentError("the user's error")

    @task("later")
    async def later(payload: dict[str, Any]) -> None:
        raise RetryLater("the user's error", seconds=60)

    @task("slow", timeout=0.1)
    async def slow(payload: dict[str, Any]) -> None:
        await asyncio.sleep(10)

    @task("card")
    async def card(payload: Card) -> None: ...

    @task("picky")
    async def picky(payload: Picky) -> None: ...

    @task("breaking")
    async def breaking(payload: Breaking) -> None: ...

    @task("nothing")
    async def nothing(payload: None) -> None: ...

    @task("unwritable")
    async def unwritable(payload: dict[str, Any]) -> object:
        return object()
    """
)
FAILING = ("raises", "permanent", "later", "slow", "card", "picky", "breaking", "nothing", "nowhere")
SUCCEEDING = ("well", "background", "unwritable")


@pytest.fixture
async def worker_dsn(jobs: Jobs, database: str) -> AsyncIterator[str]:
    """DSN of a worker role, with its password."""
    role = f"jobfn_test_{secrets.token_hex(8)}"
    await jobs.connection.execute(f"create role {role} login password '{PASSWORD}'")
    await migrate(jobs.connection, "app_jobs", grants=Grants(worker=(role,)))
    scheme, _, rest = database.partition("://")
    yield f"{scheme}://{role}:{PASSWORD}@{rest.rpartition('@')[2]}"
    await jobs.connection.execute(f"drop owned by {role}")
    await jobs.connection.execute(f"drop role {role}")


async def start(spawn: Spawn, tmp_path: Path, dsn: str) -> tuple[int, RunningCommand, RunningCommand]:
    """Start a function and a service with all secrets, at debug level."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    port = free_port()
    shared = {"LOG_LEVEL": "debug", "JOBFN_INVOKE_SECRET": INVOKE_SECRET, "PYTHONASYNCIODEBUG": "1"}
    function = await spawn(
        *("jobfn", "serve", "functions.py", "--host", LOOPBACK),
        PORT=str(port),
        JOBFN_SHUTDOWN_TIMEOUT_SECONDS="1",
        JOBFN_REPORT_TIMEOUT_SECONDS="3",
        **shared,
    )
    await function.until("serving")
    service = await spawn(
        *("jobfn", "service"),
        DATABASE_URL=dsn,
        KNATIVE_SERVICE_URL=f"http://gateway:{GATEWAY_PASSWORD}@{LOOPBACK}:{port}",
        JOBS_CALLBACK_HOST=LOOPBACK,
        INTERNAL_JOBS_CALLBACK_PORT=str(free_port()),
        JOBS_CALLBACK_SECRET=CALLBACK_SECRET,
        JOBS_REPORT_GRACE_SECONDS="1",
        **shared,
    )
    await service.until("looking for jobs")
    return port, function, service


def assert_no_secrets(*texts: str) -> None:
    for secret in (PAYLOAD, KEY, CALLBACK_SECRET, INVOKE_SECRET, PASSWORD, GATEWAY_PASSWORD):
        for text in texts:
            for line in text.splitlines():
                assert secret.lower() not in line.lower(), line


async def test_no_line_and_no_row_contains_a_secret(
    jobs: Jobs, worker_dsn: str, spawn: Spawn, command: Command, tmp_path: Path
) -> None:
    port, function, service = await start(spawn, tmp_path, worker_dsn)
    payload = {"note": PAYLOAD, "number": PAYLOAD, KEY: {"deep": [PAYLOAD, 1]}}
    done = [await jobs.add(task, payload) for task in SUCCEEDING]
    failing = [await jobs.add(task, payload, max_attempts=1) for task in FAILING]
    await jobs.until_gone(*done)
    errors = [str((await jobs.until_failed(job))["last_error"]) for job in failing]
    responses = await malformed_requests(port)
    unsigned = await reports_without_a_token(service)
    function_lines = await stop(function)
    # without a function every delivery fails, with the URL in the error, but not its password
    undelivered = await jobs.add("well", payload, max_attempts=1)
    errors.append(str((await jobs.until_failed(undelivered))["last_error"]))
    service_lines = await stop(service)
    wrong = await command("jobfn", "db", "status", DATABASE_URL=f"postgresql://me:{PASSWORD}@127.0.0.1:1/shop")
    unparsable = await command("jobfn", "db", "status", DATABASE_URL=f"postgresql://me:{PASSWORD}/x@127.0.0.1:1/shop")
    assert_no_secrets(*errors, *responses, *unsigned, function_lines, service_lines, wrong.output, unparsable.output)
    assert not re.search(r"[0-9a-f]+\.[\d_-]+\.[\w-]{20,}", function_lines + service_lines), "a token was logged"
    assert "the user's error" in function_lines  # the function did log
    assert any(f"http://{LOOPBACK}:{port}/well" in error for error in errors)


async def malformed_requests(port: int) -> list[str]:
    """Send malformed requests, with and without the invoke secret; return the responses."""
    authorized = {"X-Invoke-Secret": INVOKE_SECRET, "X-Worker-Id": "worker-0", "X-Job-Id": "999999"}
    # nothing listens on port 1: the report is retried until the function stops
    reported = authorized | {
        "X-Callback-Url": f"http://user:{GATEWAY_PASSWORD}@{LOOPBACK}:1/callback?token={fake_token()}&/callback"
    }
    senders: tuple[dict[str, str], ...] = ({}, {"X-Invoke-Secret": f"{INVOKE_SECRET}x"}, authorized, reported)
    bodies = (f'{{"number": "{PAYLOAD}"', f'{{"{KEY}": 1}}', f"{PAYLOAD}", json.dumps({"number": PAYLOAD}))
    async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", timeout=30) as client:
        requests = (client.post("/card", content=body, headers=headers) for headers in senders for body in bodies)
        return [response.text for response in await asyncio.gather(*requests)]


def fake_token() -> str:
    return "65b0c0de.999999-1." + "a" * 43


async def reports_without_a_token(service: RunningCommand) -> list[str]:
    """Send reports without a valid token; return the responses."""
    line = next(line for line in service.lines if "callback server started" in line)
    url = str(json.loads(line)["callback_url"])
    headers = {"X-Worker-Id": "worker-0", "X-Job-Id": "1", "X-Job-Error": "true"}
    async with httpx.AsyncClient() as client:
        responses = [
            await client.post(url, headers=headers, json={"error": PAYLOAD}),
            await client.post(url.replace("/callback", f"/{fake_token()}/callback"), headers=headers, json={}),
        ]
    assert [response.status_code for response in responses] == [401, 401]
    return [response.text for response in responses]


async def stop(running: RunningCommand) -> str:
    """Stop a process and return its output."""
    running.process.terminate()
    await running.wait()
    return "\n".join(running.lines)
