"""Tasks in the worker's process."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest
import structlog
from pydantic import BaseModel

from jobfn import Backoff, FunctionApp, JobContext, PermanentError, RetryLater, create_app, task
from jobfn.in_process import local_settings, local_tasks
from jobfn.worker.settings import ServiceRole, ServiceSettings
from support.batch_function import add_payloads
from support.jobs import TENANT, WORKER, Jobs
from support.network import eventually
from support.service import start_in_loop

StartLocal = Callable[..., Awaitable[Callable[[], Awaitable[None]]]]


class Invoice(BaseModel):
    id: int


@pytest.fixture
async def start_local(database: str) -> AsyncIterator[StartLocal]:
    """Run a worker with an app's tasks; return what stops it."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(app: FunctionApp, **settings: object) -> Callable[[], Awaitable[None]]:
            defaults: dict[str, object] = {
                "database_url": database,
                "worker_id": WORKER,
                "shutdown_timeout_seconds": 5.0,
            }
            return await start_in_loop(
                stack,
                local_settings(ServiceSettings.from_environ({}, **(defaults | settings)), app),
                roles=[ServiceRole.WORKER],
                deliverer_factory=functools.partial(local_tasks, app),
            )

        yield start


async def test_handler_receives_payload_and_context_within_the_lifespan(jobs: Jobs, start_local: StartLocal) -> None:
    calls: list[Any] = []

    @task("process_invoice")
    async def process(invoice: Invoice, ctx: JobContext) -> dict[str, int]:
        calls.append((invoice.id, ctx.job_id, ctx.attempt, ctx.worker_id, str(ctx.database_id)))
        return {"done": invoice.id}

    @contextlib.asynccontextmanager
    async def lifespan(_app: FunctionApp) -> AsyncIterator[None]:
        calls.append("startup")
        yield
        calls.append("shutdown")

    stop = await start_local(create_app(tasks=[process], lifespan=lifespan))
    await jobs.connection.execute("select app_jobs.add_job($1::uuid, 'process_invoice', '{\"id\": 7}')", TENANT)
    await jobs.until_gone(1)
    await stop()
    assert calls == ["startup", (7, 1, 1, WORKER, TENANT), "shutdown"]


async def test_failures_are_settled_and_other_tasks_not_claimed(jobs: Jobs, start_local: StartLocal) -> None:
    @task("later")
    async def later(_payload: dict[str, Any]) -> None:
        raise RetryLater("bank closed", seconds=3600)

    @task("never")
    def never(_payload: dict[str, Any]) -> None:
        raise PermanentError("no such customer")

    @task("typed")
    async def typed(_payload: Invoice) -> None: ...

    await start_local(create_app(tasks=[later, never, typed]))
    other = await jobs.add("elsewhere")
    ids = [await jobs.add(name, {"id": "x"}) for name in ("later", "never", "typed")]
    rows = [await jobs.until_failed(job) for job in ids]
    assert [(row["attempts"], row["exhausted"]) for row in rows] == [(1, False), (25, True), (25, True)]
    assert [row["last_error"] for row in rows[:2]] == ["bank closed", "no such customer"]
    assert "id" in rows[2]["last_error"]
    assert (rows[0]["run_at"] - rows[0]["updated_at"]).total_seconds() > 3000
    row = await jobs.row(other)
    assert (row["attempts"], row["locked_by"]) == (0, None)


async def test_traceback_is_stored_with_the_attempt(jobs: Jobs, start_local: StartLocal) -> None:
    @task("explode")
    async def explode(_payload: dict[str, Any]) -> None:
        raise ValueError("boom")

    await start_local(create_app(tasks=[explode]))
    job = await jobs.add("explode", {})
    await jobs.until_failed(job)
    [stored] = await jobs.connection.fetch("select job_id, traceback from app_jobs.job_tracebacks")
    assert stored["job_id"] == job
    assert stored["traceback"].endswith(', in explode\n    raise ValueError("boom")\nValueError: boom')


async def test_progress_is_recorded(jobs: Jobs, start_local: StartLocal) -> None:
    reported, gate = asyncio.Event(), asyncio.Event()

    @task("long")
    async def long(_payload: dict[str, Any], ctx: JobContext) -> None:
        await ctx.progress(0.5, "halfway")
        reported.set()
        await gate.wait()

    await start_local(create_app(tasks=[long]))
    job = await jobs.add("long")
    await asyncio.wait_for(reported.wait(), 10)
    row = await jobs.row(job)
    assert (row["progress"], row["progress_message"]) == (0.5, "halfway")
    gate.set()
    await jobs.until_gone(job)


