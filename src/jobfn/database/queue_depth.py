"""How deep the queue is, for metrics: counted in one statement, and not again for a while (``remembered.py``).

The statement reads the whole table, which takes the longer the more jobs there are.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from jobfn.cache import AsyncTTLCache
from jobfn.database.connection import CONNECTION_LOST
from jobfn.database.statements import query
from jobfn.telemetry import logs

#: For so long, at least, is a count good.
FRESH_SECONDS: Final = 5.0
#: A count that takes longer is given up.
LONGEST_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Depth:
    """What a schema's jobs are doing.

    Attributes:
        ready: Due and not held.
        delayed: Not due yet.
        running: Held.
        failed: Out of attempts.
        oldest_ready_seconds: For how long the oldest ready one has been due; 0 where there is none.
    """

    ready: int
    delayed: int
    running: int
    failed: int
    oldest_ready_seconds: float


class DepthReader:
    """Counts, and remembers.

    Args:
        pool: Connections.
        schema: The jobs schema.
        is_platform: Whether it is the platform's own.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, pool: "asyncpg.Pool[Any]", schema: str, *, is_platform: bool, clock: Callable[[], float]
    ) -> None:
        self._pool = pool
        self._query = query("platform_queue_depth" if is_platform else "queue_depth", schema)
        self._depth: AsyncTTLCache[Depth | None] = AsyncTTLCache(self._count, clock)

    async def read(self) -> Depth | None:
        """The depth, at most ``FRESH_SECONDS`` old, or older where counting costs much; None: the database did not say.

        That it did not is remembered, too.
        """
        return await self._depth.get(max_age_seconds=FRESH_SECONDS)

    async def _count(self) -> Depth | None:
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                row = await self._pool.fetchrow(self._query)
        except (TimeoutError, asyncpg.PostgresError, *CONNECTION_LOST) as error:
            reason = str(error) or f"it took over {LONGEST_SECONDS:g} seconds"
            logs.get_logger("jobfn.telemetry").warning("the queue's depth was not counted", reason=reason)
            return None
        return None if row is None else Depth(**row)
