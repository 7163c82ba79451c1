"""Shared by the maintenance tasks: an interruptible sleep, and errors that are logged once and retried."""

import asyncio
from collections.abc import Awaitable, Callable

from jobfn.database.connection import DATABASE_ERRORS, FailureLog

#: Statement timeout, so that an unresponsive database cannot delay shutdown.
STATEMENT_TIMEOUT_SECONDS = 5.0


class FailureLogger:
    """Runs database calls, and logs their failures."""

    def __init__(self, event: str) -> None:
        self._failures = FailureLog(event)

    async def run(self, call: Callable[[], Awaitable[None]]) -> bool:
        """Run the call. Return whether it succeeded."""
        try:
            await call()
        except DATABASE_ERRORS as error:
            self._failures.record(error)
            return False
        self._failures.clear()
        return True


async def sleep_until(stop: asyncio.Event, seconds: float) -> None:
    """Sleep for this many seconds, or until ``stop`` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
