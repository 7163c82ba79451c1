"""Count a schema's jobs by state, for metrics.

One statement reads the whole table, so the counts are cached.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import asyncpg

from jobfn.database.cache import AsyncTTLCache
from jobfn.database.connection import DATABASE_ERRORS
from jobfn.database.statements import query
from jobfn.telemetry import logs

#: Minimum TTL of the cached counts.
CACHE_TTL_SECONDS: Final = 5.0
#: Timeout of the statement.
COUNT_TIMEOUT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Number of jobs by state.

    Attributes:
        ready: Due and not locked.
        delayed: Not due yet, and not parked.
        held: Due, and held back by a limit of concurrency or rate.
        running: Locked.
        failed: Permanently failed.
        oldest_ready_seconds: Time since the oldest ready job became due; 0 if no job is ready.
        cancelled: Ended by a person.
        expired: Not started before their expiry.
        parked: Durable functions that wait for a time, a signal or child jobs.
        pauses: Number of pauses: of tasks, queues, tenants or everything.
        active_schedules: Number of schedules that make jobs.
        paused_schedules: Number of paused schedules.
        broken_schedules: Number of schedules whose rule is invalid or whose last job could not be added.
    """

    ready: int
    delayed: int
    running: int
    failed: int
    oldest_ready_seconds: float
    parked: int = 0
    held: int = 0
    cancelled: int = 0
    expired: int = 0
    pauses: int = 0
    active_schedules: int = 0
    paused_schedules: int = 0
    broken_schedules: int = 0


class QueueDepthReader:
    """Reads the queue depth, at most once per TTL.

    Args:
        pool: Connections.
        schema: The jobs schema.
        is_platform: Whether it is the platform's schema.
        clock: Monotonic time in seconds.
    """

    def __init__(self, pool: asyncpg.Pool, schema: str, *, is_platform: bool, clock: Callable[[], float]) -> None:
        self._pool = pool
        self._query = query("platform_queue_depth" if is_platform else "queue_depth", schema)
        self._cache: AsyncTTLCache[QueueDepth | None] = AsyncTTLCache(self._count, clock)

    async def read(self) -> QueueDepth | None:
        """Return the depth, or None if it could not be counted, which is cached too.

        If counting is slow, the TTL is longer than ``CACHE_TTL_SECONDS``.
        """
        return await self._cache.get(max_age_seconds=CACHE_TTL_SECONDS)

    async def _count(self) -> QueueDepth | None:
        try:
            async with asyncio.timeout(COUNT_TIMEOUT_SECONDS):
                row = await self._pool.fetchrow(self._query)
        except DATABASE_ERRORS as error:
            reason = str(error) or f"the statement took more than {COUNT_TIMEOUT_SECONDS:g} seconds"
            logs.get_logger("jobfn.telemetry").warning("queue depth not counted", reason=reason)
            return None
        return None if row is None else QueueDepth(**row)
