"""Poll all schedules once on the platform's own schema, by the contract's functions alone.

A scheduler locks each free schedule, keeps the lock, and keeps the next due time in memory. The platform's own
scheduler does the same, so both can run side by side. If a schedule's due time passed more than the takeover delay ago
without a job, and its previous job is done, its scheduler has died: the job is enqueued and the lock removed in one
transaction.
"""

import functools
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from jobfn.database.due_schedules import DueSchedule, ScheduleOutcome, ScheduleResult
from jobfn.database.platform_due_schedules import EnqueueResult, LockedSchedule, PlatformDueSchedules
from jobfn.errors import InvalidSchedule
from jobfn.scheduler.decide import decide, parse_cached
from jobfn.scheduler.poller import BLOCKED_RETRY_SECONDS, LOCKED_RETRY_SECONDS, ScheduleLog, job_fields
from jobfn.telemetry import logs

NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True)
class _Plan:
    """The next due time of a schedule that this scheduler holds, and the row it was computed from."""

    schedule: LockedSchedule
    after: datetime
    due_at: datetime | None = None


class PlatformSchedulePoller:
    """``SchedulePoller`` on the platform's schema."""

    def __init__(self, schedules: PlatformDueSchedules, *, takeover_delay: timedelta, scheduler_id: str) -> None:
        self._schedules = schedules
        self._takeover_delay = takeover_delay
        self._scheduler_id = scheduler_id
        self._decide = functools.partial(decide, takeover_delay=takeover_delay)
        self._plans: dict[int, _Plan] = {}
        self._log = ScheduleLog(scheduler_id)

    async def start(self) -> None:
        """See ``SchedulePoller.start``."""
        await self._schedules.release()

    async def poll(self) -> float | None:
        """See ``SchedulePoller.poll``."""
        now = await self._schedules.now()
        await self._schedules.lock_free_schedules()
        locked = await self._schedules.locked_schedules()
        self._update_plans([schedule for schedule in locked if schedule.locked_by == self._scheduler_id], now)
        seconds = [await self._advance(plan, now) for plan in self._plans.values()]
        others = [schedule for schedule in locked if schedule.locked_by != self._scheduler_id]
        seconds += [await self._maybe_take_over(schedule, now) for schedule in others]
        soonest = min(seconds, default=math.inf)
        return None if soonest == math.inf else max(soonest, LOCKED_RETRY_SECONDS if soonest <= 0 else 0.0)

    async def stop(self) -> None:
        """See ``SchedulePoller.stop``."""
        await self._schedules.release()

    def _update_plans(self, held: list[LockedSchedule], now: datetime) -> None:
        """Add new schedules, drop those no longer held, and replan those that have changed."""
        plans: dict[int, _Plan] = {}
        for schedule in held:
            plan = self._plans.get(schedule.id)
            if plan is None:
                plan = _Plan(schedule, after=schedule.last_scheduled or now)
            elif plan.schedule.schedule_info != schedule.schedule_info:
                plan = _Plan(schedule, after=now)
            elif schedule.last_scheduled != plan.schedule.last_scheduled and _is_past(
                plan.due_at, schedule.last_scheduled
            ):
                # another process with the same id, or a manual run, has enqueued the planned job
                plan = _Plan(schedule, after=schedule.last_scheduled or now)
            plan.schedule = schedule
            plans[schedule.id] = plan
        self._plans = plans

    async def _advance(self, plan: _Plan, now: datetime) -> float:
        """Enqueue the job if it is due. Return the seconds until the next due time, infinite if there is none."""
        if plan.due_at is None or plan.due_at <= now:
            locked = plan.schedule
            schedule = DueSchedule(
                locked.id, locked.task, locked.schedule_info, now=now, after=plan.after, due_at=plan.due_at
            )
            decision = self._decide(schedule)
            if decision.due_at is None:
                outcome = ScheduleOutcome.PLANNED if decision.error is None else ScheduleOutcome.BROKEN
                result = EnqueueResult(outcome, error=decision.error)
            else:
                result = await self._schedules.enqueue_job(locked, wait_for_previous=decision.wait_for_previous)
                if result.schedule is None:
                    return 0.0  # changed or removed at this moment: the next poll reads it again
                plan.schedule = result.schedule
            self._log.record(
                ScheduleResult(schedule, decision, result.outcome, result.job_id, result.error, result.database_id)
            )
            if result.outcome is ScheduleOutcome.WAITING:
                return BLOCKED_RETRY_SECONDS
            plan.due_at = decision.next_due_at or NEVER
        return math.inf if plan.due_at == NEVER else (plan.due_at - now).total_seconds()

    async def _maybe_take_over(self, schedule: LockedSchedule, now: datetime) -> float:
        """Take over a schedule whose scheduler missed its due time. Return the seconds until that may be necessary."""
        try:
            rule = parse_cached(schedule.schedule_info)
        except InvalidSchedule:
            return math.inf
        due_at = rule.next_after(max(schedule.locked_at, schedule.last_scheduled or schedule.locked_at))
        if due_at is None:
            return math.inf
        due_at = rule.with_jitter(due_at, schedule.id)
        seconds = (due_at + self._takeover_delay - now).total_seconds()
        if seconds > 0:
            return seconds
        result = await self._schedules.take_over(schedule)
        if result is None:
            return math.inf  # its previous job waits or runs, or its scheduler is alive after all
        logs.get_logger("jobfn.scheduler").warning(
            "schedule taken over: its scheduler missed the due time",
            scheduler=self._scheduler_id,
            holder=schedule.locked_by,
            schedule=schedule.id,
            due=due_at.isoformat(),
            **job_fields(schedule.task, result.job_id, result.database_id),
        )
        return 0.0


def _is_past(due_at: datetime | None, ran_at: datetime | None) -> bool:
    return due_at is not None and ran_at is not None and due_at <= ran_at
