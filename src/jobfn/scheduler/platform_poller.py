"""The agenda on the platform's own schema: as ``poller.py``, by the contract's functions alone.

A scheduler locks each free schedule, keeps it, and remembers its next due time; the platform's own scheduler does
the same, so both may run side by side. A schedule whose time passed by more than ``takeover`` without a job, and
whose last job is done, has a holder that died: its job is made and the lock taken away, in one transaction.
"""

import functools
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from jobfn.database.due_schedules import DueSchedule, Outcome, Taken
from jobfn.database.platform_due_schedules import HeldSchedule, Made, PlatformSchedules
from jobfn.errors import InvalidSchedule
from jobfn.scheduler.decide import decide, read
from jobfn.scheduler.poller import BLOCKED_RETRY_SECONDS, LOCKED_RETRY_SECONDS, ScheduleLog, new_job
from jobfn.telemetry import logs

NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True)
class _Plan:
    """What is remembered of a schedule that we hold: as it was read, and when it is due next."""

    held: HeldSchedule
    since: datetime
    due_at: datetime | None = None


class PlatformSchedulePoller:
    """``SchedulePoller`` on the platform's schema.

    Args:
        schedules: The table.
        takeover: For how long past its due time a schedule is left to its holder.
        scheduler_id: Under which schedules are locked.
    """

    def __init__(self, schedules: PlatformSchedules, *, takeover: timedelta, scheduler_id: str) -> None:
        self._schedules = schedules
        self._takeover = takeover
        self._scheduler_id = scheduler_id
        self._decide = functools.partial(decide, takeover=takeover)
        self._plans: dict[int, _Plan] = {}
        self._log = ScheduleLog(scheduler_id)

    async def start(self) -> None:
        """See ``SchedulePoller.start``."""
        await self._schedules.release()

    async def look(self) -> float | None:
        """See ``SchedulePoller.look``."""
        now = await self._schedules.now()
        await self._schedules.acquire_all()
        everything = await self._schedules.locked_schedules()
        self._remember([held for held in everything if held.holder == self._scheduler_id], now)
        seconds = [await self._see_to(plan, now) for plan in self._plans.values()]
        seconds += [await self._watch(held, now) for held in everything if held.holder != self._scheduler_id]
        soonest = min(seconds, default=math.inf)
        return None if soonest == math.inf else max(soonest, LOCKED_RETRY_SECONDS if soonest <= 0 else 0.0)

    async def stop(self) -> None:
        """See ``SchedulePoller.stop``."""
        await self._schedules.release()

    def _remember(self, ours: list[HeldSchedule], now: datetime) -> None:
        """Take up what we newly hold, forget what we hold no more, plan anew what was changed."""
        plans: dict[int, _Plan] = {}
        for held in ours:
            plan = self._plans.get(held.id)
            if plan is None:
                plan = _Plan(held, since=held.last_scheduled or now)
            elif plan.held.schedule_info != held.schedule_info:
                plan = _Plan(held, since=now)
            elif held.last_scheduled != plan.held.last_scheduled and _is_past(plan.due_at, held.last_scheduled):
                # by hand, or by a scheduler of our own name: that was our next time's job
                plan = _Plan(held, since=held.last_scheduled or now)
            plan.held = held
            plans[held.id] = plan
        self._plans = plans

    async def _see_to(self, plan: _Plan, now: datetime) -> float:
        """Do what is due. Returns the seconds until the next time, infinite where there is none."""
        if plan.due_at is None or plan.due_at <= now:
            held = plan.held
            found = DueSchedule(held.id, held.task, held.schedule_info, now=now, since=plan.since, due_at=plan.due_at)
            step = self._decide(found)
            if step.due is None:
                made = Made(Outcome.PLANNED if step.problem is None else Outcome.BROKEN, error=step.problem)
            else:
                made = await self._schedules.make_job(held, waits=step.waits)
                if made.held is None:
                    return 0.0  # it was changed or removed this moment: the next look sees how
                plan.held = made.held
            self._log.write(Taken(found, step, made.outcome, made.job_id, made.error, made.database_id))
            if made.outcome is Outcome.WAITING:
                return BLOCKED_RETRY_SECONDS
            plan.due_at = step.next_due or NEVER
        return math.inf if plan.due_at == NEVER else (plan.due_at - now).total_seconds()

    async def _watch(self, held: HeldSchedule, now: datetime) -> float:
        """Take over what another scheduler let pass. Returns the seconds until that could be so."""
        try:
            due = read(held.schedule_info).next_after(max(held.locked_at, held.last_scheduled or held.locked_at))
        except InvalidSchedule:
            return math.inf
        if due is None:
            return math.inf
        seconds = (due + self._takeover - now).total_seconds()
        if seconds > 0:
            return seconds
        made = await self._schedules.take_over(held)
        if made is None:
            return math.inf  # its last job waits or runs, or it moved after all: the next poll looks again
        logs.get_logger("jobfn.scheduler").warning(
            "schedule taken over: its scheduler let the time pass",
            scheduler=self._scheduler_id,
            holder=held.holder,
            schedule=held.id,
            due=due.isoformat(),
            **new_job(held.task, made.job_id, made.database_id),
        )
        return 0.0


def _is_past(due_at: datetime | None, ran_at: datetime | None) -> bool:
    return due_at is not None and ran_at is not None and due_at <= ran_at
