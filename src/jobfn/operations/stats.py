"""Statistics of all jobs: counts by state, workers. ``throughput.py`` has those of the history.

Counting a million rows takes a fraction of a second, so counts are cached (``database/cache.py``).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import asyncpg

from jobfn.database.cache import AsyncTTLCache
from jobfn.errors import DatabaseError
from jobfn.operations.queries import filter_parameters
from jobfn.operations.records import JobFilter
from jobfn.operations.statements import Database

#: Maximum number of named queues that are counted separately.
MAX_QUEUES = 100
#: Timeout of a count of the jobs that match a filter.
MATCHING_TIMEOUT_SECONDS = 2.0
#: Maximum number of filters whose counts are cached.
MAX_CACHED_FILTERS = 32
#: Number of latest jobs, and of latest attempts, that are read for the names of tasks.
SAMPLE_ROWS = 5000


@dataclass(frozen=True, slots=True)
class GroupCount:
    """Number of jobs of one task or one queue, by state."""

    name: str
    ready: int
    delayed: int
    running: int
    failed: int
    parked: int = 0
    cancelled: int = 0
    expired: int = 0

    @property
    def total(self) -> int:
        """Number of jobs in any state."""
        ended = self.failed + self.cancelled + self.expired
        return self.ready + self.delayed + self.parked + self.running + ended


@dataclass(frozen=True, slots=True)
class JobCounts:
    """Number of jobs, by state.

    Attributes:
        taken_at: When they were counted, by the database's clock.
        oldest_ready_seconds: Seconds since the oldest ready job became due; None if no job is ready.
        by_queue: Counts of the largest named queues, at most ``MAX_QUEUES``, largest first.
        took_seconds: Duration of the count, in seconds.
    """

    taken_at: datetime
    ready: int
    delayed: int
    running: int
    failed: int
    oldest_ready_seconds: float | None
    by_task: tuple[GroupCount, ...]
    by_queue: tuple[GroupCount, ...]
    took_seconds: float
    parked: int = 0
    cancelled: int = 0
    expired: int = 0

    @property
    def total(self) -> int:
        """Number of jobs in any state."""
        ended = self.failed + self.cancelled + self.expired
        return self.ready + self.delayed + self.parked + self.running + ended


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A process that works on jobs.

    Attributes:
        host: Its host. None, as the following fields, if it is known only from the jobs that it holds.
        in_flight: Requests to functions at its last heartbeat.
        is_alive: Whether the last heartbeat is recent. None if it sends none: its locks outlive its process.
        tasks: The tasks that it claims. None: all, or unknown.
        queues: The queues that it claims from, ``""`` for the jobs without one. None: all, or unknown.
    """

    id: str
    host: str | None = None
    pid: int | None = None
    version: str | None = None
    roles: tuple[str, ...] = ()
    concurrency: int | None = None
    in_flight: int | None = None
    started_at: datetime | None = None
    last_heartbeat_at: datetime | None = None
    is_alive: bool | None = None
    held_jobs: int = 0
    tasks: tuple[str, ...] | None = None
    queues: tuple[str, ...] | None = None

    @property
    def limits_label(self) -> str:
        """The tasks and queues that it is limited to, as people see them; empty if it takes every job."""
        tasks = [] if self.tasks is None else [", ".join(self.tasks)]
        queues = [] if self.queues is None else ["queues " + ", ".join(queue or "none" for queue in self.queues)]
        return "; ".join(tasks + queues)

    @property
    def is_registered(self) -> bool:
        """Whether it sends heartbeats, as jobfn's processes do on jobfn's schema."""
        return self.host is not None


