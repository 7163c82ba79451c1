"""Decide how many jobs of which task the worker claims. No I/O; the clock is passed in.

Two limits apply to a task. *Fairness*: while there are several tasks, none of them fills every slot, so that its slow
jobs do not block the others. A task that has been alone for ``OTHER_TASKS_SECONDS`` may fill all; if it is slow, jobs
of other tasks are claimed first.
*Backpressure*: if a function responds "busy" (429, 503), its task is paused and its limit is halved. Each success
raises the limit by one, until it is lifted. Other tasks are not affected.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

MIN_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 30.0
#: Maximum number of busy tasks to remember. Each of them costs a claim, and enqueuers choose the names of tasks.
MAX_BUSY_TASKS = 100
#: Interval between claims for other tasks while some task is at its limit and the last such claim was empty.
EMPTY_CLAIM_COOLDOWN_SECONDS = 1.0
#: Time for which slots stay reserved for other tasks after a job of such a task started.
OTHER_TASKS_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """A claim to make, of all tasks that the worker supports by default."""

    limit: int
    tasks: tuple[str, ...] | None = None
    exclude_tasks: tuple[str, ...] = ()


@dataclass(slots=True)
class BusyTask:
    """A task whose function responded "busy": the limit of its running jobs, and its pause."""

    limit: int
    resumes_at: float
    pause_seconds: float


class Throttle:
    """Limits per task, from what runs and what functions respond.

    Attributes:
        running: Number of occupied slots.
        has_backlog: Whether jobs may be ready for which there was no slot.
    """

    def __init__(self, concurrency: int, clock: Callable[[], float]) -> None:
        self._concurrency = concurrency
        self._reserved = concurrency // 8
        self._task_limit = concurrency
        self._latest_task: str | None = None
        self._alone_since = -math.inf  # when the latest task started after another one
        self._clock = clock
        self.running = 0
        self.has_backlog = True
        self._running: Counter[str] = Counter()
        self._busy: dict[str, BusyTask] = {}
        self._cooldown_ends_at = clock()
        self._planned_at = self._next_probe_at = clock()

    @property
    def free(self) -> int:
        """Number of free slots."""
        return self._concurrency - self.running

    def on_started(self, task: str) -> None:
        """Record that a job of this task occupies a slot."""
        self.running += 1
        self._running[task] += 1
        if task != self._latest_task:
            if self._latest_task is not None:
                self._alone_since = self._clock()
                self._update_task_limit()
            self._latest_task = task

    def on_finished(self, task: str) -> None:
        """Record that a job of this task left its slot."""
        self.running -= 1
        self._running[task] -= 1
        if not self._running[task]:
            del self._running[task]

    def on_busy(self, task: str, retry_after_seconds: float | None) -> float:
        """Record that the task's function responded "busy". Return the length of the task's pause, in seconds."""
        now = self._clock()
        busy = self._busy.get(task)
        if busy is None:
            if len(self._busy) >= MAX_BUSY_TASKS:
                del self._busy[min(self._busy, key=lambda other: self._busy[other].resumes_at)]
            busy = self._busy[task] = BusyTask(self._running[task] or 1, now, MIN_PAUSE_SECONDS / 2)
        if now >= busy.resumes_at:  # jobs that were sent together and are refused together count once
            busy.limit = max(1, min(busy.limit, self._running[task]) // 2)
            busy.pause_seconds = min(busy.pause_seconds * 2, MAX_PAUSE_SECONDS)
        pause = max(busy.pause_seconds, retry_after_seconds or 0.0)
        busy.resumes_at = max(busy.resumes_at, now + pause)
        return busy.resumes_at - now

    def on_success(self, task: str) -> None:
        """Record that the task's function accepted a job."""
        busy = self._busy.get(task)
        if busy is not None:
            busy.limit += 1
            busy.pause_seconds = MIN_PAUSE_SECONDS / 2
            if busy.limit >= self._task_limit:
                del self._busy[task]

    def on_empty_claim(self) -> bool:
        """Record that no job of other tasks is ready. Return whether the task at its limit may fill all slots then."""
        self._cooldown_ends_at = self._clock() + EMPTY_CLAIM_COOLDOWN_SECONDS
        return self._is_alone

    def on_notification(self) -> None:
        """Record that jobs were added, perhaps of other tasks."""
        self._cooldown_ends_at = self._clock()

    def has_capacity(self, task: str) -> bool:
        """Return whether a job of this task may start now."""
        return self.running < self._concurrency and self._running.get(task, 0) < self._task_limit

    def plan(self, *, prefetch: int = 0, slow: Callable[[Collection[str]], list[str]] = list) -> list[ClaimRequest]:
        """Return the claims that fill the free slots: one for all tasks that are not busy, and one for each busy task.

        Args:
            prefetch: Number of jobs to claim beyond the free slots.
            slow: Returns which of these tasks are slow, and not prefetched.
        """
        now = self._planned_at = self._clock()
        self._update_task_limit()
        # A slow task that is alone fills all slots only if no job of another task is ready.
        is_probe = self._is_alone and now >= self._next_probe_at
        if is_probe and self._latest_task is not None:
            is_probe = bool(slow([self._latest_task]))
        task_limit = self._concurrency - self._reserved if is_probe else self._task_limit
        free = self.free
        full = frozenset(
            task for task, count in self._running.items() if count >= task_limit and task not in self._busy
        )
        largest = max(
            (count for task, count in self._running.items() if task not in full and task not in self._busy), default=0
        )
        # Even if all claimed jobs are of one task, it stays within its limit.
        limit = min(free, task_limit - largest)
        limits: dict[frozenset[str], int] = {}  # by the tasks that a claim excludes
        if limit > 0 and (not full or is_probe or now >= self._cooldown_ends_at):
            limits[full.union(self._busy)] = limit
            if full and is_probe:
                self._next_probe_at = now + EMPTY_CLAIM_COOLDOWN_SECONDS
        if prefetch > 0:
            excluded = frozenset(slow(self._running.keys())).union(self._busy)
            limits[excluded] = limits.get(excluded, 0) + prefetch
        requests = [ClaimRequest(limit, exclude_tasks=tuple(sorted(tasks))) for tasks, limit in limits.items()]
        for task, state in self._busy.items():
            capacity = min(state.limit - self._running[task], free)
            if capacity > 0 and now >= state.resumes_at:
                requests.append(ClaimRequest(capacity, tasks=(task,)))
        return requests

    def seconds_to_resume(self) -> float | None:
        """Return the time until the next pause or cooldown ends; None if the last plan left nothing out.

        One that has ended since that plan gives 0: no claim has asked for its jobs yet.
        """
        ends = [busy.resumes_at for busy in self._busy.values()]
        if self._full_tasks:
            ends.append(self._cooldown_ends_at)
        next_end = min((end for end in ends if end > self._planned_at), default=None)
        return None if next_end is None else max(next_end - self._clock(), 0.0)

    def _update_task_limit(self) -> None:
        """Reserve one slot in eight for other tasks, unless there is only one task."""
        self._task_limit = self._concurrency - (0 if self._is_alone else self._reserved)

    @property
    def _is_alone(self) -> bool:
        """Whether only one task has started jobs for a while."""
        return self._clock() - self._alone_since > OTHER_TASKS_SECONDS

    @property
    def _full_tasks(self) -> list[str]:
        """Tasks at their limit."""
        return [task for task, count in self._running.items() if count >= self._task_limit]
