"""Statistics of all jobs: counts by state, throughput by the minute, workers.

Counting a million rows takes a fraction of a second, so counts are cached (``cache.py``). A minute of the history that
is over cannot change, so it is read once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import asyncpg

from jobfn.cache import AsyncTTLCache
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
#: Maximum length of the throughput, in minutes.
MAX_MINUTES = 24 * 60
#: Number of latest jobs, and of latest attempts, that are read for the names of tasks.
SAMPLE_ROWS = 5000
_MINUTE = timedelta(minutes=1)
#: Maximum delay between the end of an attempt and the commit of its history row.
_MAX_COMMIT_LAG = timedelta(seconds=10)


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
class ThroughputBucket:
    """Attempts that ended within one minute.

    Attributes:
        at: Start of the minute.
        failed: Attempts that failed, including those that are retried.
        mean_seconds: Mean duration; None if no attempt ended.
    """

    at: datetime
    completed: int = 0
    failed: int = 0
    mean_seconds: float | None = None
    p50_seconds: float | None = None
    p95_seconds: float | None = None
    max_seconds: float | None = None
    queue_p95_seconds: float | None = None


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
        self._past: dict[datetime, ThroughputBucket] = {}
        self._past_until: datetime | None = None

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

    async def throughput(self, *, minutes: int) -> tuple[ThroughputBucket, ...]:
        """See ``Operations.throughput``."""
        if self._database.capabilities.history_days is None:
            return ()
        async with self._database.transaction() as connection:
            now: datetime = (await connection.fetchval("select now()")).astimezone(UTC)
            this_minute = now.replace(second=0, microsecond=0)
            first = this_minute - min(max(minutes, 1), MAX_MINUTES) * _MINUTE + _MINUTE
            is_cached = self._past_until is not None and min(self._past, default=now) <= first
            begin = max(first, self._past_until) if is_cached and self._past_until is not None else first
            rows = await connection.fetch(self._database.statement("throughput"), begin, this_minute + _MINUTE)
        fresh = {row["at"].astimezone(UTC): _bucket(row) for row in rows}
        buckets = [
            fresh.get(at, ThroughputBucket(at)) if at >= begin else self._past.get(at, ThroughputBucket(at))
            for at in (first + number * _MINUTE for number in range(int((this_minute - first) / _MINUTE) + 1))
        ]
        self._past_until = (now - _MAX_COMMIT_LAG).replace(second=0, microsecond=0)
        self._past = {bucket.at: bucket for bucket in buckets if bucket.at < self._past_until}
        return tuple(buckets)

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


def _bucket(row: "asyncpg.Record") -> ThroughputBucket:
    p50_seconds, p95_seconds = row["percentiles"]
    return ThroughputBucket(
        at=row["at"].astimezone(UTC),
        completed=row["completed"],
        failed=row["failed"],
        mean_seconds=row["mean_seconds"],
        p50_seconds=p50_seconds,
        p95_seconds=p95_seconds,
        max_seconds=row["max_seconds"],
        queue_p95_seconds=row["queue_p95_seconds"],
    )


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
