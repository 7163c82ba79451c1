"""``SingleConnection``: a connection where a pool is expected, so that statements join its open transaction."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg


class SingleConnection:
    """Offers the part of a pool's interface that the stores use."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[asyncpg.Connection]:
        """Yield the connection. It stays open."""
        yield self._connection

    def __getattr__(self, name: str) -> Any:
        """Forward statements to the connection."""
        return getattr(self._connection, name)
