"""Numbers about all jobs together: counts, the last hour by the minute, who is at work.

Counting a million rows takes a part of a second, so answers are remembered (``remembered.py``); and a minute that is
over is read once, since nothing of it changes any more.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import asyncpg

from jobfn.cache import AsyncTTLCache
from jobfn.operations.figures import Counts, GroupCount, Minute, WorkerRow
from jobfn.operations.statements import Database

MAX_QUEUES = 100
MAX_MINUTES = 24 * 60
#: So many of the latest jobs and attempts are looked at for the names of tasks.
RECENT = 5000
_MINUTE = timedelta(minutes=1)
#: An attempt that ended within a minute is committed, at the latest, so long after it.
_LATE = timedelta(seconds=10)


class Measures:
    """The numbers of one database.

    Args:
        database: Where from.
        clock: Monotonic seconds.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._counts = AsyncTTLCache(self._count, clock)
        self._workers = AsyncTTLCache(self._look_for_workers, clock)
        self._past: dict[datetime, Minute] = {}
        self._past_until: datetime | None = None

    async def counts(self, *, max_age_seconds: float) -> Counts:
        """See ``Operations.counts``."""
        return await self._counts.get(max_age_seconds=max_age_seconds)

    async def workers(self, *, max_age_seconds: float) -> tuple[WorkerRow, ...]:
        """See ``Operations.workers``."""
        return await self._workers.get(max_age_seconds=max_age_seconds)

    async def throughput(self, *, minutes: int) -> tuple[Minute, ...]:
        """See ``Operations.throughput``."""
        if self._database.features.history_days is None:
            return ()
        async with self._database.transaction() as connection:
            now: datetime = (await connection.fetchval("select now()")).astimezone(UTC)
            this_minute = now.replace(second=0, microsecond=0)
            first = this_minute - min(max(minutes, 1), MAX_MINUTES) * _MINUTE + _MINUTE
            known = self._past_until if self._past_until is not None and min(self._past, default=now) <= first else None
            begin = max(first, known) if known is not None else first
            rows = await connection.fetch(self._database.statement("throughput"), begin, this_minute + _MINUTE)
        found = {row["at"].astimezone(UTC): _minute(row) for row in rows}
        everything = [
            found.get(at, Minute(at)) if at >= begin else self._past.get(at, Minute(at))
            for at in (first + number * _MINUTE for number in range(int((this_minute - first) / _MINUTE) + 1))
        ]
        over = (now - _LATE).replace(second=0, microsecond=0)
        self._past = {minute.at: minute for minute in everything if minute.at < over}
        self._past_until = over
        return tuple(everything)

    async def tasks(self) -> tuple[str, ...]:
        """See ``Operations.tasks``."""
        rows = list(await self._database.fetch("recent_tasks", RECENT))
        if self._database.features.history_days is not None:
            rows += await self._database.fetch("recent_tasks_done", RECENT)
        return tuple(sorted({row["task_identifier"] for row in rows}))

    async def _count(self) -> Counts:
        began = self._clock()
        rows = await self._database.fetch("count_states", MAX_QUEUES)
        everything = next(row for row in rows if not row["is_task"] and not row["is_queue"])
        return Counts(
            taken_at=everything["now"],
            ready=everything["ready"],
            delayed=everything["delayed"],
            running=everything["running"],
            failed=everything["failed"],
            oldest_ready_seconds=everything["oldest_ready_seconds"],
            by_task=tuple(
                sorted((_group(row, "task_identifier") for row in rows if row["is_task"]), key=lambda task: task.name)
            ),
            by_queue=tuple(_group(row, "queue_name") for row in rows if row["is_queue"]),
            took_seconds=self._clock() - began,
        )

    async def _look_for_workers(self) -> tuple[WorkerRow, ...]:
        holders = {row["locked_by"]: row["jobs"] for row in await self._database.fetch("lock_holders")}
        rows = await self._database.fetch("list_workers") if self._database.features.workers else []
        registered = [_worker(row, holders.get(row["worker_id"], 0)) for row in rows]
        known = {worker.id for worker in registered}
        others = [WorkerRow(name, holds=jobs) for name, jobs in holders.items() if name not in known]
        return tuple(sorted([*registered, *others], key=lambda worker: (worker.id, worker.host or "", worker.pid or 0)))


def _group(row: "asyncpg.Record", name: str) -> GroupCount:
    return GroupCount(row[name], row["ready"], row["delayed"], row["running"], row["failed"])


def _minute(row: "asyncpg.Record") -> Minute:
    half, most = row["shares"]
    return Minute(
        at=row["at"].astimezone(UTC),
        completed=row["completed"],
        failed=row["failed"],
        mean_seconds=row["mean_seconds"],
        p50_seconds=half,
        p95_seconds=most,
        max_seconds=row["max_seconds"],
        queue_p95_seconds=row["queue_p95_seconds"],
    )


def _worker(row: "asyncpg.Record", holds: int) -> WorkerRow:
    return WorkerRow(
        id=row["worker_id"],
        host=row["host"],
        pid=row["pid"],
        version=row["version"],
        parts=tuple(row["parts"]),
        concurrency=row["concurrency"],
        in_flight=row["in_flight"],
        started_at=row["started_at"],
        seen_at=row["seen_at"],
        is_alive=row["is_alive"],
        holds=holds,
    )
