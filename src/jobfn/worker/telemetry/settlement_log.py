"""The log line and the metric of each settled job.

The stores call ``SettlementObserver`` when a settlement is committed, by a report or by a response.
"""

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobfn.database.records import ExpiredJob, Outcome, SettledJob
from jobfn.telemetry import logs
from jobfn.worker.telemetry.metrics import WorkerMetrics

#: Yield to the event loop after this many log lines (about 2 ms).
_MAX_LINES_PER_TURN = 100


class SettlementObserver:
    """An ``OnSettled`` callback.

    Args:
        metrics: Counts the settlements.
        database: Name of the database, for the lines; None: there is only one.
    """

    def __init__(self, metrics: WorkerMetrics, *, database: str | None = None) -> None:
        self._metrics = metrics
        self._keys = {} if database is None else {"database": database}

    def __call__(self, settled_jobs: Sequence[SettledJob]) -> None:
        """Count and log settlements. Releases are only counted: the worker logs their reason."""
        for settled in settled_jobs:
            self._metrics.record_settled_job(settled)
        line = functools.partial(_line, self._keys)
        logs.log_lines("jobfn.worker", map(line, (each for each in settled_jobs if not each.settlement.released)))


def _line(keys: Mapping[str, str], settled: SettledJob) -> tuple[str, str, dict[str, Any]]:
    settlement = settled.settlement
    fields: dict[str, Any] = {**settled.ids(), "error": settlement.error, **keys}
    match settlement.outcome:
        case Outcome.COMPLETED:
            return "info", "job done", fields
        case Outcome.PARKED:
            return "info", "job parked", fields
        case Outcome.SNOOZED:
            return "info", "job snoozed", fields
        case Outcome.PERMANENTLY_FAILED:
            return "error", "job permanently failed", fields
        case _:
            return "warning", "job failed", fields


async def log_unlocked(log: Callable[..., Any], event: str, jobs: Sequence[ExpiredJob]) -> None:
    """Log a line for each job that was unlocked because its worker died."""
    for number, job in enumerate(jobs, start=1):
        log(event, **job.ids())
        if number % _MAX_LINES_PER_TURN == 0:
            await asyncio.sleep(0)
