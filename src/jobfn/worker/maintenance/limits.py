"""Release jobs that a limit holds although they may start.

Claims do so when something changes. Nothing does while the job whose turn it is waits for a worker that takes its task.
"""

import asyncio

from jobfn.database.limits import Limits
from jobfn.worker.maintenance.periodic import STATEMENT_TIMEOUT_SECONDS, FailureLogger

SWEEP_INTERVAL_SECONDS = 5.0


class LimitSweeper:
    """Sweeps the limits at an interval. Of several workers, one does it each time.

    Args:
        limits: The limits.
        interval_seconds: Interval between sweeps.
    """

    def __init__(self, limits: Limits, *, interval_seconds: float = SWEEP_INTERVAL_SECONDS) -> None:
        self._limits = limits
        self._interval_seconds = interval_seconds
        self._failures = FailureLogger("limits not swept")

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until ``stop`` is set."""
        await self._failures.repeat(self._sweep, stop, interval_seconds=self._interval_seconds)

    async def _sweep(self) -> None:
        await asyncio.wait_for(self._limits.sweep(), STATEMENT_TIMEOUT_SECONDS)
