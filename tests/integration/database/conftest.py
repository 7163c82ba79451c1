"""Sessions beside the first, and what a database announces."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from support import Connect, ConnectTo, Heard


@pytest.fixture
async def connect_to() -> AsyncIterator[ConnectTo]:
    """Open connections to a database, closed after the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_connection(dsn: str, **settings: str) -> "asyncpg.Connection[Any]":
            # nothing here takes long: who waits for a lock that is never let go shall fail, not hang
            connection = await asyncpg.connect(dsn, server_settings={"statement_timeout": "20s"} | settings)

            async def close() -> None:
                await connection.close(timeout=5)

            stack.push_async_callback(close)
            return connection

        yield open_connection


@pytest.fixture
def connect(database: str, connect_to: ConnectTo) -> Connect:
    """Open further connections to ``database``."""

    async def open_connection(**settings: str) -> "asyncpg.Connection[Any]":
        return await connect_to(database, **settings)

    return open_connection


@pytest.fixture
async def heard(connect: Connect, connection: "asyncpg.Connection[Any]") -> Heard:
    """Run a statement and say which notifications it sent."""
    listener = await connect()
    arrived: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    for channel in ("jobs:insert", "scheduled_jobs:insert", "end"):
        await listener.add_listener(channel, lambda _c, _pid, channel, payload: arrived.put_nowait((channel, payload)))

    async def until_end() -> list[tuple[str, str]]:
        await connection.execute('notify "end"')  # notifications come in order: what is here before it is all
        found = []
        async with asyncio.timeout(10):
            while (notification := await arrived.get())[0] != "end":
                found.append(notification)
        return found

    async def hear(statement: str, *arguments: object) -> list[tuple[str, str]]:
        await until_end()
        await connection.fetch(statement, *arguments)
        return await until_end()

    return hear
