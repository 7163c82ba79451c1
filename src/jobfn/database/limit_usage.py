"""Count what the limits of a schema use, for metrics. The counts are cached, as those of ``queue_depth.py`` are."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import asyncpg

from jobfn.database.cache import AsyncTTLCache
from jobfn.database.connection import DATABASE_ERRORS
from jobfn.database.queue_depth import CACHE_TTL_SECONDS, COUNT_TIMEOUT_SECONDS
from jobfn.database.statements import query
from jobfn.telemetry import logs


class LimitUsage(NamedTuple):
    """The jobs and keys that a limit counts, of all keys together.

    Attributes:
        name: The limit.
        slots: Maximum number of running jobs of each key; None: any number.
        running: Running jobs that have slots.
        held: Jobs that are due, and that the limit holds back.
        paused_keys: Keys that are paused.
    """

    name: str
    slots: int | None
    running: int
    held: int
    paused_keys: int


class LimitUsageReader:
    """Reads the usage of limits, at most once per TTL.

    Args:
        pool: Connections.
        schema: The jobs schema, which must be jobfn's.
        clock: Monotonic time in seconds.
    """

    def __init__(self, pool: asyncpg.Pool, schema: str, *, clock: Callable[[], float]) -> None:
        self._pool = pool
        self._query = query("limit_usage", schema)
        self._cache: AsyncTTLCache[list[LimitUsage]] = AsyncTTLCache(self._count, clock)

    async def read(self) -> list[LimitUsage]:
        """Return the limits in the order of their names; none if they could not be counted, which is cached too."""
        return await self._cache.get(max_age_seconds=CACHE_TTL_SECONDS)

    async def _count(self) -> list[LimitUsage]:
        try:
            async with asyncio.timeout(COUNT_TIMEOUT_SECONDS):
                return [LimitUsage(**row) for row in await self._pool.fetch(self._query)]
        except DATABASE_ERRORS as error:
            reason = str(error) or f"the statement took more than {COUNT_TIMEOUT_SECONDS:g} seconds"
            logs.get_logger("jobfn.telemetry").warning("limits not counted", reason=reason)
            return []
