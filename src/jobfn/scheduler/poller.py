"""Poll all schedules once: enqueue the jobs that are due, and return when to poll again.

``NativeSchedulePoller`` works on jobfn's own schema, where the rows hold all state, so any number of schedulers can
poll at the same time. ``platform_poller.py`` does the same on the platform's schema; ``scheduler.py`` polls repeatedly.
"""

import functools
from datetime import timedelta
from typing import Protocol

from jobfn.database.due_schedules import DueSchedules, ScheduleOutcome, ScheduleResult
from jobfn.scheduler.decide import decide
from jobfn.telemetry import logs

#: Delay before the next poll while another scheduler has locked a due schedule: it takes milliseconds unless it dies.
LOCKED_RETRY_SECONDS = 0.1
#: Delay before the next poll while a job must wait for the previous job, or for a lock held by someone else.
BLOCKED_RETRY_SECONDS = 1.0


class SchedulePoller(Protocol):
    """All schedules of a database, seen by one scheduler."""

    async def start(self) -> None:
        """Release what an earlier scheduler with the same id has locked."""

    async def poll(self) -> float | None:
        """Enqueue all jobs that are due.

        Returns:
            Seconds until the next poll; None: nothing is due until a schedule changes.
        """

    async def stop(self) -> None:
        """Release all schedules."""


class NativeSchedulePoller:
    """``SchedulePoller`` on jobfn's own schema."""

    def __init__(self, schedules: DueSchedules, *, takeover_delay: timedelta, scheduler_id: str) -> None:
        self._schedules = schedules
        self._decide = functools.partial(decide, takeover_delay=takeover_delay)
        self._log = ScheduleLog(scheduler_id)

    async def start(self) -> None:
        """Do nothing: locks end with their transaction."""

    async def poll(self) -> float | None:
        """See ``SchedulePoller.poll``."""
        blocked: set[int] = set()
        while results := await self._schedules.advance(self._decide, exclude_ids=list(blocked)):
            for result in results:
                self._log.record(result)
            blocked.update(result.schedule.id for result in results if result.outcome is ScheduleOutcome.WAITING)
        seconds = await self._schedules.seconds_until_next(exclude_ids=list(blocked))
        if seconds is not None:
            seconds = max(seconds, LOCKED_RETRY_SECONDS if seconds <= 0 else 0.0)
        if blocked:
            seconds = BLOCKED_RETRY_SECONDS if seconds is None else min(seconds, BLOCKED_RETRY_SECONDS)
        return seconds

    async def stop(self) -> None:
        """Do nothing: locks end with their transaction."""


def job_fields(task: str, job_id: int | None, database_id: str | None) -> dict[str, str | int | None]:
    """Return the log fields of a job that was just enqueued."""
    return {"task": task, "job": job_id, "attempt": 0, "worker": None, "tenant": database_id}


class ScheduleLog:
    """Logs the result of each decision."""

    def __init__(self, scheduler_id: str) -> None:
        self._log = logs.get_logger("jobfn.scheduler").bind(scheduler=scheduler_id)

    def record(self, result: ScheduleResult) -> None:
        """Log the outcome, and the missed runs if there are any."""
        schedule, decision = result.schedule, result.decision
        log = self._log.bind(schedule=schedule.id, task=schedule.task)
        due = decision.due_at.isoformat() if decision.due_at is not None else None
        match result.outcome:
            case ScheduleOutcome.ENQUEUED:
                log.info("job enqueued", due=due, **job_fields(schedule.task, result.job_id, result.database_id))
            case ScheduleOutcome.SKIPPED:
                log.warning("run skipped: previous job still waiting or running", due=due)
            case ScheduleOutcome.FAILED:
                log.error("job not enqueued", due=due, error=result.error)
            case ScheduleOutcome.BROKEN:
                log.error("invalid schedule: no jobs until it is changed", error=result.error)
            case ScheduleOutcome.WAITING:
                log.debug("run postponed", due=due, reason=result.error)
            case ScheduleOutcome.PLANNED:
                next_due_at = decision.next_due_at
                log.debug("next run planned", due=next_due_at.isoformat() if next_due_at is not None else None)
        if decision.missed_count and result.outcome is not ScheduleOutcome.WAITING:
            log.warning(
                "missed runs skipped: no scheduler was running",
                count=decision.missed_count,
                last=decision.last_missed_at.isoformat() if decision.last_missed_at is not None else None,
            )
