"""Calls of the client on any kind of connection, and the rows that they add."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


async def maybe_await(value: Any) -> Any:
    """Return the value, awaited if its driver is async."""
    return await value if inspect.isawaitable(value) else value


@dataclass(frozen=True)
class OpenTransaction:
    """A user's connection, in a transaction.

    Attributes:
        connection: The connection.
        end: Called with ``commit`` or ``rollback``.
    """

    connection: Any
    end: Callable[[str], Any]

    async def commit(self) -> None:
        """Commit the transaction."""
        await maybe_await(self.end("commit"))

    async def rollback(self) -> None:
        """Roll the transaction back."""
        await maybe_await(self.end("rollback"))
