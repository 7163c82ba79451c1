"""Decide how many jobs share a request: only jobs of quick tasks, and only to functions that accept it.

No I/O; the clock is passed in.

A function says in each response that it accepts batches, and how long its handler took. A task's batch holds as many
jobs as are expected to run within ``PLANNED_SECONDS`` together.
"""

import math
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

from jobfn.wire import ACCEPT_BATCH, HANDLER_SECONDS
from jobfn.wire.delivery_batch import MAX_BATCH_JOBS, PLANNED_SECONDS

#: Weight of the latest duration if it is shorter than the estimate. A longer one replaces the estimate.
_WEIGHT = 0.1
#: Duration of a batch that is worth an idle slot, because a request costs as much as several quick jobs.
IDLE_SECONDS = 0.002
#: Time for which a function that refused a batch gets none, whatever it announces: a proxy may not route the path.
REFUSAL_SECONDS = 60.0
#: Maximum number of tasks and of origins to remember. Enqueuers choose the names of tasks.
MAX_ENTRIES = 1000
_MAX_DIGITS = 9

Value = TypeVar("Value")


class BatchSizes:
    """How many jobs of each task run within ``PLANNED_SECONDS``, from the durations of its handler."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def record(self, task: str, seconds: float) -> None:
        """Record how long a handler took. The estimate follows slow jobs at once and quick ones slowly.

        Args:
            task: The task.
            seconds: A finite number of seconds.
        """
        estimate = self._seconds.get(task)
        if estimate is not None and seconds < estimate:
            seconds = estimate + (seconds - estimate) * _WEIGHT
        remember(self._seconds, task, seconds)

    def size(self, task: str, share: int) -> int:
        """Return how many jobs a batch may have, from 1 to ``MAX_BATCH_JOBS``; 1 for an unknown task.

        Args:
            task: The task.
            share: Number of waiting jobs for each free slot: larger batches would leave slots idle. They are worth it
                while they take less than ``IDLE_SECONDS``.
        """
        seconds = self._seconds.get(task)
        if seconds is None:
            return 1
        largest, worthwhile = (int(limit / max(seconds, 1e-6)) for limit in (PLANNED_SECONDS, IDLE_SECONDS))
        return max(1, min(MAX_BATCH_JOBS, largest, max(share, worthwhile)))


class Batching:
    """The size of batches by task and function."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sizes = BatchSizes()
        self._accepted: dict[str, int] = {}
        self._refused_at: dict[str, float] = {}

    def record_response(self, url: str, task: str, headers: Mapping[str, str]) -> None:
        """Record the response to a single job: whether its function accepts batches, and the handler's duration."""
        accepted = headers.get(ACCEPT_BATCH, "")
        if not accepted:
            self._accepted.pop(_origin(url), None)
            return
        if accepted.isascii() and accepted.isdecimal() and len(accepted) <= _MAX_DIGITS:
            remember(self._accepted, _origin(url), int(accepted))
        try:
            seconds = float(headers.get(HANDLER_SECONDS, ""))
        except ValueError:
            return
        if math.isfinite(seconds):
            self._sizes.record(task, seconds)

    def record_duration(self, task: str, seconds: float) -> None:
        """Record how long a handler took in a batch."""
        self._sizes.record(task, seconds)

    def refuse(self, url: str) -> None:
        """Record that a function did not accept a batch."""
        remember(self._refused_at, _origin(url), self._clock())

    def size(self, url: str, task: str, share: int) -> int:
        """Return how many jobs of a task one request to this URL may have, 1 or more. See ``BatchSizes.size``."""
        origin = _origin(url)
        refused_at = self._refused_at.get(origin)
        if refused_at is not None and self._clock() - refused_at < REFUSAL_SECONDS:
            return 1
        return max(1, min(self._accepted.get(origin, 1), self._sizes.size(task, share)))


def _origin(url: str) -> str:
    return urlsplit(url).netloc


def remember(entries: dict[str, Value], key: str, value: Value) -> None:
    """Set an entry, and forget the oldest one if there would be more than ``MAX_ENTRIES``."""
    if key not in entries and len(entries) >= MAX_ENTRIES:
        del entries[next(iter(entries))]
    entries[key] = value
