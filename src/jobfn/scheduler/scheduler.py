"""Poll the schedules, sleep until the next due time, and repeat.

A notification that schedules have changed (``NOTIFY "scheduled_jobs:insert"``) ends the sleep early. All state that
must survive is in the database, so the process can be killed at any point.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from jobfn.database.connection import DATABASE_ERRORS, retry
from jobfn.database.due_schedules import DueSchedules, is_native_schema
from jobfn.database.platform_due_schedules import PlatformDueSchedules
from jobfn.scheduler.platform_poller import PlatformSchedulePoller
from jobfn.scheduler.poller import NativeSchedulePoller, SchedulePoller
from jobfn.telemetry import logs

CHANNEL = "scheduled_jobs:insert"

#: Timeout for cancelling the running poll, and for releasing the schedules.
SHUTDOWN_TIMEOUT_SECONDS = 5.0


async def open_poller(
    pool: "asyncpg.Pool[Any]",
    schema: str,
    *,
    scheduler_id: str,
    tasks: Sequence[str] | None = None,
    takeover_seconds: float = 60.0,
    clock: Callable[[], datetime] | None = None,
) -> SchedulePoller:
    """Return the poller for the schema of this database: jobfn's own, or the platform's.

    Args:
        pool: Connections; one at a time is used.
        schema: The jobs schema.
        scheduler_id: Identifies this scheduler, at least 4 characters.
        tasks: Only schedules of these tasks. Default None: all.
        takeover_seconds: How long after its due time a schedule is left to the scheduler that holds it.
        clock: Returns the current time. Default None: the database's clock, which all schedulers and workers share.

    Raises:
        SchemaError: The schema has no schedules, or is a schema of jobfn's that is out of date.
    """
    takeover_delay = timedelta(seconds=takeover_seconds)
    if await is_native_schema(pool, schema):
        native = DueSchedules(pool, schema, tasks=tasks, takeover_delay=takeover_delay, clock=clock)
        return NativeSchedulePoller(native, takeover_delay=takeover_delay, scheduler_id=scheduler_id)
    platform = PlatformDueSchedules(pool, schema, scheduler_id=scheduler_id, tasks=tasks, clock=clock)
    return PlatformSchedulePoller(platform, takeover_delay=takeover_delay, scheduler_id=scheduler_id)


class Scheduler:
    """The scheduler's main loop. Use each instance for one ``run``.

    Args:
        poller: The schedules.
        wake_event: Ends the sleep early; set by a ``Listener`` on ``CHANNEL`` when schedules change.
        poll_interval_seconds: Maximum time between polls, in case a notification is lost.
    """

    def __init__(self, poller: SchedulePoller, *, wake_event: asyncio.Event, poll_interval_seconds: float) -> None:
        self._poller = poller
        self._wake_event = wake_event
        self._poll_interval_seconds = poll_interval_seconds
        self._log = logs.get_logger("jobfn.scheduler")

    async def run(self, stop: asyncio.Event) -> None:
        """Enqueue jobs as they become due until ``stop`` is set."""
        polling = asyncio.create_task(self._poll_forever())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({polling, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            # cancelling during a poll rolls its transaction back: another scheduler, or the next start, repeats it
            polling.cancel()
            await asyncio.wait({polling}, timeout=SHUTDOWN_TIMEOUT_SECONDS)
            with contextlib.suppress(TimeoutError, *DATABASE_ERRORS):
                async with asyncio.timeout(SHUTDOWN_TIMEOUT_SECONDS):
                    await self._poller.stop()
        if polling.done() and not polling.cancelled():
            polling.result()  # an unexpected error ends the process instead of leaving it idle
        self._log.info("scheduler stopped")

    async def _poll_forever(self) -> None:
        await retry(self._poller.start, event="scheduler not started", only_transient=True)
        self._log.info("scheduler started")
        is_first = True
        while True:
            self._wake_event.clear()
            # A right that is missing from the start ends the scheduler; later, nothing that the database says does.
            seconds = await retry(self._poller.poll, event="schedules not polled", only_transient=is_first)
            is_first = False
            seconds = self._poll_interval_seconds if seconds is None else min(seconds, self._poll_interval_seconds)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake_event.wait()
