"""Handlers of a chaos run. Each delivery writes a row in one transaction.

The transaction is open while the handler runs. A delivery whose process or database is killed leaves no row.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import asyncpg
from starlette.types import ASGIApp, Receive, Scope, Send

from jobfn import Backoff, JobContext, PermanentError, create_app, task

DATABASE_URL = os.environ["DATABASE_URL"]
BACKOFF = Backoff(seconds=0.2, factor=1.5, cap=2.0)
#: Sequence number of the delivery, set by the proxy.
DELIVERY_HEADER = b"x-chaos-delivery"
delivery: ContextVar[int] = ContextVar("delivery")


@dataclass
class Work:
    """Payload of a ``PlannedJob``."""

    number: int
    version: int
    seconds: float
    failures: int
    fails_permanently: bool
    queue: str | None

    def fails_in(self, attempt: int) -> bool:
        """Whether this attempt fails."""
        return self.fails_permanently or attempt <= self.failures


class PlannedFailure(Exception):
    """A failure of the plan."""


async def record_effect(
    connection: "asyncpg.Connection[Any]", work: Work, ctx: JobContext, run: Callable[[], Awaitable[object]]
) -> None:
    """Insert an effect, run, set the time of its end. Then fail if the plan has a failure."""
    assert ctx.attempt is not None
    fails = work.fails_in(ctx.attempt)
    async with connection.transaction():
        effect = await connection.fetchval(
            "insert into effects (number, version, job, attempt, worker, delivery, queue, succeeded) "
            "values ($1, $2, $3, $4, $5, $6, $7, $8) returning id",
            *(work.number, work.version, ctx.job_id, ctx.attempt, ctx.worker_id, delivery.get(), work.queue),
            not fails,
        )
        await run()
        await connection.execute("update effects set ended = clock_timestamp() where id = $1", effect)
    if work.fails_permanently:
        raise PermanentError(f"number {work.number} fails permanently")
    if fails:
        raise PlannedFailure(f"number {work.number} fails in attempt {ctx.attempt}")


_pools: list["asyncpg.Pool[Any]"] = []


async def connection_pool() -> "asyncpg.Pool[Any]":
    """Return the process's pool. It is created on first use, so that the process starts without a database."""
    if not _pools:
        _pools.append(asyncpg.create_pool(DATABASE_URL, min_size=0, max_size=20, timeout=5, command_timeout=20))
    return await _pools[0]


@task("work", backoff=BACKOFF)
async def work_async(payload: Work, ctx: JobContext) -> None:
    """Run as an async handler."""
    async with (await connection_pool()).acquire() as connection:
        await record_effect(connection, payload, ctx, lambda: asyncio.sleep(payload.seconds))


@task("work_in_thread", backoff=BACKOFF)
def work_in_thread(payload: Work, ctx: JobContext) -> None:
    """Run as a sync handler with a new connection."""

    async def run() -> None:
        connection = await asyncpg.connect(DATABASE_URL, timeout=5, command_timeout=20)
        try:
            await record_effect(connection, payload, ctx, lambda: asyncio.sleep(payload.seconds))
        finally:
            connection.terminate()

    asyncio.run(run())


@task("work_in_background", background=True, backoff=BACKOFF)
async def work_in_background(payload: Work, ctx: JobContext) -> None:
    """Run in the background and send progress."""

    async def run() -> None:
        for step in range(1, 4):
            await asyncio.sleep(payload.seconds / 3)
            await ctx.progress(step / 3, f"step {step}")

    async with (await connection_pool()).acquire() as connection:
        await record_effect(connection, payload, ctx, run)


class DeliveryMiddleware:
    """Provide the sequence number of the delivery to the handlers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        for name, value in scope.get("headers", ()):
            if name == DELIVERY_HEADER:
                delivery.set(int(value))
        await self._app(scope, receive, send)


app = DeliveryMiddleware(create_app(tasks=[work_async, work_in_thread, work_in_background]))
