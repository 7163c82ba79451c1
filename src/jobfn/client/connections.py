"""What counts as a connection, for type checkers: by what it can do, so that no driver need be installed to say it."""

from collections.abc import Coroutine
from typing import Any, Protocol


class AsyncConnection(Protocol):
    """psycopg's ``AsyncConnection``; SQLAlchemy's ``AsyncConnection`` and ``AsyncSession``."""

    def commit(self) -> Coroutine[Any, Any, None]:
        """Only looked at, never called: the transaction is yours."""


class AsyncpgConnection(Protocol):
    """asyncpg's ``Connection`` or ``Pool``, and what its ``acquire()`` gives."""

    def fetchval(self, query: str, /, *args: Any) -> Coroutine[Any, Any, Any]:
        """Run a statement; the first value of its first row."""


class SyncConnection(Protocol):
    """psycopg's ``Connection``; SQLAlchemy's ``Connection`` and ``Session``; Django's ``connection``."""

    def commit(self) -> None:
        """Only looked at, never called: the transaction is yours."""


AnyAsyncConnection = AsyncConnection | AsyncpgConnection
AnyConnection = AsyncConnection | AsyncpgConnection | SyncConnection
