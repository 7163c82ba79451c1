"""What to do with a schedule now: pure, a value in and a value out.

The clock's time comes with the schedule. ``poller.py`` has the step taken, under the row's lock.
"""

import functools
import json
from datetime import datetime, timedelta

from jobfn.database.due_schedules import DueSchedule, Step
from jobfn.errors import InvalidSchedule
from jobfn.scheduler.rule import CatchUp, Schedule, parse

#: As many missed times are caught up at most, the latest ones. Of those let go, no more are counted than this.
MAX_CATCH_UP = 100
#: With ``catch_up: none``, a time is missed when it is later than this.
LATE = timedelta(minutes=1)

_EPSILON = timedelta(microseconds=1)


def decide(found: DueSchedule, *, takeover: timedelta) -> Step:
    """The step for a schedule at ``found.now``.

    Args:
        found: The schedule.
        takeover: How far past its due time a schedule is left to a scheduler that holds it.
    """
    try:
        schedule = read(found.schedule_info)
    except InvalidSchedule as error:
        return Step(problem=str(error))
    due = found.due_at or schedule.next_after(found.since)
    if due is None or due > found.now:
        return Step(next_due=due)
    if found.holder is not None:
        if found.last_scheduled is not None and found.last_scheduled >= due:
            return Step(next_due=schedule.next_after(found.last_scheduled))  # its holder lives, and saw to it
        if due > found.now - takeover:
            return Step(next_due=due)
    return _serve(schedule, due, found.now)


def _serve(schedule: Schedule, due: datetime, now: datetime) -> Step:
    """Its time has come, and with it perhaps other times that passed while no scheduler ran."""
    times = schedule.latest(due, now, limit=MAX_CATCH_UP)
    if schedule.catch_up is CatchUp.ALL:
        return _catch_up(schedule, due, times[0])
    following = schedule.next_after(now)
    if schedule.catch_up is CatchUp.NONE and times[-1] < now - LATE:
        return Step(next_due=following, let_go=len(times), last_let_go=times[-1])
    return Step(
        next_due=following,
        due=times[-1],
        let_go=len(times) - 1,
        last_let_go=times[-2] if len(times) > 1 else None,
    )


def _catch_up(schedule: Schedule, due: datetime, first: datetime) -> Step:
    """Every time gets its job, each when the one before is done; but of a long backlog only the latest times."""
    older = schedule.latest(due, first - _EPSILON, limit=MAX_CATCH_UP) if due < first else []
    return Step(
        next_due=schedule.next_after(first),
        due=first,
        waits=True,
        let_go=len(older),
        last_let_go=older[-1] if older else None,
    )


@functools.lru_cache(maxsize=4096)
def read(schedule_info: str) -> Schedule:
    """The schedule in a row's JSON; read once for as long as it stays the same.

    Raises:
        InvalidSchedule: It is broken.
    """
    return parse(json.loads(schedule_info))
