"""Schedules on jobfn's schema or on a stand-in for the platform's, and pollers whose clock the test sets."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from jobfn.database.connection import open_pool
from jobfn.scheduler.scheduler import open_poller as open_schedule_poller
from support.schedules import OpenPoller, Schedules, TimedPoller, at

PLATFORM = Path(__file__).with_name("platform.sql").read_text("utf-8")


@pytest.fixture
def schema() -> str:
    """``native`` or ``platform``; test modules parametrize it."""
    return "native"


@pytest.fixture
async def connection(database: str, schema: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """A connection to ``database``, which has this schema."""
    connection = await asyncpg.connect(database)
    if schema == "platform":
        await connection.execute("drop schema app_jobs cascade")
        await connection.execute(PLATFORM)
    yield connection
    await connection.close()


@pytest.fixture
async def schedules(connection: "asyncpg.Connection[Any]", schema: str) -> Schedules:
    if schema == "platform":
        await connection.execute("insert into app_jobs.clock values ($1)", at("08:30"))
    return Schedules(connection, is_native=schema == "native")


@pytest.fixture
async def open_poller(database: str, schedules: Schedules) -> AsyncIterator[OpenPoller]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(scheduler_id: str = "scheduler-a", *, tasks: list[str] | None = None) -> TimedPoller:
            connections = await stack.enter_async_context(open_pool(database, application_name=scheduler_id, size=1))
            poller = await open_schedule_poller(
                connections,
                "app_jobs",
                scheduler_id=scheduler_id,
                tasks=tasks,
                takeover_seconds=60,
                clock=schedules.clock,
            )
            await poller.start()
            return TimedPoller(poller, schedules)

        yield start
