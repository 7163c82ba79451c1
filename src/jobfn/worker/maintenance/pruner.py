"""Make the partitions of the history, and drop them when their retention has passed."""

import asyncio

from jobfn.database.history import History
from jobfn.worker.maintenance.periodic import (
    INITIAL_DELAY_SECONDS,
    PRUNE_INTERVAL_SECONDS,
    STATEMENT_TIMEOUT_SECONDS,
    FailureLogger,
    prune_batches,
)

#: Partitions made ahead: the days that a worker may be away before attempts go to the default partition.
DAYS_AHEAD = 3


class HistoryPruner:
    """Sets the retention of the history, makes its partitions ahead, and removes older attempts.

    Args:
        history: The history.
        days: The retention; 0 disables the history and deletes what is there.
        interval_seconds: Interval between runs.
    """

    def __init__(self, history: History, *, days: float, interval_seconds: float = PRUNE_INTERVAL_SECONDS) -> None:
        self._history = history
        self._days = days
        self._interval_seconds = interval_seconds
        self._failures = FailureLogger("history not pruned")

    async def start(self) -> None:
        """Set the retention, before the first attempt ends."""
        await self._failures.run(self._set_retention)

    async def run(self, stop: asyncio.Event) -> None:
        """Prune until ``stop`` is set."""
        await self._failures.repeat(
            lambda: self._prune(stop),
            stop,
            interval_seconds=self._interval_seconds,
            first_seconds=min(self._interval_seconds, INITIAL_DELAY_SECONDS),
        )

    async def _set_retention(self) -> None:
        await asyncio.wait_for(self._history.set_retention(self._days), STATEMENT_TIMEOUT_SECONDS)

    async def _prune(self, stop: asyncio.Event) -> None:
        await self._set_retention()
        await asyncio.wait_for(self._history.create_partitions(days_ahead=DAYS_AHEAD), STATEMENT_TIMEOUT_SECONDS)
        await prune_batches(lambda limit: self._history.prune(limit=limit), stop)
