"""A clock that tests set by hand."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(eq=False)
class ManualTimer:
    """A callback at a time."""

    due_at: float
    callback: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        """Prevent the callback."""
        self.is_cancelled = True


class ManualClock:
    """Monotonic clock in seconds, with timers.

    Attributes:
        seconds: The current time.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self._timers: list[ManualTimer] = []

    def __call__(self) -> float:
        return self.seconds

    def call_later(self, delay: float, callback: Callable[[], None]) -> ManualTimer:
        """Call back when the clock has moved forward by this delay, as ``loop.call_later`` does."""
        timer = ManualTimer(self.seconds + delay, callback)
        self._timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        """Move the clock forward, and run the timers that are due."""
        self.seconds += seconds
        due = [timer for timer in self._timers if timer.due_at <= self.seconds]
        self._timers = [timer for timer in self._timers if timer.due_at > self.seconds]
        for timer in due:
            if not timer.is_cancelled:
                timer.callback()
