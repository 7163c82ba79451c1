"""Tasks in the worker's own process: settled as over HTTP, and taken ahead where they are quick."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from pydantic import BaseModel

from jobfn import FunctionApp, JobContext, PermanentError, RetryLater, create_app, task
from jobfn.in_process import local_settings, local_tasks
from jobfn.service import run_service
from jobfn.worker.settings import ServiceRole, ServiceSettings
from support.jobs import TENANT, WORKER, Jobs
from support.network import eventually

StartLocal = Callable[..., Awaitable[Callable[[], Awaitable[None]]]]


class Invoice(BaseModel):
    id: int


@pytest.fixture
async def start_local(database: str) -> AsyncIterator[StartLocal]:
    """Run a worker with an app's tasks; returns what stops it."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(app: FunctionApp, **settings: object) -> Callable[[], Awaitable[None]]:
            values: dict[str, object] = {"database_url": database, "worker_id": WORKER, "shutdown_timeout_seconds": 5.0}
            stop = asyncio.Event()
            running = asyncio.create_task(
                run_service(
                    local_settings(ServiceSettings.from_environ({}, **(values | settings)), app),
                    stop,
                    roles=[ServiceRole.WORKER],
                    deliverer_factory=functools.partial(local_tasks, app),
                )
            )

            async def end() -> None:
                stop.set()
                await running

            stack.push_async_callback(end)
            return end

        yield start


async def test_a_job_runs_here(jobs: Jobs, start_local: StartLocal) -> None:
    """Its handler gets the payload and knows the job; the row is gone; the app's lifespan is around it all."""
    seen: list[Any] = []

    @task("process_invoice")
    async def process(invoice: Invoice, ctx: JobContext) -> dict[str, int]:
        seen.append((invoice.id, ctx.job_id, ctx.attempt, ctx.worker_id, str(ctx.database_id)))
        return {"done": invoice.id}

    @contextlib.asynccontextmanager
    async def lifespan(_app: FunctionApp) -> AsyncIterator[None]:
        seen.append("begin")
        yield
        seen.append("end")

    stop = await start_local(create_app(tasks=[process], lifespan=lifespan))
    await jobs.connection.execute("select app_jobs.add_job($1::uuid, 'process_invoice', '{\"id\": 7}')", TENANT)
    await jobs.until_gone(1)
    await stop()
    assert seen == ["begin", (7, 1, 1, WORKER, TENANT), "end"]


async def test_every_end_is_written_down(jobs: Jobs, start_local: StartLocal) -> None:
    """A failure with its time, one for good, a payload that does not fit, a sync handler, a task of somebody else's."""

    @task("later")
    async def later(_payload: dict[str, Any]) -> None:
        raise RetryLater("busy there", seconds=3600)

    @task("never")
    def never(_payload: dict[str, Any]) -> None:
        raise PermanentError("no such customer")

    @task("typed")
    async def typed(_payload: Invoice) -> None: ...

    await start_local(create_app(tasks=[later, never, typed]))
    foreign = await jobs.add("elsewhere")
    ids = [await jobs.add(name, {"id": "x"}) for name in ("later", "never", "typed")]
    rows = [await jobs.until_failed(job) for job in ids]
    assert [(row["attempts"], row["exhausted"]) for row in rows] == [(1, False), (25, True), (25, True)]
    assert [row["last_error"] for row in rows[:2]] == ["busy there", "no such customer"]
    assert "id" in rows[2]["last_error"]
    assert (rows[0]["run_at"] - rows[0]["updated_at"]).total_seconds() > 3000
    row = await jobs.row(foreign)
    assert row is not None
    assert (row["attempts"], row["locked_by"]) == (0, None)


async def test_progress_goes_to_the_row(jobs: Jobs, start_local: StartLocal) -> None:
    """Without a callback server between."""
    go = asyncio.Event()

    @task("long")
    async def long(_payload: dict[str, Any], ctx: JobContext) -> None:
        await ctx.progress(0.5, "halfway")
        await go.wait()

    await start_local(create_app(tasks=[long]))
    job = await jobs.add("long")

    async def told() -> bool:
        row = await jobs.row(job)
        return row is not None and (row["progress"], row["progress_note"]) == (0.5, "halfway")

    await eventually(told)
    go.set()
    await jobs.until_gone(job)


@pytest.mark.parametrize("how", ["waiting", "stopping"])
async def test_what_was_taken_ahead_and_not_begun_goes_back(how: str, jobs: Jobs, start_local: StartLocal) -> None:
    """Quick jobs are taken ahead; when the next ones hang, or the worker stops, the rest is free as if untouched."""
    ran: list[int] = []
    hanging = asyncio.Event()
    go = asyncio.Event()

    @task("t")
    async def t(payload: Invoice) -> None:
        ran.append(payload.id)
        if payload.id > 3000:
            hanging.set()
            await go.wait()

    stop = await start_local(create_app(tasks=[t]), concurrency=8, poll_interval_seconds=0.1)
    await jobs.connection.execute(
        "select app_jobs.add_job('t', json_build_object('id', i)) from generate_series(1, 5000) i"
    )
    await asyncio.wait_for(hanging.wait(), 60)

    async def only_the_running_are_held() -> bool:
        held: int = await jobs.connection.fetchval("select count(*) from app_jobs.jobs where locked_by is not null")
        return 0 < held <= 8

    if how == "waiting":
        await eventually(only_the_running_are_held, seconds=30)
    else:
        go.set()
        await stop()
        assert await jobs.connection.fetchval("select count(*) from app_jobs.jobs where locked_by is not null") == 0
    assert await jobs.connection.fetchval("select max(attempts) from app_jobs.jobs where locked_by is null") == 0
    go.set()
    if how == "stopping":
        await start_local(create_app(tasks=[t]))
    await jobs.until_gone(seconds=60)
    assert sorted(ran) == list(range(1, 5001))
