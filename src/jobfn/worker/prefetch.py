"""Decide how many jobs to claim beyond the free slots.

Quick jobs are claimed in large batches, so that no slot waits for the database. Slow jobs are not prefetched: another
worker could run them sooner. Pure; the clock is passed in.
"""

from collections.abc import Callable

#: Jobs expected to finish within this window are prefetched.
PREFETCH_WINDOW_SECONDS = 0.1
#: Interval over which the completion rate is measured.
RATE_INTERVAL_SECONDS = 0.1
#: Maximum number of prefetched jobs; larger claims gain nothing.
MAX_PREFETCH = 500
#: Prefetched jobs are released if no job finishes for this time.
PREFETCH_TTL_SECONDS = 1.0


class Prefetch:
    """Size of the prefetch buffer, from the rate at which jobs finish."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._interval_started_at = self._last_finished_at = clock()
        self._finished_jobs = 0
        self._jobs_per_second = 0.0

    def on_job_finished(self) -> None:
        """Record that a job left its slot."""
        self._finished_jobs += 1
        self._last_finished_at = self._clock()

    def size(self) -> int:
        """Return how many jobs to keep claimed beyond the running ones."""
        now = self._clock()
        seconds = now - self._interval_started_at
        if seconds >= RATE_INTERVAL_SECONDS:
            self._jobs_per_second = self._finished_jobs / seconds
            self._interval_started_at, self._finished_jobs = now, 0
        return min(int(self._jobs_per_second * PREFETCH_WINDOW_SECONDS), MAX_PREFETCH)

    @property
    def is_expired(self) -> bool:
        """Whether no job has finished within ``PREFETCH_TTL_SECONDS``."""
        return self._clock() - self._last_finished_at > PREFETCH_TTL_SECONDS
