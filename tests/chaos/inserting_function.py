"""The function of a run that uses PostgreSQL itself: each job inserts its number once, and appends it to a file."""

import asyncio
import os
from dataclasses import dataclass
from typing import Any

import asyncpg

from jobfn import Backoff, JobContext, create_app, task

_EFFECTS = os.open(os.environ["CHAOS_EFFECTS_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


@dataclass
class Numbered:
    """A job of the run."""

    number: int
    seconds: float


async def insert(connection: "asyncpg.Connection[Any]", payload: Numbered) -> None:
    """Insert the number. The transaction of a slow job is open for a while."""
    await connection.execute("insert into effects values ($1)", payload.number)
    await asyncio.sleep(payload.seconds)


@task("record", backoff=Backoff(seconds=0.2, factor=1.5, cap=2.0))
async def record(payload: Numbered, ctx: JobContext) -> None:
    """Insert the number once, and record that the job has run."""
    await ctx.transaction("insert", insert, payload)
    os.write(_EFFECTS, f"{payload.number}\n".encode())


app = create_app(tasks=[record])
