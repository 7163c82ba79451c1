"""``IdlePool``: a pool that uses one connection while its worker is idle, for services of many databases."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import asyncpg

from jobfn.database.connection import CONNECTION_ERRORS

#: Connections that are not used for this time are closed. Heartbeats use the first one more often, because a new
#: connection costs PostgreSQL more CPU than many polls.
MAX_IDLE_SECONDS: Final = 90.0


class IdlePool:
    """The part of a pool's interface that stores and maintenance use.

    Args:
        pool: The connections.
        size: Maximum number of connections of the pool.

    Attributes:
        is_busy: Returns whether statements may use more than one connection.
        is_reachable: Whether the last statement reached the database.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]", size: int) -> None:
        self._pool = pool
        self._first = asyncio.Semaphore(1)
        self._others = asyncio.Semaphore(size - 1)
        self.is_busy: Callable[[], bool] = lambda: False
        self.is_reachable = True

    @contextlib.asynccontextmanager
    async def acquire(self) -> "AsyncIterator[asyncpg.Connection[Any]]":
        """Yield a connection."""
        semaphore = self._others if self._first.locked() and self.is_busy() else self._first
        try:
            async with semaphore, self._pool.acquire() as connection:
                yield connection
        except CONNECTION_ERRORS:
            self.is_reachable = False
            raise
        self.is_reachable = True

    async def fetch(self, statement: str, *args: object) -> Any:
        """As ``asyncpg.Pool.fetch``."""
        async with self.acquire() as connection:
            return await connection.fetch(statement, *args)

    async def fetchrow(self, statement: str, *args: object) -> Any:
        """As ``asyncpg.Pool.fetchrow``."""
        async with self.acquire() as connection:
            return await connection.fetchrow(statement, *args)

    async def fetchval(self, statement: str, *args: object) -> Any:
        """As ``asyncpg.Pool.fetchval``."""
        async with self.acquire() as connection:
            return await connection.fetchval(statement, *args)

    async def execute(self, statement: str, *args: object) -> Any:
        """As ``asyncpg.Pool.execute``."""
        async with self.acquire() as connection:
            return await connection.execute(statement, *args)
