"""The partitions and the retention of the history of attempts, ``job_runs``.

``settle_jobs`` and other functions record the attempts. ``jobfn.operations`` reads the history.
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

    async def create_partitions(self, *, days_ahead: int) -> int:
        """Make the partitions of today and the next days that do not exist. Return the number of partitions made."""
        created: int = await self._pool.fetchval(self._query("create_job_runs_partitions"), days_ahead)
        return created

    async def prune(self, *, limit: int) -> int:
        """Drop partitions past the retention, and delete up to ``limit`` attempts that are in none of one day.

        Returns:
            The number of deleted attempts.
        """
        deleted: int = await self._pool.fetchval(self._query("prune_job_runs"), limit)
        return deleted
