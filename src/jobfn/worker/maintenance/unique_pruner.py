"""Delete the unique keys that no job holds any more."""

import asyncio
from typing import Any

import asyncpg

from jobfn.database.statements import query
from jobfn.worker.maintenance.periodic import PRUNE_INTERVAL_SECONDS, FailureLogger, prune_batches


class UniqueJobsPruner:
    """Prunes ``unique_jobs`` in batches.

    Args:
        connections: Connections.
        schema: The jobs schema.
        interval_seconds: Interval between runs.
    """

    def __init__(
        self, connections: "asyncpg.Pool[Any]", schema: str, *, interval_seconds: float = PRUNE_INTERVAL_SECONDS
    ) -> None:
        self._connections = connections
        self._statement = query("prune_unique_jobs", schema)
        self._interval_seconds = interval_seconds
        self._failures = FailureLogger("unique jobs not pruned")

    async def run(self, stop: asyncio.Event) -> None:
        """Prune until ``stop`` is set."""
        await self._failures.repeat(
            lambda: prune_batches(self._prune, stop), stop, interval_seconds=self._interval_seconds
        )

    async def _prune(self, limit: int) -> int:
        deleted: int = await self._connections.fetchval(self._statement, limit)
        return deleted
