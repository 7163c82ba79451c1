"""Delete the unique keys that no job holds any more."""

import asyncio
from typing import Any

import asyncpg

from jobfn.database.statements import query
from jobfn.worker.maintenance.periodic import STATEMENT_TIMEOUT_SECONDS, FailureLogger, sleep_until

PRUNE_INTERVAL_SECONDS = 60.0
#: Keys in one transaction: a few milliseconds of work, so that its locks block nobody.
PRUNE_BATCH_SIZE = 1000


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
        while not stop.is_set():
            await sleep_until(stop, self._interval_seconds)
            await self._failures.run(lambda: self._prune(stop))

    async def _prune(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            count: int = await asyncio.wait_for(
                self._connections.fetchval(self._statement, PRUNE_BATCH_SIZE), STATEMENT_TIMEOUT_SECONDS
            )
            if count < PRUNE_BATCH_SIZE:
                return
