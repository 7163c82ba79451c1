"""The scheduler: looks at the agenda, sleeps until the next due time, and looks again.

A bell ends the sleep early: somebody added, changed or removed a schedule (``NOTIFY "scheduled_jobs:insert"``).
Everything that must survive stands in the database, so this may be killed anywhere.
"""

import asyncio
import contextlib

import asyncpg

from jobfn.database.connection import CONNECTION_LOST, until_connected
from jobfn.scheduler.poller import SchedulePoller
from jobfn.telemetry import logs

CHANNEL = "scheduled_jobs:insert"

_STOP_SECONDS = 5.0
#: SQLSTATE classes of trouble that passes: conflicts, too few resources, locks, operators, the system.
_TRANSIENT_SQLSTATES = ("25", "40", "53", "55", "57", "58")


class Scheduler:
    """See the module. One ``run`` per instance.

    Args:
        agenda: What to look at.
        bell: Set by whoever knows that schedules changed: a ``Listener`` on ``CHANNEL``.
        poll_interval_seconds: How often to look without a reason, in case a notification was lost.
    """

    def __init__(self, poller: SchedulePoller, *, bell: asyncio.Event, poll_interval_seconds: float) -> None:
        self._agenda = poller
        self._bell = bell
        self._poll_seconds = poll_interval_seconds
        self._log = logs.get_logger("jobfn.scheduler")

    async def run(self, stop: asyncio.Event) -> None:
        """Schedule until ``stop`` is set."""
        looking = asyncio.create_task(self._poll_forever())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({looking, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            # in the middle of a look that is a transaction rolled back: another scheduler, or the next one, does it
            looking.cancel()
            await asyncio.wait({looking}, timeout=_STOP_SECONDS)
            with contextlib.suppress(TimeoutError, *CONNECTION_LOST):
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._agenda.stop()
        if looking.done() and not looking.cancelled():
            looking.result()  # a failure of ours ends the process rather than leaving it idle
        self._log.info("scheduler stopped")

    async def _poll_forever(self) -> None:
        await until_connected(self._agenda.start)
        self._log.info("looking at schedules")
        while True:
            self._bell.clear()
            seconds = await until_connected(self._look)
            seconds = self._poll_seconds if seconds is None else min(seconds, self._poll_seconds)
            try:
                async with asyncio.timeout(seconds):
                    await self._bell.wait()
            except TimeoutError:
                pass

    async def _look(self) -> float | None:
        try:
            return await self._agenda.look()
        except CONNECTION_LOST:
            raise
        except asyncpg.PostgresError as error:
            if not str(error.sqlstate).startswith(_TRANSIENT_SQLSTATES):
                raise
            self._log.error("no look at the schedules now, trying again", error=str(error))
            return self._poll_seconds
