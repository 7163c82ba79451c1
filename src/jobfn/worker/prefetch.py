"""How many jobs to take ahead of the free slots: as many as will run in a moment, at the pace of the last moment.

Quick jobs are taken in large claims, so that no slot waits for the database. Slow jobs are not taken ahead at all:
another worker might run them sooner. Pure; the clock is handed in.
"""

from collections.abc import Callable

#: What is taken ahead would run within so long.
PREFETCH_WINDOW_SECONDS = 0.05
#: The pace is that of the last so many seconds.
WINDOW_SECONDS = 0.1
#: More than this many jobs in one claim gain nothing.
MOST = 500
#: Jobs that were taken ahead and are not begun after so long go back.
PREFETCH_TTL_SECONDS = 1.0


class Pace:
    """See the module.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = clock()
        self._ended = 0
        self._per_second = 0.0
        self._last_end = self._since

    def ended(self) -> None:
        """A job left its slot."""
        self._ended += 1
        self._last_end = self._clock()

    def ahead(self) -> int:
        """How many jobs to have ready beside those that run."""
        now = self._clock()
        seconds = now - self._since
        if seconds >= WINDOW_SECONDS:
            self._per_second = self._ended / seconds
            self._since, self._ended = now, 0
        return min(int(self._per_second * PREFETCH_WINDOW_SECONDS), MOST)

    @property
    def is_stale(self) -> bool:
        """Whether nothing has ended for so long that what was taken ahead had better be left to others."""
        return self._clock() - self._last_end > PREFETCH_TTL_SECONDS
