"""Decide how many jobs to claim beyond the free slots, and of which tasks.

Quick jobs are claimed in large batches, so that no slot waits for the database. Slow jobs are not prefetched: another
worker could run them sooner, and they would fill the buffer that quick jobs need. Pure; the clock is passed in.
"""

import math
from collections.abc import Callable, Collection

#: Jobs expected to finish within this window are prefetched.
PREFETCH_WINDOW_SECONDS = 0.1
#: Interval over which the completion rate is measured.
RATE_INTERVAL_SECONDS = 0.1
#: Maximum number of prefetched jobs; larger claims gain nothing.
MAX_PREFETCH = 500
#: Maximum number beside a tenant that has most of the jobs: those of other tenants wait for the end of a claim.
MAX_FAIR_PREFETCH = 128
#: Time for which that holds.
FAIR_SECONDS = 600.0
#: Prefetched jobs are released if their task has not been quick for this time.
PREFETCH_TTL_SECONDS = 1.0
#: A task is quick if its slots are free again within this time, and one was within the last such time.
QUICK_SECONDS = 1.0
#: Weight of the latest duration in a task's estimate.
_WEIGHT = 0.1
#: Maximum number of tasks to remember.
MAX_TASKS = 1000


class Prefetch:
    """Size of the prefetch buffer, from the rate at which the jobs of quick tasks finish."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._interval_started_at = clock()
        self._finished_jobs = 0
        self._jobs_per_second = 0.0
        self._fair_until = -math.inf
        self._tasks: dict[str, tuple[float, float]] = {}  # how long a slot is occupied, and when one was last freed
        self._slow_since: dict[str, float] = {}

    def on_slot_freed(self, task: str, seconds: float, jobs: int) -> None:
        """Record that a slot is free again.

        Args:
            task: The task of its jobs.
            seconds: How long they occupied it.
            jobs: Number of jobs that finished.
        """
        estimate, _ = self._tasks.pop(task, (seconds, 0.0))
        estimate += (seconds - estimate) * _WEIGHT
        if len(self._tasks) >= MAX_TASKS:
            del self._tasks[next(iter(self._tasks))]
        self._tasks[task] = estimate, self._clock()
        if estimate <= QUICK_SECONDS:
            self._finished_jobs += jobs

    def on_unequal_tenants(self) -> None:
        """Record that most of the prefetched jobs are of one tenant, and some of others."""
        self._fair_until = self._clock() + FAIR_SECONDS

    def size(self) -> int:
        """Return how many jobs of quick tasks to keep claimed beyond the running ones."""
        now = self._clock()
        seconds = now - self._interval_started_at
        if seconds >= RATE_INTERVAL_SECONDS:
            self._jobs_per_second = self._finished_jobs / seconds
            self._interval_started_at, self._finished_jobs = now, 0
        most = MAX_FAIR_PREFETCH if now < self._fair_until else MAX_PREFETCH
        return min(int(self._jobs_per_second * PREFETCH_WINDOW_SECONDS), most)

    def slow(self, tasks: Collection[str]) -> list[str]:
        """Return those of these tasks whose jobs are slow, or have not finished lately."""
        oldest = self._clock() - QUICK_SECONDS
        never = (QUICK_SECONDS, oldest - 1)
        return [
            task for task in tasks if (entry := self._tasks.get(task, never))[0] > QUICK_SECONDS or entry[1] < oldest
        ]

    def expired(self, prefetched_tasks: Collection[str]) -> list[str]:
        """Return the tasks whose prefetched jobs should be released. Call it again within ``PREFETCH_TTL_SECONDS``."""
        now = self._clock()
        self._slow_since = {task: self._slow_since.get(task, now) for task in self.slow(prefetched_tasks)}
        return [task for task, since in self._slow_since.items() if now - since >= PREFETCH_TTL_SECONDS]
