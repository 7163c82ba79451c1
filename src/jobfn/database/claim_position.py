"""Where a worker's next claim starts in the order of the jobs, so that it does not read past those that it has claimed.

Their index entries stay until the jobs are settled and vacuumed, and a long transaction holds vacuum back. A claim that
starts after the last claimed job misses jobs that come before it: more urgent ones, released ones, and those of
transactions that commit late. So it starts at the beginning now and then. No I/O; the clock is passed in.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

import asyncpg

#: Minimum and maximum interval between claims that start at the beginning, and their share of the time. They are slow
#: only if there are very many dead rows.
MIN_INTERVAL_SECONDS = 0.05
MAX_INTERVAL_SECONDS = 2.0
TIME_SHARE = 0.1


class Position(NamedTuple):
    """A job's place in the order of claims."""

    priority: int | None = None
    run_at: datetime | None = None
    job_id: int | None = None


BEGINNING = Position()


class ClaimPosition:
    """The start of the next claim, for one set of tasks."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._position = BEGINNING
        self._restart_at = 0.0

    def next_start(self) -> Position:
        """Return the job after which the next claim starts, or ``BEGINNING``."""
        return BEGINNING if self._clock() >= self._restart_at else self._position

    def record(self, start: Position, rows: Sequence[asyncpg.Record], *, limit: int, seconds: float) -> None:
        """Record a claim.

        Args:
            start: Where it started.
            rows: What it claimed, in order.
            limit: Its maximum number of jobs.
            seconds: Its duration.
        """
        if start is BEGINNING:
            interval = min(max(seconds / TIME_SHARE, MIN_INTERVAL_SECONDS), MAX_INTERVAL_SECONDS)
            self._restart_at = self._clock() + interval
        last = next((row for row in reversed(rows) if row["queue_name"] is None), None)
        if len(rows) < limit or last is None:
            self._position = BEGINNING
        else:
            self._position = Position(last["priority"], last["run_at"], last["id"])
