"""The retention of the history of attempts, which ``settle_jobs`` and other functions record in ``job_runs``.

``jobfn.operations`` reads the history.
"""

import functools

import asyncpg

from jobfn.database.statements import query


class History:
    """The history of attempts in jobfn's schema.

    Args:
        pool: Connections.
        schema: The jobs schema.
    """

    def __init__(self, pool: asyncpg.Pool, schema: str) -> None:
        self._pool = pool
        self._query = functools.partial(query, schema=schema)

    async def set_retention(self, days: float) -> None:
        """Set the retention; 0 turns the history off."""
        await self._pool.execute(self._query("set_history_retention"), days)

    async def prune(self, *, limit: int) -> int:
        """Delete up to ``limit`` attempts older than the retention, the oldest first. Return their number."""
        deleted: int = await self._pool.fetchval(self._query("prune_job_runs"), limit)
        return deleted
