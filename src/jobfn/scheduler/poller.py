"""One look at all schedules: whatever is due gets its job, and says when to look again.

This is the agenda on jobfn's own schema, where the rows remember everything and any number of schedulers may look at
once. ``platform.py`` is the same on the platform's schema; ``loop.py`` looks again and again.
"""

import functools
from datetime import timedelta
from typing import Protocol

from jobfn.database.due_schedules import DueSchedules, Outcome, Taken
from jobfn.scheduler.decide import decide
from jobfn.telemetry import logs

#: When a schedule is due but another scheduler has it under its hands: that takes milliseconds, unless it dies.
LOCKED_RETRY_SECONDS = 0.1
#: When a job must wait until the one before it is done, or for somebody's lock.
BLOCKED_RETRY_SECONDS = 1.0


class SchedulePoller(Protocol):
    """All schedules of a database, for one scheduler."""

    async def start(self) -> None:
        """Begin: forget what an earlier scheduler of the same name left."""

    async def look(self) -> float | None:
        """See to all that is due. Returns the seconds until the next look; None: until something changes."""

    async def stop(self) -> None:
        """End: hold nothing any more."""


class NativeSchedulePoller:
    """``SchedulePoller`` on jobfn's own schema.

    Args:
        schedules: The table.
        takeover: As for ``decide``.
        scheduler_id: For the log.
    """

    def __init__(self, schedules: DueSchedules, *, takeover: timedelta, scheduler_id: str) -> None:
        self._schedules = schedules
        self._decide = functools.partial(decide, takeover=takeover)
        self._log = ScheduleLog(scheduler_id)

    async def start(self) -> None:
        """See ``SchedulePoller.start``: nothing, since it holds nothing beyond a transaction."""

    async def look(self) -> float | None:
        """See ``SchedulePoller.look``."""
        waiting: set[int] = set()
        while taken := await self._schedules.advance_schedules(self._decide, exclude_ids=list(waiting)):
            for each in taken:
                self._log.write(each)
            waiting.update(each.schedule.id for each in taken if each.outcome is Outcome.WAITING)
        seconds = await self._schedules.seconds_to_next(exclude_ids=list(waiting))
        if seconds is not None:
            seconds = max(seconds, LOCKED_RETRY_SECONDS if seconds <= 0 else 0.0)
        if waiting:
            seconds = BLOCKED_RETRY_SECONDS if seconds is None else min(seconds, BLOCKED_RETRY_SECONDS)
        return seconds

    async def stop(self) -> None:
        """See ``SchedulePoller.stop``: nothing."""


def new_job(task: str, job_id: int | None, database_id: str | None) -> dict[str, str | int | None]:
    """What a line says of a job that was just made: no attempt of it has begun, and no worker has it."""
    return {"task": task, "job": job_id, "attempt": 0, "worker": None, "tenant": database_id}


class ScheduleLog:
    """Writes the log line of each step.

    Args:
        scheduler_id: Bound to every line.
    """

    def __init__(self, scheduler_id: str) -> None:
        self._log = logs.get_logger("jobfn.scheduler").bind(scheduler=scheduler_id)

    def write(self, taken: Taken) -> None:
        """One line, or two when times were let go."""
        schedule, step = taken.schedule, taken.step
        log = self._log.bind(schedule=schedule.id, task=schedule.task)
        due = step.due.isoformat() if step.due is not None else None
        match taken.outcome:
            case Outcome.ENQUEUED:
                log.info("job enqueued", due=due, **new_job(schedule.task, taken.job_id, taken.database_id))
            case Outcome.SKIPPED:
                log.warning("time skipped: the last job is still waiting or running", due=due)
            case Outcome.FAILED:
                log.error("the job could not be made", due=due, error=taken.error)
            case Outcome.BROKEN:
                log.error("broken schedule: it makes no jobs until it is changed", error=taken.error)
            case Outcome.WAITING:
                log.debug("not yet", due=due, reason=taken.error)
            case Outcome.PLANNED:
                log.debug("planned", due=step.next_due.isoformat() if step.next_due is not None else None)
        if step.let_go and taken.outcome is not Outcome.WAITING:
            log.warning(
                "times let go: no scheduler ran then",
                times=step.let_go,
                last=step.last_let_go.isoformat() if step.last_let_go is not None else None,
            )
