"""Shared by the maintenance tasks: runs at an interval, deletion in batches, and errors that are logged once."""

import asyncio
from collections.abc import Awaitable, Callable

from jobfn.database.connection import DATABASE_ERRORS, FailureLog

#: Statement timeout, so that an unresponsive database cannot delay shutdown.
STATEMENT_TIMEOUT_SECONDS = 5.0
#: Interval between the runs of a pruner.
PRUNE_INTERVAL_SECONDS = 60.0
#: Rows deleted in one transaction: a few milliseconds of work, so that its locks block nobody.
PRUNE_BATCH_SIZE = 1000
#: Pause between batches, so that pruning a million rows does not slow down the jobs.
BATCH_PAUSE_SECONDS = 0.02
#: Delay of a pruner's first run, so that the worker has the connections to itself when it starts.
INITIAL_DELAY_SECONDS = 1.0


class FailureLogger:
    """Runs database calls, and logs their failures."""

    def __init__(self, event: str) -> None:
        self._failures = FailureLog(event)

    async def run(self, call: Callable[[], Awaitable[None]]) -> bool:
        """Run the call. Return whether it succeeded."""
        try:
            await call()
        except DATABASE_ERRORS as error:
            self._failures.record(error)
            return False
        self._failures.clear()
        return True

    async def repeat(
        self,
        call: Callable[[], Awaitable[None]],
        stop: asyncio.Event,
        *,
        interval_seconds: float,
        first_seconds: float | None = None,
    ) -> None:
        """Run the call at an interval until ``stop`` is set.

        Args:
            call: The call.
            stop: Ends it, and the pause before the next run.
            interval_seconds: Pause between two runs.
            first_seconds: Pause before the first run. Default: the interval.
        """
        await sleep_until(stop, interval_seconds if first_seconds is None else first_seconds)
        while not stop.is_set():
            await self.run(call)
            await sleep_until(stop, interval_seconds)


async def sleep_until(stop: asyncio.Event, seconds: float) -> None:
    """Sleep for this many seconds, or until ``stop`` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass


async def prune_batches(prune: Callable[[int], Awaitable[int]], stop: asyncio.Event) -> None:
    """Delete rows in batches until none are left, or ``stop`` is set.

    Args:
        prune: Deletes at most this number of rows. Returns how many.
        stop: Ends it after a batch.
    """
    while not stop.is_set():
        if await asyncio.wait_for(prune(PRUNE_BATCH_SIZE), STATEMENT_TIMEOUT_SECONDS) < PRUNE_BATCH_SIZE:
            return
        await sleep_until(stop, BATCH_PAUSE_SECONDS)
