"""An answer that is not asked for more often than it is worth.

What keeps live pages and scrapes, whoever makes them and however often, from loading the database.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

#: After a look that took so long, the next one is this many times as far off: 5 % of one connection's time.
REST = 19


class AsyncTTLCache(Generic[T]):
    """Asks, and gives the same answer again for a while. Whoever comes while somebody asks waits for that answer.

    Args:
        ask: Gets a new answer.
        clock: Monotonic seconds.
    """

    def __init__(self, ask: Callable[[], Awaitable[T]], clock: Callable[[], float]) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = asyncio.Lock()
        self._answer: tuple[T, float] | None = None
        self._good_until = 0.0

    async def get(self, *, max_age_seconds: float) -> T:
        """The answer.

        Args:
            max_age_seconds: Not older than this, unless the last look cost so much that it is to serve longer.

        Raises:
            Exception: What ``ask`` raised; nothing is remembered then.
        """
        wanted_at = self._clock()
        async with self._lock:
            if self._answer is not None:
                answer, asked_at = self._answer
                # also where it was asked for while this one waited
                if wanted_at - asked_at < max_age_seconds or asked_at >= wanted_at or wanted_at < self._good_until:
                    return answer
            began = self._clock()
            answer = await self._ask()
            ended = self._clock()
            self._answer = answer, began
            self._good_until = ended + REST * (ended - began)
            return answer
