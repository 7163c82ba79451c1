"""Actors of the audit list: settings of a transaction, which the database writes into its entries."""

import contextlib
import getpass
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import asyncpg

from jobfn.database.records import storable
from jobfn.sql.quoting import quote_literal

#: Maximum length of the name of an actor.
MAX_ACTOR_CHARACTERS: Final = 200


class Source(StrEnum):
    """Kind of client of an actor."""

    CLI = "cli"
    DASHBOARD = "dashboard"
    MCP = "mcp"
    SQL = "sql"


@dataclass(frozen=True, slots=True)
class Actor:
    """A person or a program that acts, and through what."""

    name: str
    source: Source

    @property
    def statement(self) -> str:
        """The statement that names the actor until the transaction ends."""
        name = quote_literal(storable(self.name[:MAX_ACTOR_CHARACTERS]))
        return f"set local jobfn.actor = {name}; set local jobfn.source = '{self.source}'"


def os_user() -> str | None:
    """Return the name of the user of this process; None if it has none, as in a container."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return None


def os_actor(source: Source) -> Actor:
    """Return the user of this process and the machine as an actor."""
    return Actor(f"{os_user() or 'unknown'}@{socket.gethostname()}", source)


@contextlib.asynccontextmanager
async def acting(connection: "asyncpg.Connection[Any]", actor: Actor) -> AsyncIterator[None]:
    """Run the block in a transaction of an actor."""
    async with connection.transaction():
        await connection.execute(actor.statement)
        yield
