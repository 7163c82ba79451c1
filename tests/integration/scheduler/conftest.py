"""Schedulers whose clock the test sets."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from jobfn.database.connection import pool
from jobfn.scheduler.poller import SchedulePoller
from jobfn.scheduler.scheduler import open_poller
from support.schedules import Clock, OpenPoller, Schedules


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def schedules(connection: "asyncpg.Connection[Any]") -> Schedules:
    return Schedules(connection)


@pytest.fixture
async def poller(database: str, clock: Clock) -> AsyncIterator[OpenPoller]:
    """Open the agenda of one more scheduler; its connections are its own."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(scheduler_id: str = "scheduler-a", *, tasks: list[str] | None = None) -> SchedulePoller:
            connections = await stack.enter_async_context(pool(database, application_name=scheduler_id, size=1))
            opened = await open_poller(
                connections, "app_jobs", scheduler_id=scheduler_id, tasks=tasks, takeover_seconds=60, clock=clock
            )
            await opened.start()
            return opened

        yield start
