"""Place wall-clock times in a time zone, including the two days a year when the clock changes.

The rules are those of Debian's cron:

* A rule with fixed minutes and hours (``30 2 * * *``) runs once for each time that it names. A time that the clock
  skips runs at the moment of the change; a time that the clock shows twice runs the first time only.
* A rule with a wildcard in either field (``*/15 * * * *``) follows the clock: skipped times do not run, repeated times
  run again.

cronsim also implements this, but not for six fields, not for the second of two equal times, and not where midnight is
skipped. Therefore ``cron.py`` uses it for times without a zone, and this module adds the zone.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from jobfn.scheduler.cron import Calendar

#: No zone changes its offset twice within this time.
_STEP = timedelta(days=1)
_ONE_SECOND = timedelta(seconds=1)
_EPSILON = timedelta(microseconds=1)


def next_due_time(calendar: Calendar, zone: ZoneInfo, after: datetime) -> datetime | None:
    """Return the first due time strictly after ``after``, in UTC; None if there is none."""
    after = after.astimezone(UTC)
    try:
        if calendar.has_fixed_time:
            return _next_fixed_time(calendar, zone, after)
        return _next_wildcard_time(calendar, zone, after)
    except OverflowError:  # beyond the year 9999
        return None


def _next_fixed_time(calendar: Calendar, zone: ZoneInfo, after: datetime) -> datetime | None:
    wall: datetime | None = after.astimezone(zone).replace(tzinfo=None, fold=0)
    while wall is not None and (wall := calendar.next_after(wall)) is not None:
        due_at = _first_occurrence(wall, zone)
        if due_at > after:  # in a repeated hour, this time has already occurred
            return due_at
    return None


def _next_wildcard_time(calendar: Calendar, zone: ZoneInfo, after: datetime) -> datetime | None:
    """Search with one offset up to the next clock change, then from there with the new offset."""
    since, offset = after, _offset(after, zone)
    start = (after + offset).replace(tzinfo=None)
    while (wall := calendar.next_after(start)) is not None:
        due_at = wall.replace(tzinfo=UTC) - offset
        change = _next_clock_change(zone, since, due_at)
        if change is None:
            return due_at
        since, offset = change, _offset(change, zone)
        start = (change + offset - _EPSILON).replace(tzinfo=None)
    return None


def _first_occurrence(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return when a clock in this zone first shows this time; for a skipped time, the moment of the clock change."""
    instant = wall.replace(tzinfo=zone).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None, fold=0) == wall:
        return instant
    # read with the later offset (fold=1), a skipped time lies before the clock change; with the earlier one, after it
    change = _next_clock_change(zone, wall.replace(tzinfo=zone, fold=1).astimezone(UTC), instant)
    return change or instant


def _next_clock_change(zone: ZoneInfo, after: datetime, until: datetime) -> datetime | None:
    """Return the first time in (after, until] with another offset than ``after``; None if the offset stays."""
    low = after.replace(microsecond=0)
    offset = _offset(low, zone)
    while low < until:
        high = min(low + _STEP, until)
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