class Stats:
    """Statistics of one database."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._counts = AsyncTTLCache(self._read_counts, clock)
        self._workers = AsyncTTLCache(self._read_workers, clock)
        self._matching: dict[JobFilter, AsyncTTLCache[GroupCount | None]] = {}

    async def counts(self, *, max_age_seconds: float) -> JobCounts:
        """See ``Operations.counts``."""
        return await self._counts.get(max_age_seconds=max_age_seconds)

    async def counts_matching(self, job_filter: JobFilter, *, max_age_seconds: float) -> GroupCount | None:
        """See ``Operations.counts_matching``."""
        job_filter = replace(job_filter, state=None)
        cache = self._matching.pop(job_filter, None)
        if cache is None:
            cache = AsyncTTLCache(partial(self._read_matching, job_filter), self._clock)
        self._matching[job_filter] = cache  # the last one is the latest
        if len(self._matching) > MAX_CACHED_FILTERS:
            del self._matching[next(iter(self._matching))]
        return await cache.get(max_age_seconds=max_age_seconds)

    async def workers(self, *, max_age_seconds: float) -> tuple[WorkerRow, ...]:
        """See ``Operations.workers``."""
        return await self._workers.get(max_age_seconds=max_age_seconds)

    async def tasks(self) -> tuple[str, ...]:
        """See ``Operations.tasks``."""
        rows = list(await self._database.fetch("recent_tasks", SAMPLE_ROWS))
        if self._database.capabilities.history_days is not None:
            rows += await self._database.fetch("recently_run_tasks", SAMPLE_ROWS)
        return tuple(sorted({row["task_identifier"] for row in rows}))

    async def _read_counts(self) -> JobCounts:
        started = self._clock()
        rows = await self._database.fetch("count_states", MAX_QUEUES)
        totals = next(row for row in rows if not row["is_task"] and not row["is_queue"])
        tasks = [_group(row, "task_identifier") for row in rows if row["is_task"]]
        return JobCounts(
            taken_at=totals["now"],
            ready=totals["ready"],
            delayed=totals["delayed"],
            running=totals["running"],
            failed=totals["failed"],
            oldest_ready_seconds=totals["oldest_ready_seconds"],
            by_task=tuple(sorted(tasks, key=lambda task: task.name)),
            by_queue=tuple(_group(row, "queue_name") for row in rows if row["is_queue"]),
            took_seconds=self._clock() - started,
            parked=totals["parked"],
            cancelled=totals["cancelled"],
            expired=totals["expired"],
        )

    async def _read_matching(self, job_filter: JobFilter) -> GroupCount | None:
        values = filter_parameters(self._database, job_filter, None)
        try:
            async with self._database.transaction() as connection:
                await connection.execute(f"set local statement_timeout = {MATCHING_TIMEOUT_SECONDS * 1000:.0f}")
                row = await connection.fetchrow(self._database.statement("count_matching_states"), *values)
        except DatabaseError as error:
            if isinstance(error.__cause__, asyncpg.QueryCanceledError):
                return None
            raise
        return GroupCount("", **row)

    async def _read_workers(self) -> tuple[WorkerRow, ...]:
        held_jobs = {row["locked_by"]: row["jobs"] for row in await self._database.fetch("running_by_worker")}
        rows = await self._database.fetch("list_workers") if self._database.capabilities.workers else []
        registered = [_worker(row, held_jobs.get(row["worker_id"], 0)) for row in rows]
        ids = {worker.id for worker in registered}
        others = [WorkerRow(id_, held_jobs=count) for id_, count in held_jobs.items() if id_ not in ids]
        return tuple(sorted([*registered, *others], key=lambda worker: (worker.id, worker.host or "", worker.pid or 0)))


def _group(row: "asyncpg.Record", name: str) -> GroupCount:
    states = ("ready", "delayed", "running", "failed", "parked", "cancelled", "expired")
    return GroupCount(row[name], *(row[state] for state in states))


def _worker(row: "asyncpg.Record", held_jobs: int) -> WorkerRow:
    return WorkerRow(
        id=row["worker_id"],
        host=row["host"],
        pid=row["pid"],
        version=row["version"],
        roles=tuple(row["roles"]),
        concurrency=row["concurrency"],
        in_flight=row["in_flight"],
        started_at=row["started_at"],
        last_heartbeat_at=row["last_heartbeat_at"],
        is_alive=row["is_alive"],
        held_jobs=held_jobs,
        tasks=None if row["tasks"] is None else tuple(row["tasks"]),
        queues=None if row["queues"] is None else tuple(row["queues"]),
    )
