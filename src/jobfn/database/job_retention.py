"""Retention of permanently failed jobs, and of completed jobs with their payloads."""

import functools
from datetime import timedelta

import asyncpg

from jobfn.database.statements import query


class JobRetention:
    """Jobs in jobfn's schema that have ended.

    Args:
        pool: Connections.
        schema: The jobs schema.
    """

    def __init__(self, pool: asyncpg.Pool, schema: str) -> None:
        self._pool = pool
        self._query = functools.partial(query, schema=schema)

    async def store_completed(self, days: float) -> None:
        """Set for how many days completed jobs are stored with their payloads; 0 stores none."""
        await self._pool.execute(self._query("set_completed_payload_retention"), days)

    async def prune_completed(self, *, limit: int) -> int:
        """Delete up to ``limit`` completed jobs past the retention, the oldest first. Return their number."""
        deleted: int = await self._pool.fetchval(self._query("prune_completed_jobs"), limit)
        return deleted

    async def prune_failed(self, days: float, *, after_id: int, limit: int) -> tuple[int, int | None]:
        """Remove the jobs that failed permanently longer than ``days`` ago, among ``limit`` above an id.

        Returns:
            The number of removed jobs, and the id to go on from; None if there are no more.
        """
        row = await self._pool.fetchrow(self._query("prune_failed_jobs"), timedelta(days=days), after_id, limit)
        return row["removed"], row["last_id"]
