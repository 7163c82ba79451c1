"""Outcomes are the same whether report or response settles the job (``JOBS_SETTLE_ON``)."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from chaos import proxy
from chaos.http_messages import Message, connect, send_request
from chaos.proxy import ClientWriter, ConnectionCut
from jobfn import (
    Backoff,
    FunctionApp,
    JobContext,
    PermanentError,
    ResultUnavailable,
    RetryLater,
    Task,
    create_app,
    task,
)
from jobfn.function.settings import FunctionSettings
from jobfn.wire import MAX_RESULT_BYTES
from jobfn.worker.tokens import Claim
from support.fixtures import Serve, StartService
from support.function_app import SECRET
from support.jobs import WORKER, Jobs
from support.secrets import CALLBACK_SECRET, OTHER_INVOKE_SECRET, schema_tokens, sign_url

HOUR = 3600.0


@task("add_up", keep_result=True)
async def add_up(payload: list[int]) -> dict[str, Any]:
    return {"sum": sum(payload), "ü": None}


@task("nothing", keep_result=timedelta(minutes=1))
async def nothing(payload: None) -> None: ...


@task("in_the_background", background=True, keep_result=True)
async def in_the_background(payload: None) -> list[str]:
    return ["done"]


@task("unserializable", keep_result=True)
async def unserializable(payload: None) -> object:
    return object()


@task("large", keep_result=True)
async def large(payload: int) -> str:
    return "x" * payload


@task("plain")
async def plain(payload: None) -> int:
    return 1


@task("never", keep_result=True)
async def never(payload: None) -> None:
    raise PermanentError("no such invoice")


@task("later")
async def later(payload: None) -> None:
    raise RetryLater("the bank is closed", seconds=HOUR)


@task("fails")
async def fails(payload: None) -> None:
    raise ValueError("no")


@task("slowly", backoff=Backoff(seconds=HOUR, factor=2, jitter=0))
async def slowly(payload: None) -> None:
    raise ValueError("not yet")


@task("once", max_attempts=1)
async def once(payload: None) -> None:
    raise ValueError("that was it")


@task("hangs", timeout=0.05, max_attempts=1)
async def hangs(payload: None) -> None:
    await asyncio.Event().wait()


TASKS: list[Task[..., Any]] = [
    *(add_up, nothing, in_the_background, unserializable, large, plain),
    *(never, later, fails, slowly, once, hangs),
]


@pytest.fixture(params=["auto", "report", "response"])
def settle_on(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def service(settle_on: str, serve: Serve, start_service: StartService) -> None:
    """Run a service in this mode; the other way to settle a job would take an hour."""
    await start_service(await serve(create_app(tasks=TASKS)), settle_on=settle_on, report_grace_seconds=HOUR)


@pytest.mark.usefixtures("service")
async def test_result_is_kept_for_as_long_as_the_task_says(connection: "asyncpg.Connection[Any]") -> None:
    result = await (await add_up.enqueue(connection, [1, 2, 39])).result(timeout=20)
    assert (result.outcome, result.value) == ("completed", {"sum": 42, "ü": None})
    assert (await (await in_the_background.enqueue(connection, None)).result(timeout=20)).value == ["done"]
    job = await nothing.enqueue(connection, None)
    assert (await job.result(timeout=20)).value is None
    retention = "select extract(epoch from expires_at - ended_at)::int from app_jobs.job_results where job_id = $1"
    assert await connection.fetchval(retention, job) == 60


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("chosen", "payload", "reason"),
    [
        (unserializable, None, "is not JSON-serializable"),
        (large, MAX_RESULT_BYTES, "larger than the 64 KiB"),
        (large, 2_000_000, "larger than the 64 KiB"),  # more than the worker reads of a response
    ],
)
async def test_unavailable_result_completes_the_job_with_a_reason(
    connection: "asyncpg.Connection[Any]", chosen: Any, payload: object, reason: str
) -> None:
    result = await (await chosen.enqueue(connection, payload)).result(timeout=20)
    assert result.outcome == "completed"
    with pytest.raises(ResultUnavailable, match=reason):
        _ = result.value


@pytest.mark.usefixtures("service")
async def test_result_is_not_kept_without_keep_result(connection: "asyncpg.Connection[Any]", jobs: Jobs) -> None:
    await jobs.until_gone(await plain.enqueue(connection, None))
    assert await connection.fetchval("select count(*) from app_jobs.job_results") == 0


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("name", "error", "seconds"),
    [
        ("fails", "no", 2.718),  # the contract's exp(attempts)
        ("slowly", "not yet", HOUR),
        ("later", "the bank is closed", HOUR),
    ],
)
async def test_failed_job_is_retried_after_the_task_s_delay(jobs: Jobs, name: str, error: str, seconds: float) -> None:
    row = await jobs.until_failed(await jobs.add(name))
    assert (row["last_error"], row["attempts"]) == (error, 1)
    assert (row["run_at"] - row["updated_at"]).total_seconds() == pytest.approx(seconds, abs=0.1)


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("name", "payload", "error"),
    [
        ("never", None, "no such invoice"),
        ("once", None, "that was it"),
        ("hangs", None, "hangs did not finish within its timeout of 0.05 seconds"),
        ("add_up", {"not": "a list"}, "Input should be a valid array"),
    ],
)
async def test_permanently_failed_job_has_no_attempts_left(jobs: Jobs, name: str, payload: object, error: str) -> None:
    row = await jobs.until_failed(await jobs.add(name, payload))
    assert error in row["last_error"]
    assert row["attempts"] == row["max_attempts"]


async def test_progress_is_recorded(
    settle_on: str, serve: Serve, start_service: StartService, connection: "asyncpg.Connection[Any]", jobs: Jobs
) -> None:
    reported, gate = asyncio.Event(), asyncio.Event()

    @task("long")
    async def long(payload: None, ctx: JobContext) -> None:
        await ctx.progress(0.5, "half")
        reported.set()
        await gate.wait()

    await start_service(await serve(create_app(tasks=[long])), settle_on=settle_on, callback_secrets=CALLBACK_SECRET)
    job = await long.enqueue(connection, None)
    await asyncio.wait_for(reported.wait(), 20)
    row = await jobs.row(job)
    assert (row["progress"], row["progress_message"]) == (0.5, "half")
    gate.set()
    await jobs.until_gone(job)


@dataclass
class Held:
    """A task that waits for ``gate``, and records its attempts."""

    attempts: list[int | None] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def create_app(self, **settings: Any) -> FunctionApp:
        @task("held", keep_result=True)
        async def held(payload: dict[str, Any], ctx: JobContext) -> str:
            self.attempts.append(ctx.attempt)
            self.started.set()
            await self.gate.wait()
            return "result"

        return create_app(tasks=[held], settings=FunctionSettings(**settings))


async def test_report_of_an_earlier_attempt_is_rejected(
    settle_on: str, serve: Serve, start_service: StartService, jobs: Jobs
) -> None:
    held = Held()
    job = await jobs.add("held")
    await jobs.connection.execute("select app_jobs.claim_jobs($1, null, '4 hours', 1, '1 hour')", WORKER)
    service = await start_service(await serve(held.create_app()), settle_on=settle_on)  # reclaims the job
    await asyncio.wait_for(held.started.wait(), 20)
    async with httpx.AsyncClient() as client:
        tokens = await schema_tokens(jobs.connection)
        for attempt in (1, 3):
            headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job)}
            url = sign_url(tokens, service.callback_url, Claim(WORKER, job, attempt))
            assert (await client.post(url, headers=headers)).status_code == 409
    held.gate.set()
    await jobs.until_gone(job)
    assert held.attempts == [2]


async def test_outcome_of_a_job_that_another_worker_has_claimed_changes_nothing(
    settle_on: str, serve: Serve, start_service: StartService, jobs: Jobs
) -> None:
    held = Held()
    service = await start_service(await serve(held.create_app()), settle_on=settle_on, report_grace_seconds=HOUR)
    job = await jobs.add("held")
    await asyncio.wait_for(held.started.wait(), 20)
    await jobs.update("locked_by = 'another-worker', attempts = 2")
    held.gate.set()
    await service.stop()  # with the settlements
    assert await jobs.values(job, "locked_by", "attempts", "last_error") == ("another-worker", 2, None)
    assert await jobs.connection.fetchval("select count(*) from app_jobs.job_results") == 0


async def test_job_behind_a_proxy_that_asks_for_an_upgrade_completes(
    settle_on: str, serve: Serve, start_service: StartService, jobs: Jobs
) -> None:
    held = Held()
    held.gate.set()
    function_port = urlsplit(await serve(held.create_app())).port
    assert function_port is not None

    async def add_upgrade(request: Message, client: ClientWriter) -> None:
        asking = request.with_header("Connection", "Upgrade").with_header("Upgrade", "h2c")
        client.write((await send_request(function_port, asking)).raw)

    async with proxy.serve(add_upgrade, []) as port:
        await start_service(f"http://127.0.0.1:{port}", settle_on=settle_on)
        job = await jobs.add("held")
        await jobs.until_gone(job)
    assert held.attempts == [1]


@pytest.mark.parametrize("settle_on", ["auto", "report"])
async def test_report_settles_a_job_whose_connection_broke(
    settle_on: str, serve: Serve, start_service: StartService, jobs: Jobs
) -> None:
    held = Held()
    function_port = urlsplit(await serve(held.create_app())).port
    assert function_port is not None

    async def cut(request: Message, _client: ClientWriter) -> None:
        async with connect(function_port) as (_, writer):
            writer.write(request.raw)
            await held.started.wait()
        held.gate.set()
        raise ConnectionCut

    async with proxy.serve(cut, []) as port:
        await start_service(f"http://127.0.0.1:{port}", settle_on=settle_on, report_grace_seconds=HOUR)
        job = await jobs.add("held")
        await jobs.until_gone(job)
    assert held.attempts == [1]


@pytest.mark.parametrize("sent", [SECRET, "wrong" * 8, None])
async def test_function_requires_its_secret(
    sent: str | None, settle_on: str, serve: Serve, start_service: StartService, jobs: Jobs
) -> None:
    held = Held()
    held.gate.set()
    url = await serve(held.create_app(invoke_secrets=[OTHER_INVOKE_SECRET, SECRET]))
    settings = {} if sent is None else {"invoke_secrets": sent}
    await start_service(url, settle_on=settle_on, report_grace_seconds=0.05, **settings)
    job = await jobs.add("held", max_attempts=1)
    if sent == SECRET:
        await jobs.until_gone(job)
    else:
        row = await jobs.until_failed(job)
        assert row["last_error"] == "X-Invoke-Secret is missing or wrong: send the function's secret"
    assert len(held.attempts) == (sent == SECRET)


async def test_response_keeps_the_result_if_no_report_arrives(
    serve: Serve, start_service: StartService, connection: "asyncpg.Connection[Any]"
) -> None:
    settings = FunctionSettings(callback_allowed_hosts=["nowhere.example"])
    gateway = await serve(create_app(tasks=TASKS, settings=settings))
    await start_service(gateway, settle_on="report", report_grace_seconds=0.05)
    assert (await (await add_up.enqueue(connection, [1])).result(timeout=20)).value == {"sum": 1, "ü": None}


async def test_response_has_the_result_and_its_retention(serve: Serve) -> None:
    url = await serve(create_app(tasks=TASKS))
    async with httpx.AsyncClient(base_url=url) as client:
        kept = await client.post("/add_up", json=[1])
        not_kept = await client.post("/plain")
    assert kept.json() == {"sum": 1, "ü": None}
    assert kept.headers["x-keep-result-seconds"] == "86400"
    assert "x-keep-result-seconds" not in not_kept.headers
