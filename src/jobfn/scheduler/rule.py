"""Compute due times from ``schedule_info`` (contract, section 3, "Schedules").

Pure: reads no clock. ``cron.py`` parses the rule or its parts and ``wallclock.py`` places it in a zone; this module
adds zone, start, end and the handling of missed runs. ``humanize.py`` and ``decide.py`` use the result.
"""

import difflib
import hashlib
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
from jobfn.scheduler.cron import PART_RANGES, Calendar, parse_parts, parse_rule
from jobfn.scheduler.wallclock import next_due_time

_UTC_NAMES = {"utc", "z", "etc/utc"}
_EPSILON = timedelta(microseconds=1)


class CatchUp(StrEnum):
    """Handling of due times that passed while no scheduler ran."""

    ONE = "one"
    ALL = "all"
    NONE = "none"


_SECONDS = ("catch_up_window_seconds", "jitter_seconds", "expires_in_seconds")
KEYS = ("rule", "start", "end", "tz", "catch_up", *_SECONDS, *PART_RANGES)
#: Maximum of each of ``_SECONDS``: a year.
MAX_SECONDS = 366 * 86_400


@dataclass(frozen=True, slots=True)
class Schedule:
    """A valid ``schedule_info``.

    Attributes:
        rule: The cron rule as given, or the parts as JSON.
        calendar: The matching wall-clock times.
        zone: The time zone of the wall clock.
        start: Earliest due time, inclusive. None: no limit.
        end: Latest due time, inclusive. None: no limit.
        catch_up: What to do with missed runs.
        catch_up_window: Missed runs later than this are skipped. None: no limit.
        jitter: Maximum delay of a job after its due time.
        expires_in: Time after its due time in which a job is started. None: no limit.
    """

    rule: str
    calendar: Calendar
    zone: ZoneInfo
    start: datetime | None = None
    end: datetime | None = None
    catch_up: CatchUp = CatchUp.ONE
    catch_up_window: timedelta | None = None
    jitter: timedelta = timedelta()
    expires_in: timedelta | None = None

    def next_after(self, after: datetime) -> datetime | None:
        """Return the first due time strictly after ``after``, in UTC; None if there is none."""
        if self.start is not None and self.start > after:
            after = self.start - _EPSILON
        due_at = next_due_time(self.calendar, self.zone, after)
        return None if due_at is None or (self.end is not None and due_at > self.end) else due_at

    def with_jitter(self, due_at: datetime, schedule_id: int) -> datetime:
        """Return when the job of a due time is enqueued: always the same time, before the next due time."""
        if not self.jitter:
            return due_at
        following = next_due_time(self.calendar, self.zone, due_at)
        maximum = self.jitter if following is None else min(self.jitter, following - due_at)
        digest = hashlib.blake2b(f"{schedule_id} {due_at.timestamp()}".encode(), digest_size=6).digest()
        return due_at + maximum * (int.from_bytes(digest) / 2**48)

    def upcoming(self, after: datetime) -> Iterator[datetime]:
        """Yield all due times after ``after``, in order."""
        while (due_at := self.next_after(after)) is not None:
            yield due_at
            after = due_at

    def latest(self, first: datetime, until: datetime, *, limit: int) -> list[datetime]:
        """Return the latest due times in [first, until], without iterating over all of them."""
        times = [first, *self._between(first, until, limit=limit)]
        if len(times) <= limit:
            return times
        # Search for a span before `until` that holds at least `limit` times, but few enough to iterate over. A span
        # that is a second longer holds at most one more, so there is one.
        too_short, long_enough = timedelta(), until - first
        span = min(timedelta(seconds=limit), long_enough)
        while not limit <= len(times := self._between(until - span, until, limit=4 * limit)) < 4 * limit:
            too_short, long_enough = (span, long_enough) if len(times) < limit else (too_short, span)
            span = min(too_short * 2, (too_short + long_enough) / 2) if too_short else long_enough / 2
        return times[-limit:]

    def _between(self, after: datetime, until: datetime, *, limit: int) -> list[datetime]:
        due_times = itertools.takewhile(lambda due_at: due_at <= until, self.upcoming(after))
        return list(itertools.islice(due_times, limit))