@pytest.mark.parametrize("reason", ["slots blocked", "shutdown"])
async def test_prefetched_jobs_are_released(reason: str, jobs: Jobs, start_local: StartLocal) -> None:
    """Quick jobs are prefetched. When the next ones block, or the worker stops, the rest is released untouched."""
    ran: list[int] = []
    blocked, gate = asyncio.Event(), asyncio.Event()

    @task("t")
    async def t(payload: Invoice) -> None:
        ran.append(payload.id)
        if payload.id > 3000:
            blocked.set()
            await gate.wait()

    stop = await start_local(create_app(tasks=[t]), concurrency=8, poll_interval_seconds=0.1)
    await jobs.connection.execute(
        "select app_jobs.add_job('t', json_build_object('id', i)) from generate_series(1, 5000) i"
    )
    await asyncio.wait_for(blocked.wait(), 60)
    held_jobs = "select count(*) from app_jobs.jobs where locked_by is not null"

    async def only_running_jobs_are_held() -> bool:
        held: int = await jobs.connection.fetchval(held_jobs)
        return 0 < held <= 8

    if reason == "slots blocked":
        await eventually(only_running_jobs_are_held, seconds=30)
    else:
        gate.set()
        await stop()
        assert await jobs.connection.fetchval(held_jobs) == 0
    assert await jobs.connection.fetchval("select max(attempts) from app_jobs.jobs where locked_by is null") == 0
    gate.set()
    if reason == "shutdown":
        await start_local(create_app(tasks=[t]))
    await jobs.until_gone(seconds=60)
    assert sorted(ran) == list(range(1, 5001))


class BatchedTask:
    """A task that records for each job the asyncio task that ran it, and waits for ``gate`` for the payload "block"."""

    def __init__(self) -> None:
        self.ran: dict[int, object] = {}
        self.blocked, self.gate = asyncio.Event(), asyncio.Event()
        self.seen: list[tuple[str, dict[str, Any]]] = []
        user: ContextVar[str] = ContextVar("user", default="nobody")

        @task("t", backoff=Backoff(seconds=3600))
        async def handler(payload: str, ctx: JobContext) -> None:
            assert ctx.job_id is not None
            self.ran[ctx.job_id] = asyncio.current_task()
            self.seen.append((user.get(), structlog.contextvars.get_contextvars()))
            user.set(payload)
            structlog.contextvars.bind_contextvars(order=payload)
            if payload == "block":
                self.blocked.set()
                await self.gate.wait()
            if payload == "fail":
                raise ValueError("no")
            if payload == "never":
                raise PermanentError("closed")

        self.task = handler


@pytest.fixture
async def batched() -> BatchedTask:
    return BatchedTask()


async def run_until_shared(jobs: Jobs, batched: BatchedTask) -> None:
    """Run jobs until some of them share a slot, which happens when the worker has seen that they are quick."""
    async with asyncio.timeout(60):
        while True:
            ids = await add_payloads(jobs, "t", *["quick"] * 6)
            await jobs.until_gone()
            if len({batched.ran[job] for job in ids}) < 6:
                return


async def test_quick_jobs_share_a_slot_each_with_its_own_outcome(
    jobs: Jobs, start_local: StartLocal, batched: BatchedTask
) -> None:
    await start_local(create_app(tasks=[batched.task]))
    await run_until_shared(jobs, batched)
    ids = await add_payloads(jobs, "t", "a", "fail", "never", 7, "b", "c")
    await jobs.until_gone(ids[0], *ids[4:])
    rows = [await jobs.until_failed(job) for job in ids[1:4]]
    assert [(row["attempts"], row["exhausted"]) for row in rows] == [(1, False), (25, True), (25, True)]
    assert [row["last_error"] for row in rows[:2]] == ["no", "closed"]


async def test_setting_gives_each_job_a_slot(jobs: Jobs, start_local: StartLocal, batched: BatchedTask) -> None:
    await start_local(create_app(tasks=[batched.task]), delivery_batch=False)
    for _ in range(10):
        ids = await add_payloads(jobs, "t", *"abcdef")
        await jobs.until_gone()
        assert len({batched.ran[job] for job in ids}) == 6


async def test_context_variables_of_a_handler_do_not_reach_the_next_job(
    jobs: Jobs, start_local: StartLocal, batched: BatchedTask
) -> None:
    await start_local(create_app(tasks=[batched.task]))
    await run_until_shared(jobs, batched)
    assert batched.seen == [("nobody", {})] * len(batched.seen)


async def test_jobs_behind_a_slow_one_run_in_other_slots(
    jobs: Jobs, start_local: StartLocal, batched: BatchedTask
) -> None:
    await start_local(create_app(tasks=[batched.task]))
    await run_until_shared(jobs, batched)
    ids = await add_payloads(jobs, "t", "a", "block", *["behind"] * 8)
    await jobs.until_gone(ids[0], *ids[2:])
    assert batched.blocked.is_set()
    assert (await jobs.row(ids[1]))["locked_by"] == WORKER
    batched.gate.set()
    await jobs.until_gone()


async def test_stopped_worker_fails_the_running_job_of_a_batch_and_releases_the_others(
    jobs: Jobs, start_local: StartLocal, batched: BatchedTask
) -> None:
    stop = await start_local(create_app(tasks=[batched.task]), concurrency=1, shutdown_timeout_seconds=0.2)
    payloads = [*["quick"] * 500, "block", *["behind"] * 100]  # with one slot, jobs share it once they are quick
    ids = await add_payloads(jobs, "t", *payloads)
    await asyncio.wait_for(batched.blocked.wait(), 60)
    await stop()
    running = await jobs.row(ids[500])
    assert (running["attempts"], running["locked_by"]) == (1, None)
    assert running["last_error"] == "the worker was stopped before the function responded"
    others = await jobs.connection.fetch("select attempts, locked_by from app_jobs.jobs where id = any ($1)", ids[501:])
    assert [tuple(row) for row in others] == [(0, None)] * 100
