"""Share the slots of a service among the workers of several databases (``JOBS_DATABASES``). No I/O.

A database may use every slot while the others are idle. When several want more than there are, a slot that becomes
free goes to the database with the fewest, and among equals to the one that got its last slot first. Running jobs keep
their slots. The limits of tasks hold for all databases together, because they share the functions.

A database that reads that no slot is free waits for one. A slot that becomes free is held for the first of them until
it starts a job, or a claim finds none, or ``HOLD_SECONDS`` have passed: one that does not respond cannot keep slots.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection
from typing import Final

from jobfn.worker.in_flight_states import Timer
from jobfn.worker.throttle import BusyTask, ClaimRequest, Throttle

#: Time for which a slot is held for a database that has not claimed a job for it.
HOLD_SECONDS: Final = 0.1


class SlotPool:
    """The slots of a service.

    Args:
        size: Number of slots.
        call_soon: Calls a function in the next turn of the event loop.
        call_later: Calls a function after this number of seconds, unless its timer is cancelled.
    """

    def __init__(
        self,
        size: int,
        *,
        call_soon: Callable[[Callable[[], None]], object],
        call_later: Callable[[float, Callable[[], None]], Timer],
    ) -> None:
        self.size = size
        self.call_later = call_later
        self._call_soon = call_soon
        self.running = 0
        self.held = 0
        self.running_by_task: Counter[str] = Counter()
        self.busy: dict[str, BusyTask] = {}
        self.turns = itertools.count()
        #: Databases that found no free slot, and those that found a task at its limit.
        self._waiting: dict[SharedThrottle, None] = {}
        self._limited: dict[SharedThrottle, None] = {}
        self.latest_task: str | None = None
        self.alone_since = -math.inf

    def throttle(self, clock: Callable[[], float], use_slot: Callable[[], bool]) -> "SharedThrottle":
        """Return the throttle of another worker.

        Args:
            clock: Monotonic time in seconds.
            use_slot: Called when a slot is free. Returns whether a claim looks for its job.
        """
        return SharedThrottle(self, clock, use_slot)

    def wait(self, throttle: "SharedThrottle", *, for_task: bool = False) -> None:
        """Offer a slot to this database when one is free, or when a task may start again."""
        (self._limited if for_task else self._waiting)[throttle] = None

    def on_freed(self) -> None:
        """Offer a slot that became free."""
        self.running -= 1
        if self._limited:
            self._waiting |= self._limited
            self._limited.clear()
        self.distribute()

    def distribute(self) -> None:
        """Hold a free slot for each waiting database, the one with the fewest slots first."""
        while self._waiting and self.running + self.held < self.size:
            throttle = min(self._waiting, key=_rank)
            del self._waiting[throttle]
            throttle.hold(1)
            self._call_soon(throttle.use)


class SharedThrottle(Throttle):
    """The throttle of one of several databases. ``running`` counts its own jobs."""

    def __init__(self, pool: SlotPool, clock: Callable[[], float], use_slot: Callable[[], bool]) -> None:
        self._pool = pool
        self._use_slot = use_slot
        self._held = 0
        self._hold_timer: Timer | None = None
        self._turn = next(pool.turns)
        super().__init__(pool.size, clock)
        self._running, self._busy = pool.running_by_task, pool.busy

    # As the attributes of ``Throttle``, for all databases together.

    @property
    def _latest_task(self) -> str | None:
        return self._pool.latest_task

    @_latest_task.setter
    def _latest_task(self, task: str | None) -> None:
        self._pool.latest_task = task

    @property
    def _alone_since(self) -> float:
        return self._pool.alone_since

    @_alone_since.setter
    def _alone_since(self, at: float) -> None:
        self._pool.alone_since = at

    @property
    def rank(self) -> tuple[int, int]:
        """The lowest one gets the next slot."""
        return self.running + self._held, self._turn

    @property
    def free(self) -> int:
        """Number of slots that this database may use now."""
        pool = self._pool
        free = pool.size - pool.running - pool.held + self._held
        if free <= 0:
            pool.wait(self)
            return 0
        return free

    @property
    def has_backlog(self) -> bool:
        """See ``Throttle``. The end of a claim: slots that are held for it and not used are free again."""
        return self._has_backlog

    @has_backlog.setter
    def has_backlog(self, value: bool) -> None:
        self._has_backlog = value
        self._return_held()

    def has_capacity(self, task: str) -> bool:
        """See ``Throttle.has_capacity``."""
        self._update_task_limit()
        if self._running.get(task, 0) >= self._task_limit:
            self._pool.wait(self, for_task=True)
            return False
        return self.free > 0

    def on_started(self, task: str) -> None:
        """See ``Throttle.on_started``."""
        super().on_started(task)
        self._pool.running += 1
        self._turn = next(self._pool.turns)
        if self._held:
            self._held -= 1
            self._pool.held -= 1

    def on_finished(self, task: str) -> None:
        """See ``Throttle.on_finished``."""
        super().on_finished(task)
        self._pool.on_freed()

    def plan(self, *, prefetch: int = 0, slow: Callable[[Collection[str]], list[str]] = list) -> list[ClaimRequest]:
        """See ``Throttle.plan``. Slots are held for the claims."""
        requests = super().plan(prefetch=prefetch, slow=slow)
        self.hold(min(sum(request.limit for request in requests), self.free) - self._held)
        return requests

    def hold(self, slots: int) -> None:
        """Hold more slots."""
        if slots <= 0:
            return
        self._held += slots
        self._pool.held += slots
        if self._hold_timer is not None:
            self._hold_timer.cancel()
        self._hold_timer = self._pool.call_later(HOLD_SECONDS, self._return_held)

    def use(self) -> None:
        """Let the worker use a slot that is held for it."""
        if not self._use_slot():
            self._return_held()

    def _return_held(self) -> None:
        if self._hold_timer is not None:
            self._hold_timer.cancel()
            self._hold_timer = None
        if self._held:
            self._pool.held -= self._held
            self._held = 0
            self._pool.distribute()


def _rank(throttle: SharedThrottle) -> tuple[int, int]:
    return throttle.rank
