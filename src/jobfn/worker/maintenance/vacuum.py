"""Vacuum the jobs table when many jobs have run.

Every job leaves two dead rows, and an entry in each index. autovacuum runs once a minute (``autovacuum_naptime``),
which no setting of the table changes: at thousands of jobs a second that is too late. So a process that settles jobs
reads the table's statistics several times a second, and vacuums if its role may. The statistics are a second late, in
which many more rows can die, so the process also counts its own settlements.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from jobfn.database.vacuum_table import JobsTable, TableState
from jobfn.telemetry import logs
from jobfn.worker.maintenance.periodic import STATEMENT_TIMEOUT_SECONDS, FailureLogger, sleep_until

#: One from the claim, one from the settlement.
_DEAD_ROWS_PER_JOB = 2


@dataclass(frozen=True, slots=True)
class VacuumPlan:
    """When to vacuum.

    Attributes:
        min_dead_rows: Minimum number of new dead rows. A vacuum of 50,000 takes about 60 ms.
        min_dead_ratio: Minimum ratio of new dead rows to rows: a vacuum reads the indexes whole.
        poll_interval_seconds: Interval between checks. The statistics are only read if the process has settled jobs.
        cooldown_factor: Pause after a vacuum, as a multiple of its duration.
        error_backoff_seconds: Pause after an error, or if the role may not vacuum.
    """

    min_dead_rows: int = 50_000
    min_dead_ratio: float = 0.2
    poll_interval_seconds: float = 0.25
    cooldown_factor: float = 10.0
    error_backoff_seconds: float = 60.0


class Vacuumer:
    """Vacuums the table as planned. Its statistics are not read while the number of settlements stays the same."""

    def __init__(self, table: JobsTable, *, settlements: Callable[[], int], plan: VacuumPlan | None = None) -> None:
        self._table = table
        self._settlements = settlements
        self._plan = plan or VacuumPlan()
        self._failures = FailureLogger("jobs table not vacuumed")
        self._log = logs.get_logger("jobfn.service")
        self._pause_seconds = self._plan.poll_interval_seconds
        self._threshold = self._plan.min_dead_rows
        #: Settlements up to the last vacuum, by any process.
        self._vacuumed_settlements = 0
        self._vacuum_count: int | None = None
        #: Dead rows that the last vacuum could not remove, because an open transaction can still see them.
        self._unremovable = 0
        self._has_warned = False

    async def run(self, stop: asyncio.Event) -> None:
        """Vacuum until ``stop`` is set, which also cancels a running vacuum."""
        checked_settlements = 0
        while not stop.is_set():
            await sleep_until(stop, self._pause_seconds)
            self._pause_seconds = self._plan.poll_interval_seconds
            if stop.is_set() or (settlements := self._settlements()) == checked_settlements:
                continue
            checked_settlements = settlements
            if not await self._failures.run(lambda: self._run_once(stop)):
                self._pause_seconds = self._plan.error_backoff_seconds

    def _own_dead_rows(self) -> int:
        """Return the dead rows of this process since the last vacuum."""
        return _DEAD_ROWS_PER_JOB * (self._settlements() - self._vacuumed_settlements)

    async def _run_once(self, stop: asyncio.Event) -> None:
        state = await self._refresh()
        new_dead_rows = max(state.dead - self._unremovable, self._own_dead_rows())
        if new_dead_rows < self._threshold or state.is_locked:
            return
        if not state.is_allowed:
            self._warn_not_allowed()
            return
        started_at, settlements = time.monotonic(), self._settlements()
        if await self._vacuum(stop):
            seconds = time.monotonic() - started_at
            self._pause_seconds = max(self._plan.poll_interval_seconds, self._plan.cooldown_factor * seconds)
            dead_after = (await self._refresh()).dead
            self._vacuumed_settlements = settlements  # the vacuum may have missed later ones
            self._log.debug("jobs table vacuumed", seconds=round(seconds, 3), dead=state.dead, left=dead_after)

    async def _refresh(self) -> TableState:
        """Read the statistics, and update the counts if some process has vacuumed since."""
        min_dead_rows = min(self._plan.min_dead_rows, self._own_dead_rows())
        state = await asyncio.wait_for(self._table.state(min_dead_rows=min_dead_rows), STATEMENT_TIMEOUT_SECONDS)
        if self._vacuum_count not in {None, state.vacuums}:
            self._unremovable = state.dead
            self._vacuumed_settlements = self._settlements()
        self._vacuum_count = state.vacuums
        self._unremovable = min(self._unremovable, state.dead)
        rows = state.live + self._unremovable
        self._threshold = max(self._plan.min_dead_rows, round(self._plan.min_dead_ratio * rows))
        return state

    async def _vacuum(self, stop: asyncio.Event) -> bool:
        """Vacuum the table. Return whether the vacuum finished before ``stop``."""
        vacuum, stopped = asyncio.create_task(self._table.vacuum()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({vacuum, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            vacuum.cancel()
            await asyncio.wait({vacuum, stopped})
        if vacuum.cancelled():
            return False
        vacuum.result()
        return True

    def _warn_not_allowed(self) -> None:
        self._pause_seconds = self._plan.error_backoff_seconds
        if not self._has_warned:
            self._log.info(
                "this role may not vacuum the jobs table, which grows until autovacuum runs",
                advice="on PostgreSQL 17 and later, run `jobfn db migrate --grant-worker` for this role; before, set a "
                "shorter autovacuum_naptime, or run the service as the table's owner. JOBS_VACUUM=false disables this",
            )
        self._has_warned = True
