"""How many jobs of which task the worker may take now. No I/O; the clock is handed in.

Two things bound a task. *Fairness*: one task never fills every slot, so that its slow jobs do not keep the others
waiting. *Backpressure*: a function that answers "busy" (429, 503) is asked less: its limit is halved and it is left
alone for a while; each job that goes well raises the limit by one until it is gone. Only that task slows down.

``plan`` says what to ask the store for; ``worker.py`` asks and reports back.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
#: While tasks have their shares and nothing else was found, others are looked for again after so long, or at news.
EMPTY_CLAIM_COOLDOWN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One claim to make.

    Attributes:
        limit: How many jobs at most, 1 or more.
        only: Of these tasks; None: of any but ``exclude_tasks``.
        exclude_tasks: Not of these.
    """

    limit: int
    only: tuple[str, ...] | None = None
    exclude_tasks: tuple[str, ...] = ()


@dataclass(slots=True)
class _Busy:
    """A task whose function said that it is busy.

    Attributes:
        limit: How many of its jobs may run at once.
        resumes_at: When it may be asked again, by the clock.
        pause_seconds: How long the last pause was.
    """

    limit: int
    resumes_at: float
    pause_seconds: float


class Throttle:
    """See the module.

    Args:
        concurrency: Slots in all.
        clock: Seconds, monotonic.
    """

    def __init__(self, concurrency: int, clock: Callable[[], float]) -> None:
        self._concurrency = concurrency
        #: One slot in eight is out of any single task's reach.
        self._share = concurrency - concurrency // 8
        self._clock = clock
        self._running: Counter[str] = Counter()
        self._busy: dict[str, _Busy] = {}
        self._no_others_until = clock()

    @property
    def running(self) -> int:
        """Jobs under way, of all tasks."""
        return self._running.total()

    def started(self, task: str) -> None:
        """A job of this task took a slot."""
        self._running[task] += 1

    def ended(self, task: str) -> None:
        """It left its slot."""
        self._running[task] -= 1
        if not self._running[task]:
            del self._running[task]

    def on_busy(self, task: str, retry_after_seconds: float | None) -> float:
        """The task's function refused a job, and may have said when to come back.

        Returns:
            For how many seconds the task is left alone.
        """
        now = self._clock()
        busy = self._busy.get(task)
        if busy is None:
            busy = self._busy[task] = _Busy(self._running[task] or 1, now, FIRST_PAUSE_SECONDS / 2)
        if now >= busy.resumes_at:  # jobs sent together are refused together: that is one refusal
            busy.limit = max(1, min(busy.limit, self._running[task]) // 2)
            busy.pause_seconds = min(busy.pause_seconds * 2, LONGEST_PAUSE_SECONDS)
        pause = max(busy.pause_seconds, retry_after_seconds or 0.0)
        busy.resumes_at = max(busy.resumes_at, now + pause)
        return busy.resumes_at - now

    def on_success(self, task: str) -> None:
        """A job of this task was taken and answered."""
        busy = self._busy.get(task)
        if busy is not None:
            busy.limit += 1
            busy.pause_seconds = FIRST_PAUSE_SECONDS / 2
            if busy.limit >= self._share:
                del self._busy[task]

    def has_capacity(self, task: str) -> bool:
        """Whether a job of this task may take a slot now."""
        return self.running < self._concurrency and self._running[task] < self._share

    def plan(self, *, ahead: int = 0) -> list[Ask]:
        """The claims that fill the free slots: one for all tasks in good order, one for each that is busy.

        Args:
            ahead: So many more jobs are wanted than there are slots.
        """
        now = self._clock()
        free = self._concurrency - self.running
        busy = tuple(sorted(self._busy))
        full = tuple(sorted(task for task in self._full if task not in self._busy))
        most = max((count for task, count in self._running.items() if task not in {*full, *busy}), default=0)
        # were they all of one task, it would still be within its share
        limit = min(free, self._share - most)
        asks: list[Ask] = []
        if full and limit > 0 and now >= self._no_others_until:
            asks.append(Ask(limit, exclude_tasks=tuple(sorted({*full, *busy}))))
        if full:
            limit = 0
        if limit + ahead > 0:
            asks.append(Ask(limit + ahead, exclude_tasks=busy))
        for task, state in self._busy.items():
            room = min(state.limit - self._running[task], free)
            if room > 0 and now >= state.resumes_at:
                asks.append(Ask(room, only=(task,)))
        return asks

    @property
    def _full(self) -> list[str]:
        """The tasks that have their share."""
        return [task for task, count in self._running.items() if count >= self._share]

    def on_empty_claim(self) -> None:
        """Beside the tasks that have their share, nothing is ready: not to be asked at every job that ends."""
        self._no_others_until = self._clock() + EMPTY_CLAIM_COOLDOWN_SECONDS

    def on_notification(self) -> None:
        """Jobs were added, perhaps of other tasks."""
        self._no_others_until = self._clock()

    def seconds_to_resume(self) -> float | None:
        """Until the next pause is over; None where no task is paused."""
        now = self._clock()
        pauses = [busy.resumes_at - now for busy in self._busy.values()]
        if self._full:
            pauses.append(self._no_others_until - now)
        return min((pause for pause in pauses if pause > 0), default=None)
