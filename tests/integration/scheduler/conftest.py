"""Schedulers whose clock the test sets."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from jobfn.database.connection import pool
from jobfn.scheduler.agenda import Agenda
from jobfn.scheduler.opening import open_agenda
from schedule_support import Clock, OpenAgenda, Schedules


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def schedules(connection: "asyncpg.Connection[Any]") -> Schedules:
    return Schedules(connection)


@pytest.fixture
async def agenda(database: str, clock: Clock) -> AsyncIterator[OpenAgenda]:
    """Open the agenda of one more scheduler; its connections are its own."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(scheduler_id: str = "scheduler-a", *, tasks: list[str] | None = None) -> Agenda:
            connections = await stack.enter_async_context(pool(database, application_name=scheduler_id, size=1))
            opened = await open_agenda(
                connections, "app_jobs", scheduler_id=scheduler_id, tasks=tasks, takeover_seconds=60, clock=clock
            )
            await opened.start()
            return opened

        yield start
