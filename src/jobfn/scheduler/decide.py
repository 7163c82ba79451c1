"""Decide what to do with a schedule now.

Pure: the current time comes with the schedule. ``poller.py`` carries the decision out while the row is locked.
"""

import functools
import json
from datetime import datetime, timedelta

from jobfn.database.due_schedules import DueSchedule, ScheduleDecision
from jobfn.errors import InvalidSchedule
from jobfn.scheduler.rule import CatchUp, Schedule, parse

#: Maximum number of missed runs to catch up, the latest ones; also the maximum that is counted as skipped at once.
MAX_CATCH_UP = 100
#: Default window of ``catch_up: none``: a run later than this is missed.
MISFIRE_GRACE = timedelta(minutes=1)

_EPSILON = timedelta(microseconds=1)


def decide(schedule: DueSchedule, *, takeover_delay: timedelta) -> ScheduleDecision:
    """Return what to do at ``schedule.now``; until ``takeover_delay`` after a due time, its holder may still act."""
    try:
        rule = parse_cached(schedule.schedule_info)
    except InvalidSchedule as error:
        return ScheduleDecision(error=str(error))
    due_at = schedule.due_at or _next_after(rule, schedule.after, schedule.id)
    if due_at is None or due_at > schedule.now:
        return ScheduleDecision(next_due_at=due_at)
    if schedule.locked_by is not None:
        # the platform's scheduler does not know jitter
        if schedule.last_scheduled is not None and schedule.last_scheduled >= due_at - rule.jitter:
            next_due_at = _next_after(rule, schedule.last_scheduled, schedule.id)  # the holder enqueued the job
            return ScheduleDecision(next_due_at=next_due_at)
        if due_at > schedule.now - takeover_delay:
            return ScheduleDecision(next_due_at=due_at)
    return _run_due(rule, due_at, schedule.now, schedule.id)


def _next_after(rule: Schedule, after: datetime, schedule_id: int) -> datetime | None:
    due_at = rule.next_after(after)
    return None if due_at is None else rule.with_jitter(due_at, schedule_id)


def _run_due(rule: Schedule, due_at: datetime, now: datetime, schedule_id: int) -> ScheduleDecision:
    """Decide on a due time, and on those between it and now that passed while no scheduler ran."""
    due_times = rule.latest(due_at, now, limit=MAX_CATCH_UP)
    next_due_at = _next_after(rule, now, schedule_id)
    if rule.jitter and len(due_times) > 1 and (delayed := rule.with_jitter(due_times[-1], schedule_id)) > now:
        next_due_at = delayed
        due_times.pop()
    window = rule.catch_up_window
    if window is None and rule.catch_up is CatchUp.NONE:
        window = MISFIRE_GRACE
    if rule.expires_in is not None:  # older jobs could not start
        window = rule.expires_in if window is None else min(window, rule.expires_in)
    if window is not None and due_times[-1] < now - window:
        return ScheduleDecision(next_due_at, missed_count=len(due_times), last_missed_at=due_times[-1])
    if rule.catch_up is CatchUp.ALL:
        first = next(time for time in due_times if window is None or time >= now - window)
        return _catch_up(rule, due_at, first, schedule_id)
    return ScheduleDecision(
        next_due_at,
        due_at=due_times[-1],
        missed_count=len(due_times) - 1,
        last_missed_at=due_times[-2] if len(due_times) > 1 else None,
    )


def _catch_up(rule: Schedule, due_at: datetime, first: datetime, schedule_id: int) -> ScheduleDecision:
    """Enqueue one job per due time, each when the previous job is done, from ``first`` on; skip the times before it."""
    missed = rule.latest(due_at, first - _EPSILON, limit=MAX_CATCH_UP) if due_at < first else []
    return ScheduleDecision(
        _next_after(rule, first, schedule_id),
        due_at=first,
        wait_for_previous=True,
        missed_count=len(missed),
        last_missed_at=missed[-1] if missed else None,
    )


@functools.lru_cache(maxsize=4096)
def parse_cached(schedule_info: str) -> Schedule:
    """Parse the ``schedule_info`` of a row, given as JSON text.

    Raises:
        InvalidSchedule: It is not valid.
    """
    return parse(json.loads(schedule_info))
