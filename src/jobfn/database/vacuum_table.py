"""Vacuuming the jobs table: whether it is worth it, whether this role may, and the vacuum itself."""

import contextlib
from dataclasses import dataclass
from typing import Any

import asyncpg

from jobfn.database.connection import connect
from jobfn.database.statements import query

#: So long may a connection take to close, with the cancelling of what it does.
_CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class TableState:
    """The jobs table, as PostgreSQL's statistics show it: a second or so late, and not to the row.

    Attributes:
        live: Rows that are there.
        dead: Versions of rows that nobody sees any more, and whose place is not free yet.
        vacuums: How often it was vacuumed, by whomever.
        is_allowed: Whether this role may vacuum it.
        is_locked: Whether a vacuum would not begin now: another one is under way, or something that excludes it. Looked
            at only where there are dead rows enough.
    """

    live: int
    dead: int
    vacuums: int
    is_allowed: bool
    is_locked: bool


class JobsTable:
    """See the module.

    Args:
        pool: Connections, for the look.
        schema: The jobs schema, one of jobfn's.
        dsn: Where the vacuum's own connection goes to: it may take seconds, and nobody is to wait for it.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]", schema: str, *, dsn: str | None) -> None:
        self._pool = pool
        self._schema = schema
        self._dsn = dsn
        self._state = query("jobs_vacuum_state", schema)
        self._vacuum = query("vacuum_jobs", schema)

    async def state(self, *, worth: int) -> TableState:
        """Look; with fewer than ``worth`` dead rows not at who else is vacuuming."""
        row = await self._pool.fetchrow(self._state, self._schema, worth)
        return TableState(0, 0, 0, is_allowed=False, is_locked=False) if row is None else TableState(**row)

    async def vacuum(self) -> None:
        """Vacuum it, or step back at once where somebody else does. Cancelled, it ends the vacuum in the server too."""
        connection = await connect(self._dsn, application_name="jobfn-vacuum")
        try:
            await connection.execute("set statement_timeout = 0")
            await connection.execute(self._vacuum)
        finally:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                # waits until the server has heard of a cancelled statement; if that takes too long, it hangs up
                await connection.close(timeout=_CLOSE_SECONDS)
