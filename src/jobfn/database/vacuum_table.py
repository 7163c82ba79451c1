"""The vacuum of the jobs table, and the statistics that tell whether it is worthwhile."""

import contextlib
from dataclasses import dataclass

import asyncpg

from jobfn.database.connection import connect
from jobfn.database.statements import query
from jobfn.sql.pooler import is_pooled

#: Maximum time to cancel a running vacuum in the server.
_CLOSE_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class TableState:
    """PostgreSQL's statistics of the jobs table: about a second late, and not exact.

    Attributes:
        live: Number of rows.
        dead: Number of dead row versions whose space is not free yet.
        vacuums: Number of vacuums so far, by any process.
        is_allowed: Whether this role may vacuum the table.
        is_locked: Whether another vacuum, or a statement that excludes it, holds a lock. Only checked from a number of
            dead rows on.
    """

    live: int = 0
    dead: int = 0
    vacuums: int = 0
    is_allowed: bool = False
    is_locked: bool = False


class JobsTable:
    """The jobs table of one of jobfn's schemas.

    Args:
        pool: Connections for the statistics.
        schema: The schema.
        dsn: The database; a vacuum takes a connection outside of the pool, as it can take seconds.
    """

    def __init__(self, pool: asyncpg.Pool, schema: str, *, dsn: str | None) -> None:
        self._pool = pool
        self._schema = schema
        self._dsn = dsn
        self._state = query("jobs_vacuum_state", schema)
        self._vacuum = query("vacuum_jobs", schema)

    async def state(self, *, min_dead_rows: int) -> TableState:
        """Read the statistics. Locks are only checked from this number of dead rows on."""
        row = await self._pool.fetchrow(self._state, self._schema, min_dead_rows)
        return TableState(**(row or {}))

    async def vacuum(self) -> None:
        """Vacuum the table, unless another process does. Cancellation also ends the vacuum in the server."""
        connection = await connect(self._dsn, application_name="jobfn-vacuum")
        try:
            if not await is_pooled(connection):  # the setting would stay for other clients of a pooler
                await connection.execute("set statement_timeout = 0")
            await connection.execute(self._vacuum)
        finally:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                # Waits until the server has cancelled the statement; after the timeout, it closes the socket.
                await connection.close(timeout=_CLOSE_TIMEOUT_SECONDS)
