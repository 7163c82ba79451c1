"""Cache for expensive database reads, so that live pages and scrapes cannot overload the database."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

#: After a load, the value is kept for at least this many times the load's duration: at most 5 % of one connection.
COOLDOWN_FACTOR = 19


class AsyncTTLCache(Generic[T]):
    """One cached value. Concurrent callers share one load.

    Args:
        load: Loads a new value.
        clock: Monotonic time in seconds.
    """

    def __init__(self, load: Callable[[], Awaitable[T]], clock: Callable[[], float]) -> None:
        self._load = load
        self._clock = clock
        self._lock = asyncio.Lock()
        self._entry: tuple[T, float] | None = None  # value, and when its load began
        self._cooldown_ends_at = 0.0

    async def get(self, *, max_age_seconds: float) -> T:
        """Return the cached value, or load it.

        Args:
            max_age_seconds: Maximum age of the value. A value may be older during the cooldown after a slow load.

        Raises:
            Exception: ``load`` failed; nothing is cached.
        """
        requested_at = self._clock()
        async with self._lock:
            if self._entry is not None:
                value, loaded_at = self._entry
                # a load that began while this caller waited for the lock is fresh enough for any age
                is_fresh = requested_at - loaded_at < max_age_seconds or loaded_at >= requested_at
                if is_fresh or requested_at < self._cooldown_ends_at:
                    return value
            started_at = self._clock()
            value = await self._load()
            ended_at = self._clock()
            self._entry = value, started_at
            self._cooldown_ends_at = ended_at + COOLDOWN_FACTOR * (ended_at - started_at)
            return value
