"""Limits of concurrency and rate, for workers: release held jobs that nothing else releases."""

import asyncpg

from jobfn.database.statements import query


class Limits:
    """The limits in jobfn's schema.

    Args:
        pool: Connections.
        schema: The jobs schema.
    """

    def __init__(self, pool: asyncpg.Pool, schema: str) -> None:
        self._pool = pool
        self._sweep = query("sweep_limits", schema)

    async def sweep(self) -> None:
        """Release held jobs that may start, unless another worker has just done so."""
        await self._pool.execute(self._sweep)
