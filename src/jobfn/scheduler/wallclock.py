"""Wall-clock times in a zone, on the two days a year when a clock shows some times twice and others never.

What cron does then (as Debian's does) is the rule here:

* A rule that names its minutes and hours (``30 2 * * *``) runs once for each time that it names: a time that the
  clock skips runs at the moment of the jump, one that it shows twice runs the first time only.
* A rule with a star there (``*/15 * * * *``) follows the clock: skipped times do not run, repeated ones run again.

cronsim knows this too, but not for six fields, not after the first of two equal times and not where midnight itself
is skipped; so it reckons in naive times only (``cron.py``) and the zone is ours.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from jobfn.scheduler.cron import Calendar

#: No zone changes its offset twice within this.
_STRIDE = timedelta(days=1)
_ONE_SECOND = timedelta(seconds=1)
_EPSILON = timedelta(microseconds=1)


def next_due(calendar: Calendar, zone: ZoneInfo, after: datetime) -> datetime | None:
    """The first due time strictly after ``after``, in UTC; None when there is none."""
    after = after.astimezone(UTC)
    try:
        if calendar.has_fixed_time:
            return _next_named(calendar, zone, after)
        return _next_shown(calendar, zone, after)
    except OverflowError:  # beyond the year 9999
        return None


def _next_named(calendar: Calendar, zone: ZoneInfo, after: datetime) -> datetime | None:
    wall: datetime | None = after.astimezone(zone).replace(tzinfo=None, fold=0)
    while wall is not None and (wall := calendar.next_after(wall)) is not None:
        instant = _first_instant(wall, zone)
        if instant > after:  # in the second of two equal hours, the first one's times are past
            return instant
    return None


def _next_shown(calendar: Calendar, zone: ZoneInfo, after: datetime) -> datetime | None:
    """Reckon with one offset up to the next change of it, and from there with the new one."""
    since, offset = after, _offset(after, zone)
    start = (after + offset).replace(tzinfo=None)
    while (wall := calendar.next_after(start)) is not None:
        due = wall.replace(tzinfo=UTC) - offset
        change = _first_change(zone, since, due)
        if change is None:
            return due
        since, offset = change, _offset(change, zone)
        start = (change + offset - _EPSILON).replace(tzinfo=None)
    return None


def _first_instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """When a clock in this zone first shows this time; for a time that it skips, the moment of the jump."""
    instant = wall.replace(tzinfo=zone).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None, fold=0) == wall:
        return instant
    # a skipped time: read with the offset after the jump it lies before the jump, with the one before it after
    jump = _first_change(zone, wall.replace(tzinfo=zone, fold=1).astimezone(UTC), instant)
    return jump or instant


def _first_change(zone: ZoneInfo, after: datetime, until: datetime) -> datetime | None:
    """The first moment in (after, until] with another offset than ``after`` has; None when it stays."""
    low = after.replace(microsecond=0)
    offset = _offset(low, zone)
    while low < until:
        high = min(low + _STRIDE, until)
        if _offset(high, zone) == offset:
            low = high
            continue
        while high - low > _ONE_SECOND:
            middle = low + ((high - low) / 2 // _ONE_SECOND) * _ONE_SECOND
            low, high = (middle, high) if _offset(middle, zone) == offset else (low, middle)
        return high
    return None


def _offset(instant: datetime, zone: ZoneInfo) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta()
