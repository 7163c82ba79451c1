"""Find what keeps jobs from running, for the banner of the dashboard, ``jobfn jobs`` and ``jobfn doctor``.

Small tables answer almost all of it. Jobs are counted only while no worker runs.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import asyncpg

from jobfn.database.cache import AsyncTTLCache
from jobfn.errors import DatabaseError, DatabaseUnreachable
from jobfn.operations.statements import Database
from jobfn.operations.stats import Stats

#: Interval between tests of the disk.
DISK_TTL_SECONDS = 60.0
#: TTL of the count of waiting jobs.
COUNT_TTL_SECONDS = 5.0
#: Maximum number of names in a message.
MAX_NAMES = 5


class TroubleKind(StrEnum):
    """Kind of a trouble."""

    NO_WORKER = "no worker"
    SILENT_WORKER = "silent worker"
    PAUSED = "paused"
    PAUSED_SCHEDULE = "paused schedule"
    DISK_FULL = "disk full"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that keeps jobs from running, and what to do."""

    kind: TroubleKind
    message: str
    advice: str

    def __str__(self) -> str:
        return f"{self.message}: {self.advice}"


class Troubles:
    """Finds the troubles of one database, worst first."""

    def __init__(self, database: Database, stats: Stats, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._stats = stats
        self._disk = AsyncTTLCache(self._read_disk, clock)

    async def get(self) -> tuple[Trouble, ...]:
        """See ``Operations.troubles``."""
        disk = await self._disk.get(max_age_seconds=DISK_TTL_SECONDS)
        if self._database.capabilities.is_platform:
            return disk
        async with self._database.transaction() as connection:
            heartbeats, pauses, schedules = [
                await connection.fetch(self._database.statement(name))
                for name in ("worker_heartbeats", "pauses", "paused_schedules")
            ]
        return (*disk, *await self._workers(heartbeats), *_pauses(pauses), *_paused_schedules(schedules))

    async def _read_disk(self) -> tuple[Trouble, ...]:
        """Write a small temporary file, which fails as other writes do if the disk is full."""
        try:
            async with self._database.transaction() as connection:
                await connection.execute("set local work_mem = '64kB'")
                await connection.execute(self._database.statement("write_temporary_file"))
        except DatabaseError as error:
            if isinstance(error.__cause__, asyncpg.DiskFullError):
                return (DISK_FULL,)
            if isinstance(error, DatabaseUnreachable):
                raise
        return ()  # other errors, for example of temp_file_limit, say nothing about the disk

    async def _workers(self, heartbeats: "Sequence[asyncpg.Record]") -> list[Trouble]:
        troubles = []
        if not any(row["is_alive"] for row in heartbeats):
            counts = await self._stats.counts(max_age_seconds=COUNT_TTL_SECONDS)
            if counts.ready:
                jobs = "1 job waits" if counts.ready == 1 else f"{counts.ready:,} jobs wait"
                message = f"{jobs}, but no worker is running"
                advice = "start `jobfn service` where the functions can be reached, or `jobfn dev functions.py`"
                troubles.append(Trouble(TroubleKind.NO_WORKER, message, advice))
        if silent := [row for row in heartbeats if row["is_recently_silent"]]:
            names = join_names([f"{row['worker_id']} since {_clock(row['last_heartbeat_at'])}" for row in silent])
            advice = (
                "see the log and the host of the process: it crashed, or does not reach the database. Its jobs are "
                "taken over when their leases end"
            )
            troubles.append(Trouble(TroubleKind.SILENT_WORKER, f"no heartbeat from {names}", advice))
        return troubles


def _pauses(rows: "Sequence[asyncpg.Record]") -> list[Trouble]:
    if not rows:
        return []
    names = [f"{row['kind']} {row['name']}".strip() + (f" ({row['reason']})" if row["reason"] else "") for row in rows]
    advice = "end it with `jobfn resume` if it is not intended"
    return [Trouble(TroubleKind.PAUSED, f"paused: {join_names(names)}", advice)]


def _paused_schedules(rows: "Sequence[asyncpg.Record]") -> list[Trouble]:
    if not rows:
        return []
    names = [f"{row['task_identifier']} (id {row['id']})" for row in rows]
    advice = "end it with `jobfn schedules resume ID` if it is not intended"
    return [Trouble(TroubleKind.PAUSED_SCHEDULE, f"paused schedules: {join_names(names)}", advice)]


DISK_FULL = Trouble(
    TroubleKind.DISK_FULL,
    "the disk of the database is full: PostgreSQL refuses writes",
    "free or add space on its host. Jobs go on by themselves afterwards",
)


def join_names(names: Sequence[str], separator: str = ", ") -> str:
    """Return the first names as one text, and how many more there are."""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return separator.join(names[:MAX_NAMES]) + more


def _clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
