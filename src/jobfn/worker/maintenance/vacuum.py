"""The jobs table keeps its size: the service vacuums it when many jobs have come to their end.

A job leaves two dead rows behind, and an entry in each index. autovacuum looks once a minute (``autovacuum_naptime``),
which at thousands of jobs a second is late, and no setting of the table changes that. So whoever settles jobs looks at
the statistics as it goes, and vacuums where its role may; elsewhere autovacuum does what it did. The statistics are a
second late, in which many more rows can die: those that this process has settled itself it counts itself.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from jobfn.database.vacuum_table import JobsTable, TableState
from jobfn.telemetry import logs
from jobfn.worker.maintenance.heartbeat import STATEMENT_TIMEOUT_SECONDS, FailureLogger, rest

#: The claim leaves one, its end another.
_DEAD_ROWS_A_JOB = 2


@dataclass(frozen=True, slots=True)
class VacuumPlan:
    """When it is worth it.

    Attributes:
        least: With so many new dead rows. A vacuum of as many takes some 60 ms.
        share: And with so many as this share of all rows: it reads the indexes whole, whatever is dead in them.
        stats_interval_seconds: So often it looks at the statistics, if jobs were settled meanwhile. They are no fresher.
        poll_interval_seconds: So often it looks at its own count, which costs nothing.
        apart: After a vacuum it rests for so many times what that took: it takes a tenth of one processor at most.
        error_backoff_seconds: So long it rests where it may not, or could not.
    """

    least: int = 50_000
    share: float = 0.2
    stats_interval_seconds: float = 1.0
    poll_interval_seconds: float = 0.05
    apart: float = 10.0
    error_backoff_seconds: float = 60.0


class Vacuumer:
    """See the module.

    Args:
        table: What is vacuumed.
        settled: How many jobs this process has settled until now. One that settles none does not look.
        plan: When.
    """

    def __init__(self, table: JobsTable, *, settled: Callable[[], int], plan: VacuumPlan | None = None) -> None:
        self._table = table
        self._settled = settled
        self._plan = plan or VacuumPlan()
        self._turns = FailureLogger("jobs table not vacuumed")
        self._log = logs.get_logger("jobfn.service")
        self._vacuums = -1
        #: How many jobs were settled when that was seen, and how many new dead rows were then worth a vacuum.
        self._settled_then = 0
        self._worth = self._plan.least
        #: Dead rows that the last vacuum, whoever did it, had to leave: some transaction might still look at them.
        self._left = 0
        self._pause = self._plan.poll_interval_seconds
        self._told = False

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop`` is set, which also ends a vacuum that is under way."""
        looked, settled = time.monotonic(), 0
        while not stop.is_set():
            await rest(stop, self._pause)
            self._pause = self._plan.poll_interval_seconds
            if stop.is_set() or self._settled() == settled:
                continue
            if self._own() < self._worth and time.monotonic() - looked < self._plan.stats_interval_seconds:
                continue
            looked, settled = time.monotonic(), self._settled()
            if not await self._turns.take(lambda: self._turn(stop)):
                self._pause = self._plan.error_backoff_seconds

    def _own(self) -> int:
        """Dead rows that this process knows of, since the last vacuum."""
        return _DEAD_ROWS_A_JOB * (self._settled() - self._settled_then)

    async def _turn(self, stop: asyncio.Event) -> None:
        state = await self._look()
        if not self._is_worth_it(state):
            return
        if state.is_locked:
            self._pause = self._plan.stats_interval_seconds
            return
        if not state.is_allowed:
            self._tell()
            return
        began, settled = time.monotonic(), self._settled()
        if not await self._vacuum(stop):
            return
        took = time.monotonic() - began
        self._pause = max(self._plan.poll_interval_seconds, self._plan.apart * took)
        after = await self._look()
        self._settled_then = settled  # those since then it may not have seen
        self._log.debug("jobs table vacuumed", seconds=round(took, 3), dead=state.dead, left=after.dead)

    async def _look(self) -> TableState:
        async with asyncio.timeout(STATEMENT_TIMEOUT_SECONDS):
            state = await self._table.state(worth=min(self._plan.least, self._own()))
        if self._vacuums not in (-1, state.vacuums):
            self._left = state.dead
            self._settled_then = self._settled()
        self._vacuums = state.vacuums
        self._left = min(self._left, state.dead)
        self._worth = max(self._plan.least, round(self._plan.share * (state.live + self._left)))
        return state

    def _is_worth_it(self, state: TableState) -> bool:
        return max(state.dead - self._left, self._own()) >= self._worth

    async def _vacuum(self, stop: asyncio.Event) -> bool:
        """Returns whether it came to its end before ``stop``."""
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

    def _tell(self) -> None:
        self._pause = self._plan.error_backoff_seconds
        if not self._told:
            self._log.info(
                "this role may not vacuum the jobs table, which grows until autovacuum comes",
                advice="on PostgreSQL 17 and later run `jobfn db migrate --grant-worker` for it; before, set a shorter "
                "autovacuum_naptime, or let the service run as the table's owner. JOBS_VACUUM=false says nothing",
            )
        self._told = True