def parse(schedule_info: object, *, strict: bool = False) -> Schedule:
    """Parse a ``schedule_info``: ``{"rule", "start", "end", "tz"}`` or parts, either with ``catch_up``.

    The rule is cron text or an object of parts. A zone inside it has no effect, as in node-schedule.

    Args:
        schedule_info: The value of the column. A plain string counts as the rule.
        strict: Reject unknown keys, for new schedules. Schedules in the database may have unknown keys, because the
            platform's scheduler ignores them.

    Raises:
        InvalidSchedule: It is not valid; names the key or the field, and its value.
    """
    info = _as_mapping(schedule_info)
    if strict:
        _check_keys(info)
    zone = _parse_zone(info.get("tz"))
    rule = info.get("rule")
    if isinstance(rule, str):
        calendar, text = parse_rule(rule), rule
    elif rule is None or isinstance(rule, Mapping):
        parts = _parts_of(info if rule is None else rule)
        if not parts:
            raise InvalidSchedule(
                'schedule_info has no rule: give {"rule": "0 9 * * *"}, or parts such as {"hour": 9, "minute": 0}'
            )
        calendar, text = parse_parts(parts), json.dumps(parts)
    else:
        raise InvalidSchedule(f"rule cannot be {rule!r}: give a cron rule as text, such as '0 9 * * *'")
    start, end = _parse_time("start", info.get("start"), zone), _parse_time("end", info.get("end"), zone)
    if start is not None and end is not None and end < start:
        raise InvalidSchedule(f"end {end.isoformat()} must not be before start {start.isoformat()}")
    return Schedule(
        text,
        calendar,
        zone,
        start,
        end,
        _parse_catch_up(info.get("catch_up")),
        _parse_seconds("catch_up_window_seconds", info.get("catch_up_window_seconds")),
        _parse_seconds("jitter_seconds", info.get("jitter_seconds")) or timedelta(),
        _parse_expiry(info.get("expires_in_seconds")),
    )


def _as_mapping(schedule_info: object) -> Mapping[str, Any]:
    if isinstance(schedule_info, str):
        return {"rule": schedule_info}
    if isinstance(schedule_info, Mapping):
        return schedule_info
    raise InvalidSchedule(f'schedule_info cannot be {schedule_info!r}: give an object such as {{"rule": "0 9 * * *"}}')


def _parts_of(info: Mapping[str, Any]) -> dict[str, Any]:
    return {name: info[name] for name in PART_RANGES if info.get(name) is not None}


def _check_keys(info: Mapping[str, Any]) -> None:
    _check_known(info, KEYS, "schedule_info")
    rule, parts = info.get("rule"), _parts_of(info)
    if rule is not None and parts:
        raise InvalidSchedule(f"rule and {next(iter(parts))} exclude each other: give only one of them")
    if isinstance(rule, Mapping):
        _check_known(rule, tuple(PART_RANGES), "rule")


def _check_known(info: Mapping[str, Any], keys: tuple[str, ...], what: str) -> None:
    for key in info:
        if key not in keys:
            similar = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
            hint = f"did you mean {similar[0]}?" if similar else f"use {', '.join(keys)}"
            raise InvalidSchedule(f"{what} has an unknown key {key!r}: {hint}")


def _parse_zone(name: object) -> ZoneInfo:
    if name is None or name == "":
        return ZoneInfo("UTC")
    if not isinstance(name, str):
        raise InvalidSchedule(f"tz cannot be {name!r}: give a name such as Europe/Paris")
    try:
        return ZoneInfo("UTC" if name.lower() in _UTC_NAMES else name)
    except (KeyError, ValueError, OSError):  # no such file, an invalid path, a directory of zones
        similar = difflib.get_close_matches(name, zoneinfo.available_timezones(), n=1)
        hint = f"did you mean {similar[0]}?" if similar else "give a name such as Europe/Paris"
        raise InvalidSchedule(f"tz {name!r} is not a time zone: {hint}") from None


def _parse_time(key: str, value: object, zone: ZoneInfo) -> datetime | None:
    """Parse ISO 8601 text, in the schedule's zone if it has no offset, or JavaScript's milliseconds."""
    if value is None:
        return None
    try:
        if isinstance(value, str):
            time = datetime.fromisoformat(value)
            return (time if time.tzinfo is not None else time.replace(tzinfo=zone)).astimezone(UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise InvalidSchedule(f"{key} cannot be {value!r}: give an ISO 8601 time, such as 2030-01-31T09:00+01:00")


def _parse_catch_up(value: object) -> CatchUp:
    if value is None:
        return CatchUp.ONE
    try:
        return CatchUp(str(value))
    except ValueError:
        raise InvalidSchedule(f"catch_up cannot be {value!r}: use one (the default), all or none") from None


def _parse_seconds(key: str, value: object) -> timedelta | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= MAX_SECONDS:
        raise InvalidSchedule(f"{key} cannot be {value!r}: give a number of seconds from 0 to {MAX_SECONDS:,}")
    return timedelta(seconds=value)


def _parse_expiry(value: object) -> timedelta | None:
    expires_in = _parse_seconds("expires_in_seconds", value)
    if expires_in == timedelta():
        raise InvalidSchedule("expires_in_seconds cannot be 0: no job could start; give a number of seconds above 0")
    return expires_in
