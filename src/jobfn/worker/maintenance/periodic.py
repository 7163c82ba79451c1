"""Shared by the maintenance tasks: an interruptible sleep, and errors that are logged once and retried."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg

from jobfn.database.connection import DATABASE_ERRORS, error_text
from jobfn.telemetry import logs

#: Statement timeout, so that an unresponsive database cannot delay shutdown.
STATEMENT_TIMEOUT_SECONDS = 5.0


class FailureLogger:
    """Runs database calls, and logs the first of consecutive failures."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._has_failed = False

    async def run(self, call: Callable[[], Awaitable[None]]) -> bool:
        """Run the call. Return whether it succeeded."""
        try:
            await call()
        except DATABASE_ERRORS as error:
            if not self._has_failed:
                is_outdated = isinstance(error, asyncpg.UndefinedFunctionError | asyncpg.InsufficientPrivilegeError)
                advice = "run `jobfn db migrate`, and grant this role its privileges again (--grant-worker)"
                logs.get_logger("jobfn.service").warning(
                    self._event, reason=error_text(error), advice=advice if is_outdated else "retried automatically"
                )
            self._has_failed = True
        else:
            self._has_failed = False
        return not self._has_failed


async def sleep_until(stop: asyncio.Event, seconds: float) -> None:
    """Sleep for this many seconds, or until ``stop`` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
