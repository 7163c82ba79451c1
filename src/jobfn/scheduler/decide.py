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
#: With ``catch_up: none``, a run later than this is missed.
MISFIRE_GRACE = timedelta(minutes=1)

_EPSILON = timedelta(microseconds=1)


def decide(schedule: DueSchedule, *, takeover_delay: timedelta) -> ScheduleDecision:
    """Return what to do at ``schedule.now``; until ``takeover_delay`` after a due time, its holder may still act."""
    try:
        rule = parse_cached(schedule.schedule_info)
    except InvalidSchedule as error:
        return ScheduleDecision(error=str(error))
    due_at = schedule.due_at or rule.next_after(schedule.after)
    if due_at is None or due_at > schedule.now:
        return ScheduleDecision(next_due_at=due_at)
    if schedule.locked_by is not None:
        if schedule.last_scheduled is not None and schedule.last_scheduled >= due_at:
            return ScheduleDecision(next_due_at=rule.next_after(schedule.last_scheduled))  # the holder enqueued the job
        if due_at > schedule.now - takeover_delay:
            return ScheduleDecision(next_due_at=due_at)
    return _run_due(rule, due_at, schedule.now)


def _run_due(rule: Schedule, due_at: datetime, now: datetime) -> ScheduleDecision:
    """Decide on a due time, and on those between it and now that passed while no scheduler ran."""
    due_times = rule.latest(due_at, now, limit=MAX_CATCH_UP)
    if rule.catch_up is CatchUp.ALL:
        return _catch_up(rule, due_at, due_times[0])
    next_due_at = rule.next_after(now)
    if rule.catch_up is CatchUp.NONE and due_times[-1] < now - MISFIRE_GRACE:
        return ScheduleDecision(next_due_at, missed_count=len(due_times), last_missed_at=due_times[-1])
    return ScheduleDecision(
        next_due_at,
        due_at=due_times[-1],
        missed_count=len(due_times) - 1,
        last_missed_at=due_times[-2] if len(due_times) > 1 else None,
    )


def _catch_up(rule: Schedule, due_at: datetime, first: datetime) -> ScheduleDecision:
    """Enqueue one job per due time, each when the previous job is done, from ``first`` on; skip the times before it."""
    missed = rule.latest(due_at, first - _EPSILON, limit=MAX_CATCH_UP) if due_at < first else []
    return ScheduleDecision(
        rule.next_after(first),
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
