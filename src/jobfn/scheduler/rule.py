"""From ``schedule_info`` to due times: pure, reads no clock (contract section 3, "Schedules").

``cron.py`` reads the rule or its parts, ``wallclock.py`` places it in a zone; here are zone, start, end and what is
to happen with times that nobody served. ``words.py`` says the same in English; ``decide.py`` goes on from here.
"""

import difflib
import itertools
import json
import zoneinfo
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from jobfn.errors import InvalidSchedule
from jobfn.scheduler.cron import PARTS, Calendar, calendar_of_parts, calendar_of_rule
from jobfn.scheduler.wallclock import next_due

_UTC_NAMES = {"utc", "z", "etc/utc"}
_EPSILON = timedelta(microseconds=1)


class CatchUp(StrEnum):
    """What becomes of due times that passed while no scheduler ran."""

    ONE = "one"
    ALL = "all"
    NONE = "none"


KEYS = ("rule", "start", "end", "tz", "catch_up", *PARTS)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A ``schedule_info`` that was read and found good.

    Attributes:
        rule: As written: the cron rule, or the parts as JSON.
        calendar: Which wall-clock times count.
        zone: Where the wall clock hangs.
        start: Not before; due at ``start`` itself too. None: no limit.
        end: Not after; due at ``end`` itself too. None: no limit.
        catch_up: What becomes of missed times.
    """

    rule: str
    calendar: Calendar
    zone: ZoneInfo
    start: datetime | None = None
    end: datetime | None = None
    catch_up: CatchUp = CatchUp.ONE

    def next_after(self, after: datetime) -> datetime | None:
        """The first due time strictly after ``after``, in UTC; None when there is no more."""
        if self.start is not None and self.start > after:
            after = self.start - _EPSILON
        due = next_due(self.calendar, self.zone, after)
        return None if due is None or (self.end is not None and due > self.end) else due

    def upcoming(self, after: datetime) -> Iterator[datetime]:
        """All due times after ``after``, in order."""
        while (due := self.next_after(after)) is not None:
            yield due
            after = due

    def latest(self, first: datetime, until: datetime, *, limit: int) -> list[datetime]:
        """The due times in [first, until], at most the latest ``limit`` of them, without walking through all.

        Args:
            first: A due time.
            until: The end, inclusive.
            limit: How many at most.
        """
        times = [first, *self._some(first, until, at_most=limit)]
        if len(times) <= limit:
            return times
        # look back further and further until enough are in sight, but not too many to walk through; a second more
        # or less brings one time more or less at most, so there is such a point
        few, many = timedelta(), until - first
        reach = min(timedelta(seconds=limit), many)
        while not limit <= len(times := self._some(until - reach, until, at_most=4 * limit)) < 4 * limit:
            few, many = (reach, many) if len(times) < limit else (few, reach)
            reach = min(few * 2, (few + many) / 2) if few else many / 2
        return times[-limit:]

    def _some(self, after: datetime, until: datetime, *, at_most: int) -> list[datetime]:
        return list(itertools.islice(self._until(after, until), at_most))

    def _until(self, after: datetime, until: datetime) -> Iterator[datetime]:
        return itertools.takewhile(lambda due: due <= until, self.upcoming(after))


def next_time(schedule_info: object, after: datetime) -> datetime | None:
    """The first due time of a ``schedule_info`` strictly after ``after``, in UTC; None when there is no more.

    Raises:
        InvalidSchedule: It is broken; says what and where.
    """
    return parse(schedule_info).next_after(after)


def parse(schedule_info: object, *, strict: bool = False) -> Schedule:
    """Read a ``schedule_info``: ``{"rule", "start", "end", "tz"}``, or parts, either with ``catch_up``.

    Args:
        schedule_info: What the column holds, as Python values. A bare text counts as the rule.
        strict: Refuse keys that nobody reads, as for what somebody writes now. What stands in a table is read as
            the platform's scheduler reads it, which passes over them.

    Raises:
        InvalidSchedule: Names the key or the field, and what it holds.
    """
    info: Mapping[str, Any] = _mapping(schedule_info)
    if strict:
        _refuse_unknown(info)
    zone = _zone(info.get("tz"))
    rule = info.get("rule")
    if rule is None:
        given = {name: info[name] for name in PARTS if info.get(name) is not None}
        if not given:
            raise InvalidSchedule(
                'schedule_info says no time: give {"rule": "0 9 * * *"}, or parts such as {"hour": 9, "minute": 0}'
            )
        calendar, text = calendar_of_parts(given), json.dumps(given)
    elif isinstance(rule, str):
        calendar, text = calendar_of_rule(rule), rule
    else:
        raise InvalidSchedule(f"rule cannot be {rule!r}: give a cron rule as text, such as '0 9 * * *'")
    start, end = _moment("start", info.get("start"), zone), _moment("end", info.get("end"), zone)
    if start is not None and end is not None and end < start:
        raise InvalidSchedule(f"end {end.isoformat()} lies before start {start.isoformat()}")
    return Schedule(text, calendar, zone, start, end, _catch_up(info.get("catch_up")))


def _mapping(schedule_info: object) -> Mapping[str, Any]:
    if isinstance(schedule_info, str):
        return {"rule": schedule_info}
    if isinstance(schedule_info, Mapping):
        return schedule_info
    raise InvalidSchedule(f'schedule_info cannot be {schedule_info!r}: give an object such as {{"rule": "0 9 * * *"}}')


def _refuse_unknown(info: Mapping[str, Any]) -> None:
    for key in info:
        if key not in KEYS:
            close = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(KEYS)}"
            raise InvalidSchedule(f"schedule_info has no key {key!r}: {hint}")
    parts = [name for name in PARTS if info.get(name) is not None]
    if info.get("rule") is not None and parts:
        raise InvalidSchedule(f"rule and {parts[0]} exclude each other: write the one or the other")


def _zone(name: object) -> ZoneInfo:
    if name is None or name == "":
        return ZoneInfo("UTC")
    if not isinstance(name, str):
        raise InvalidSchedule(f"tz cannot be {name!r}: give a name such as Europe/Paris")
    try:
        return ZoneInfo("UTC" if name.lower() in _UTC_NAMES else name)
    except (KeyError, ValueError, OSError):  # no such file, no such path, a folder of zones
        close = difflib.get_close_matches(name, zoneinfo.available_timezones(), n=1)
        hint = f"did you mean {close[0]}?" if close else "give a name such as Europe/Paris"
        raise InvalidSchedule(f"tz: there is no time zone {name!r}: {hint}") from None


def _moment(key: str, value: object, zone: ZoneInfo) -> datetime | None:
    """A moment as ISO 8601 text (in the schedule's zone where it names none) or as JavaScript's milliseconds."""
    if value is None:
        return None
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)).astimezone(UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise InvalidSchedule(f"{key} cannot be {value!r}: give an ISO 8601 time, such as 2030-01-31T09:00+01:00")


def _catch_up(value: object) -> CatchUp:
    if value is None:
        return CatchUp.ONE
    try:
        return CatchUp(str(value))
    except ValueError:
        raise InvalidSchedule(f"catch_up cannot be {value!r}: use one (the default), all or none") from None
