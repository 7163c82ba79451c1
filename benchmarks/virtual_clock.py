"""An event loop on a virtual clock: a sleep takes no time, and the clock moves to the next timer."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _InstantSelector(selectors.SelectSelector):
    """Moves the clock by the timeout instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def select(self, timeout: float | None = None) -> Any:
        """See ``selectors.BaseSelector.select``."""
        if timeout is None:
            raise RuntimeError("nothing is scheduled: the simulation waits for an event that nothing sets")
        self.seconds += max(timeout, 0.0)
        return []  # there are no sockets


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose ``time`` starts at 0 and does not pass while code runs."""

    def __init__(self) -> None:
        self._instant = _InstantSelector()
        super().__init__(self._instant)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._instant.seconds


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a virtual clock. What still runs at its end is cancelled, also what starts then."""
    loop = VirtualClockLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        while tasks := asyncio.all_tasks(loop):
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
        loop.close()
