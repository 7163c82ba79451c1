"""Make the partitions of the history, and drop them when their retention has passed."""

import asyncio

from jobfn.database.history import History
from jobfn.worker.maintenance.periodic import STATEMENT_TIMEOUT_SECONDS, FailureLogger, sleep_until

PRUNE_INTERVAL_SECONDS = 60.0
#: Partitions made ahead: the days that a worker may be away before attempts go to the default partition.
DAYS_AHEAD = 3
#: Rows deleted in one transaction: a few milliseconds of work, so that its locks block nobody.
PRUNE_BATCH_SIZE = 1000
#: Pause between batches, so that pruning a million rows does not slow down the jobs.
BATCH_PAUSE_SECONDS = 0.02
#: Delay of the first run, so that the worker has the connections to itself when it starts.
INITIAL_DELAY_SECONDS = 1.0


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
        await sleep_until(stop, min(self._interval_seconds, INITIAL_DELAY_SECONDS))
        while not stop.is_set():
            await self._failures.run(lambda: self._prune(stop))
            await sleep_until(stop, self._interval_seconds)

    async def _set_retention(self) -> None:
        await asyncio.wait_for(self._history.set_retention(self._days), STATEMENT_TIMEOUT_SECONDS)

    async def _prune(self, stop: asyncio.Event) -> None:
        await self._set_retention()
        await asyncio.wait_for(self._history.create_partitions(days_ahead=DAYS_AHEAD), STATEMENT_TIMEOUT_SECONDS)
        while not stop.is_set():
            deleted = await asyncio.wait_for(self._history.prune(limit=PRUNE_BATCH_SIZE), STATEMENT_TIMEOUT_SECONDS)
            if deleted < PRUNE_BATCH_SIZE:
                return
            await sleep_until(stop, BATCH_PAUSE_SECONDS)
