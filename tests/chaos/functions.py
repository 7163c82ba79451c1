"""Handlers of a chaos run. Each delivery records its effect.

Most of them write a row, in a transaction that is open while the handler runs. A delivery whose process or database is
killed leaves no row. The quick handler appends a line to a file instead, because batches are for handlers that wait for
nothing.
"""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg

from jobfn import Backoff, JobContext, PermanentError, create_app, task

DATABASE_URL = os.environ["DATABASE_URL"]
#: Open for appending, which processes can do at the same time.
EFFECTS_FILE = os.open(os.environ["CHAOS_EFFECTS_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
BACKOFF = Backoff(seconds=0.2, factor=1.5, cap=2.0)
EFFECT_COLUMNS = ("number", "version", "job", "attempt", "worker", "delivery", "queue", "succeeded")


class PlannedFailure(Exception):
    """A failure of the plan."""


@dataclass
class Work:
    """Payload of a ``PlannedJob``. The gateway sets ``delivery``, its sequence number."""

    number: int
    version: int
    seconds: float
    failures: int
    fails_permanently: bool
    queue: str | None
    delivery: int

    def effect(self, ctx: JobContext) -> tuple[object, ...]:
        """Return the values of ``EFFECT_COLUMNS``."""
        ids = (self.number, self.version, ctx.job_id, ctx.attempt, ctx.worker_id, self.delivery)
        return (*ids, self.queue, not self.fails_in(ctx))

    def fails_in(self, ctx: JobContext) -> bool:
        """Whether this attempt fails."""
        assert ctx.attempt is not None
        return self.fails_permanently or ctx.attempt <= self.failures

    def result(self, ctx: JobContext) -> dict[str, int]:
        """Return the result, or fail if the plan has a failure."""
        if self.fails_permanently:
            raise PermanentError(f"number {self.number} fails permanently")
        if self.fails_in(ctx):
            raise PlannedFailure(f"number {self.number} fails in attempt {ctx.attempt}")
        return {"number": self.number, "version": self.version}


async def record_effect(
    connection: "asyncpg.Connection[Any]", work: Work, ctx: JobContext, run: Callable[[], Awaitable[object]]
) -> dict[str, int]:
    """Insert an effect, run, set the time of its end. Then return the result or fail as planned."""
    async with connection.transaction():
        effect = await connection.fetchval(
            f"insert into effects ({', '.join(EFFECT_COLUMNS)}) values ($1, $2, $3, $4, $5, $6, $7, $8) returning id",
            *work.effect(ctx),
        )
        await run()
        await connection.execute(
            "update effects set ended = extract(epoch from clock_timestamp()) where id = $1", effect
        )
    return work.result(ctx)


_pools: list["asyncpg.Pool[Any]"] = []


async def connection_pool() -> "asyncpg.Pool[Any]":
    """Return the process's pool. It is created on first use, so that the process starts without a database."""
    if not _pools:
        _pools.append(asyncpg.create_pool(DATABASE_URL, min_size=0, max_size=20, timeout=5, command_timeout=20))
    return await _pools[0]


@task("work_quickly", backoff=BACKOFF, keep_result=True)
async def work_quickly(payload: Work, ctx: JobContext) -> dict[str, int]:
    """Run for less than a millisecond in most cases, so that workers send several jobs in one request."""
    started = time.time()
    if payload.seconds:
        await asyncio.sleep(payload.seconds)
    effect = dict(zip(EFFECT_COLUMNS, payload.effect(ctx), strict=True)) | {"started": started, "ended": time.time()}
    os.write(EFFECTS_FILE, f"{json.dumps(effect)}\n".encode())
    return payload.result(ctx)


@task("work", backoff=BACKOFF, keep_result=True)
async def work_async(payload: Work, ctx: JobContext) -> dict[str, int]:
    """Run as an async handler."""
    async with (await connection_pool()).acquire() as connection:
        return await record_effect(connection, payload, ctx, lambda: asyncio.sleep(payload.seconds))


@task("work_in_thread", backoff=BACKOFF, keep_result=True)
def work_in_thread(payload: Work, ctx: JobContext) -> dict[str, int]:
    """Run as a sync handler with a new connection."""

    async def run() -> dict[str, int]:
        connection = await asyncpg.connect(DATABASE_URL, timeout=5, command_timeout=20)
        try:
            return await record_effect(connection, payload, ctx, lambda: asyncio.sleep(payload.seconds))
        finally:
            connection.terminate()

    return asyncio.run(run())


@task("work_in_background", background=True, backoff=BACKOFF, keep_result=True)
async def work_in_background(payload: Work, ctx: JobContext) -> dict[str, int]:
    """Run in the background and send progress."""

    async def run() -> None:
        for step in range(1, 4):
            await asyncio.sleep(payload.seconds / 3)
            await ctx.progress(step / 3, f"step {step}")

    async with (await connection_pool()).acquire() as connection:
        return await record_effect(connection, payload, ctx, run)


app = create_app(tasks=[work_quickly, work_async, work_in_thread, work_in_background])
