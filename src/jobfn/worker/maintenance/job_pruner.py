"""Remove failed jobs, and delete the payloads of completed ones, when their retention has passed."""

import asyncio
import functools

from jobfn.database.job_retention import JobRetention
from jobfn.worker.maintenance.periodic import (
    BATCH_PAUSE_SECONDS,
    INITIAL_DELAY_SECONDS,
    PRUNE_BATCH_SIZE,
    PRUNE_INTERVAL_SECONDS,
    STATEMENT_TIMEOUT_SECONDS,
    FailureLogger,
    prune_batches,
    sleep_until,
)
from jobfn.worker.telemetry.metrics import WorkerMetrics

#: Runs between two walks over the failed jobs, which are read in whole, as no index has the time of a failure.
_RUNS_PER_WALK = 60


class JobPruner:
    """Sets the retention of completed jobs, and removes ended jobs past theirs.

    Args:
        retention: The ended jobs.
        failed_days: Retention of permanently failed jobs. None: they are kept.
        completed_days: Retention of completed jobs with their payloads; 0 stores none.
        metrics: Counts what is removed.
        interval_seconds: Interval between runs.
    """

    def __init__(
        self,
        retention: JobRetention,
        *,
        failed_days: float | None,
        completed_days: float,
        metrics: WorkerMetrics,
        interval_seconds: float = PRUNE_INTERVAL_SECONDS,
    ) -> None:
        self._retention = retention
        self._failed_days = failed_days
        self._completed_days = completed_days
        self._metrics = metrics
        self._interval_seconds = interval_seconds
        self._completed_failures = FailureLogger("retention of completed jobs not applied")
        self._failed_failures = FailureLogger("failed jobs not pruned")

    async def run(self, stop: asyncio.Event) -> None:
        """Prune until ``stop`` is set."""
        await sleep_until(stop, min(self._interval_seconds, INITIAL_DELAY_SECONDS))
        runs = 0
        while not stop.is_set():
            await self._completed_failures.run(lambda: self._prune_completed(stop))
            if (days := self._failed_days) is not None and runs % _RUNS_PER_WALK == 0:
                await self._failed_failures.run(functools.partial(self._prune_failed, days, stop))
            runs += 1
            await sleep_until(stop, self._interval_seconds)

    async def _prune_completed(self, stop: asyncio.Event) -> None:
        await asyncio.wait_for(self._retention.store_completed(self._completed_days), STATEMENT_TIMEOUT_SECONDS)

        async def prune(limit: int) -> int:
            deleted = await self._retention.prune_completed(limit=limit)
            self._metrics.record_pruned("completed", deleted)
            return deleted

        await prune_batches(prune, stop)

    async def _prune_failed(self, days: float, stop: asyncio.Event) -> None:
        after_id: int | None = 0
        while after_id is not None and not stop.is_set():
            removed, after_id = await asyncio.wait_for(
                self._retention.prune_failed(days, after_id=after_id, limit=PRUNE_BATCH_SIZE),
                STATEMENT_TIMEOUT_SECONDS,
            )
            self._metrics.record_pruned("failed", removed)
            await sleep_until(stop, BATCH_PAUSE_SECONDS)
