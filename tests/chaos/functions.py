"""The handlers of a chaos run: what each delivery did is a row, written in a transaction of its own.

The transaction is open while the handler works. A delivery whose process or database is killed leaves no row.
"""

import asyncio
import os
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import asyncpg
from starlette.types import ASGIApp, Receive, Scope, Send

from jobfn import Backoff, JobContext, PermanentError, create_app, task

DATABASE_URL = os.environ["DATABASE_URL"]
SOON = Backoff(seconds=0.2, factor=1.5, cap=2.0)
#: Which delivery this is: the proxy counts them.
DELIVERY_HEADER = b"x-chaos-delivery"
delivery: ContextVar[int] = ContextVar("delivery")


@dataclass
class Work:
    """See ``plan.PlannedJob``."""

    number: int
    version: int
    seconds: float
    fails: int
    hopeless: bool
    queue: str | None

    def fails_in(self, attempt: int) -> bool:
        """Whether this attempt fails."""
        return self.hopeless or attempt <= self.fails


class NotYet(Exception):
    """One of the planned failures."""


async def do(connection: "asyncpg.Connection[Any]", work: Work, ctx: JobContext, pause: Callable[[], Any]) -> None:
    """Work, write down that it was done, and fail where that is planned."""
    assert ctx.attempt is not None
    fails = work.fails_in(ctx.attempt)
    async with connection.transaction():
        effect = await connection.fetchval(
            "insert into effects (number, version, job, attempt, worker, delivery, queue, succeeded) "
            "values ($1, $2, $3, $4, $5, $6, $7, $8) returning id",
            *(work.number, work.version, ctx.job_id, ctx.attempt, ctx.worker_id, delivery.get(), work.queue),
            not fails,
        )
        await pause()
        await connection.execute("update effects set ended = clock_timestamp() where id = $1", effect)
    if work.hopeless:
        raise PermanentError(f"number {work.number} is hopeless")
    if fails:
        raise NotYet(f"number {work.number} fails in attempt {ctx.attempt}")


_pools: list["asyncpg.Pool[Any]"] = []


async def pool() -> "asyncpg.Pool[Any]":
    """This process's connections: opened when they are needed, so that it starts without a database."""
    if not _pools:
        _pools.append(asyncpg.create_pool(DATABASE_URL, min_size=0, max_size=20, timeout=5, command_timeout=20))
    return await _pools[0]


@task("work", backoff=SOON)
async def work_on_loop(payload: Work, ctx: JobContext) -> None:
    """An async handler."""
    async with (await pool()).acquire() as connection:
        await do(connection, payload, ctx, lambda: asyncio.sleep(payload.seconds))


@task("work_in_thread", backoff=SOON)
def work_in_thread(payload: Work, ctx: JobContext) -> None:
    """A sync handler, with a connection of its own."""

    async def work() -> None:
        connection = await asyncpg.connect(DATABASE_URL, timeout=5, command_timeout=20)
        try:
            await do(connection, payload, ctx, lambda: asyncio.sleep(payload.seconds))
        finally:
            connection.terminate()

    asyncio.run(work())


@task("work_long", background=True, backoff=SOON)
async def work_long(payload: Work, ctx: JobContext) -> None:
    """A job in the background, which tells how far it is."""

    async def steps() -> None:
        for step in range(1, 4):
            await asyncio.sleep(payload.seconds / 3)
            await ctx.progress(step / 3, f"step {step}")

    async with (await pool()).acquire() as connection:
        await do(connection, payload, ctx, steps)


class Counted:
    """The app, with the proxy's number of the delivery at hand for the handlers."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        for name, value in scope.get("headers", ()):
            if name == DELIVERY_HEADER:
                delivery.set(int(value))
        await self._inner(scope, receive, send)


app = Counted(create_app(tasks=[work_on_loop, work_in_thread, work_long]))
