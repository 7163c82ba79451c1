"""Attempts of the history by the minute, the quarter of an hour or two hours.

A period that is over cannot change, so it is read once. Longer periods are read less often while they last.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial

import asyncpg

from jobfn.database.cache import AsyncTTLCache
from jobfn.operations.statements import Database

#: Maximum length of the throughput by the minute, in minutes.
MAX_MINUTES = 24 * 60
#: Maximum number of ranges of tasks whose past is cached.
MAX_CACHED_RANGES = 32
_MINUTE = timedelta(minutes=1)
_ORIGIN = datetime(2000, 1, 1, tzinfo=UTC)
#: Maximum delay between the end of an attempt and the commit of its history row.
_MAX_COMMIT_LAG = timedelta(seconds=10)


class TimeRange(StrEnum):
    """Range of a chart."""

    HOUR = "1h"
    DAY = "24h"
    WEEK = "7d"

    @property
    def period(self) -> timedelta:
        """Length of each period."""
        return {TimeRange.HOUR: _MINUTE, TimeRange.DAY: 15 * _MINUTE, TimeRange.WEEK: 120 * _MINUTE}[self]

    @property
    def periods(self) -> int:
        """Number of periods."""
        return {TimeRange.HOUR: 60, TimeRange.DAY: 96, TimeRange.WEEK: 84}[self]


@dataclass(frozen=True, slots=True)
class ThroughputBucket:
    """Attempts that ended within one period.

    Attributes:
        at: Start of the period.
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


class Throughput:
    """The history of one database."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._minutes = _Periods(database, _MINUTE, None)
        self._ranges: dict[tuple[TimeRange, str | None], AsyncTTLCache[tuple[ThroughputBucket, ...]]] = {}

    async def minutes(self, minutes: int) -> tuple[ThroughputBucket, ...]:
        """See ``Operations.throughput``."""
        return await self._minutes.read(min(max(minutes, 1), MAX_MINUTES))

    async def range(self, time_range: TimeRange, task: str | None) -> tuple[ThroughputBucket, ...]:
        """See ``Operations.throughput_of_range``."""
        key = (time_range, task)
        cache = self._ranges.pop(key, None)
        if cache is None:
            periods = _Periods(self._database, time_range.period, task)
            cache = AsyncTTLCache(partial(periods.read, time_range.periods), self._clock)
        self._ranges[key] = cache  # the last one is the latest
        if len(self._ranges) > MAX_CACHED_RANGES:
            del self._ranges[next(iter(self._ranges))]
        return await cache.get(max_age_seconds=time_range.period.total_seconds() / 120)


class _Periods:
    """Periods of one length, of one task or (None) of all."""

    def __init__(self, database: Database, period: timedelta, task: str | None) -> None:
        self._database = database
        self._period = period
        self._task = task
        self._past: dict[datetime, ThroughputBucket] = {}
        self._past_until: datetime | None = None

    async def read(self, number: int) -> tuple[ThroughputBucket, ...]:
        """Return the last periods, oldest first, including the current one; empty without history."""
        if self._database.capabilities.history_days is None:
            return ()
        async with self._database.transaction() as connection:
            now: datetime = (await connection.fetchval("select now()")).astimezone(UTC)
            current = self._start(now)
            first = current - (number - 1) * self._period
            is_cached = self._past_until is not None and min(self._past, default=now) <= first
            begin = max(first, self._past_until) if is_cached and self._past_until is not None else first
            rows = await connection.fetch(
                self._database.statement("throughput"), begin, current + self._period, self._period, self._task
            )
        fresh = {row["at"].astimezone(UTC): _bucket(row) for row in rows}
        buckets = [
            fresh.get(at, ThroughputBucket(at)) if at >= begin else self._past.get(at, ThroughputBucket(at))
            for at in (first + index * self._period for index in range(number))
        ]
        self._past_until = self._start(now - _MAX_COMMIT_LAG)
        self._past = {bucket.at: bucket for bucket in buckets if bucket.at < self._past_until}
        return tuple(buckets)

    def _start(self, at: datetime) -> datetime:
        """Return the start of the period of a time."""
        return at - (at - _ORIGIN) % self._period


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
