"""A job's end is written down: its line in the log, and its number.

The stores call it when a settlement is committed, whoever brought it: a function's report, or its response.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from jobfn.database.records import ExpiredJob, SettledJob
from jobfn.telemetry import logs
from jobfn.worker.telemetry.metrics import WorkerMetrics

#: After so many lines in a row (some 2 ms of work) others have their turn: a pool of workers may die with thousands.
_LINES_IN_A_ROW = 100


class SettlementObserver:
    """An ``OnSettled``.

    Args:
        measures: What is counted.
    """

    def __init__(self, measures: WorkerMetrics) -> None:
        self._measures = measures
        self._log = logs.get_logger("jobfn.worker")

    def __call__(self, ending: SettledJob) -> None:
        """Write it down. A job that was given back has not ended; why it was, its worker says."""
        self._measures.ended(ending)
        settlement = ending.settlement
        if settlement.given_back:
            return
        event = "job failed" if settlement.error is not None else "job done"
        if not settlement.reported:
            event += ", without a report"
        self._log.info(event, **ending.ids(), error=settlement.error)


async def log_unlocked(write: Callable[..., Any], event: str, jobs: Sequence[ExpiredJob]) -> None:
    """Write a line for each job that was unlocked because its worker died.

    Args:
        write: A logger's ``warning`` or ``error``.
        event: What happened to it.
        jobs: Which.
    """
    for number, job in enumerate(jobs, start=1):
        write(event, **job.ids())
        if number % _LINES_IN_A_ROW == 0:
            await asyncio.sleep(0)
