"""Protocols of the supported connections, so that type checkers need no driver installed."""

from collections.abc import Coroutine
from typing import Any, Protocol


class AsyncConnection(Protocol):
    """psycopg's ``AsyncConnection``; SQLAlchemy's ``AsyncConnection`` and ``AsyncSession``."""

    def commit(self) -> Coroutine[Any, Any, None]:
        """Identify the type; never called."""


class AsyncpgConnection(Protocol):
    """asyncpg's ``Connection`` and ``Pool``, and the connections of a pool."""

    def fetchval(self, query: str, /, *args: Any) -> Coroutine[Any, Any, Any]:
        """Run a statement and return the first value of its first row."""


class SyncConnection(Protocol):
    """psycopg's ``Connection``; SQLAlchemy's ``Connection`` and ``Session``; Django's ``connection``."""

    def commit(self) -> None:
        """Identify the type; never called."""


AnyAsyncConnection = AsyncConnection | AsyncpgConnection
AnyConnection = AsyncConnection | AsyncpgConnection | SyncConnection
