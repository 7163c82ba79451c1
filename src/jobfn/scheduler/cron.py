"""The calendar: from a cron rule, or its parts, to the next wall-clock time that fits, in no zone at all.

The fields are read by cronsim; what stands here is which words we take, what we say of a rule that it refuses, and
the parts form of contract section 3. ``wallclock.py`` puts the times into a zone.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from cronsim import CronSim, CronSimError

from jobfn.errors import InvalidSchedule

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

#: Name and values of each field, seconds first.
FIELDS = (
    ("second", "0-59"),
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of month", "1-31, L for the last, LW for the last weekday"),
    ("month", "1-12 or JAN-DEC"),
    ("day of week", "0-7 or SUN-SAT (0 and 7 are Sunday), 5L for the last Friday, MON#1 for the first Monday"),
)
_DAY_OF_MONTH, _MONTH, _DAY_OF_WEEK = 3, 4, 5

#: The parts form: each part's lowest and highest number.
PARTS = {
    "second": (0, 59),
    "minute": (0, 59),
    "hour": (0, 23),
    "date": (1, 31),
    "month": (0, 11),
    "dayOfWeek": (0, 7),
    "year": (1970, 9998),
}

#: A rule is tried from here: one that finds no day in fifty years is a mistake.
_ANY_DAY = datetime(2000, 1, 1)  # noqa: DTZ001  - wall-clock time, in no zone
_ONE_SECOND = timedelta(seconds=1)
_MAX_RULE_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Calendar:
    """Which wall-clock times count.

    Attributes:
        fields: Six cron fields, seconds first.
        weekdays: Only these, 0 for Sunday, beside what the fields say; None for any. The parts form wants ``date``
            and ``dayOfWeek`` both, where cron's two day fields mean either.
        years: Only these; None for any.
    """

    fields: tuple[str, ...]
    weekdays: frozenset[int] | None = None
    years: tuple[int, ...] | None = None

    @property
    def has_fixed_time(self) -> bool:
        """Whether minute and hour are named rather than starred: cron runs such a rule once per time it names."""
        return not self.fields[1].startswith("*") and not self.fields[2].startswith("*")

    def next_after(self, wall: datetime) -> datetime | None:
        """The first fitting time after this one, both naive; None when there is none within fifty years."""
        while (found := next(CronSim(" ".join(self.fields), wall), None)) is not None:
            if self.years is not None and found.year not in self.years:
                later = [year for year in self.years if year > found.year]
                if not later:
                    return None
                wall = datetime(min(later), 1, 1) - _ONE_SECOND  # noqa: DTZ001  - wall-clock time, in no zone
            elif self.weekdays is not None and found.isoweekday() % 7 not in self.weekdays:
                wall = datetime.combine(found, time(23, 59, 59))
            else:
                return found
        return None


def calendar_of_rule(rule: str) -> Calendar:
    """Read a cron rule: five fields, six with seconds first, or ``@daily`` and its like.

    Raises:
        InvalidSchedule: Names the field and what it holds.
    """
    text = ALIASES.get(rule.strip().lower(), rule)
    if text.lstrip().startswith("@"):
        raise InvalidSchedule(f"{_shown(rule)}: no such name; there are {', '.join(ALIASES)}")
    if len(text) > _MAX_RULE_CHARACTERS:
        raise InvalidSchedule(f"{_shown(rule)}: it is longer than {_MAX_RULE_CHARACTERS} characters")
    fields = text.upper().split()
    if len(fields) not in (5, 6):
        raise InvalidSchedule(
            f"{_shown(rule)}: it has {len(fields)} fields. Write 5 (minute, hour, day of month, month, day of week), "
            "or 6 with seconds first"
        )
    six = ["0", *fields] if len(fields) == 5 else fields
    for place in (_DAY_OF_MONTH, _DAY_OF_WEEK):
        six[place] = "*" if six[place] == "?" else six[place]
    six[_DAY_OF_WEEK] = re.sub(r"-SUN\b", "-7", six[_DAY_OF_WEEK])
    _check(six, rule=rule, given=len(fields))
    return Calendar(tuple(six))


def calendar_of_parts(parts: Mapping[str, object]) -> Calendar:
    """Read the parts form: each part a number or a list of numbers (contract section 3); null counts as missing.

    Raises:
        InvalidSchedule: Names the part and what it holds.
    """
    numbers = {name: _numbers(name, parts[name]) for name in PARTS if parts.get(name) is not None}
    weekdays = frozenset(number % 7 for number in numbers["dayOfWeek"]) if "dayOfWeek" in numbers else None
    months = [number + 1 for number in numbers["month"]] if "month" in numbers else None
    fields = [
        _listed(numbers.get("second", [0])),
        _listed(numbers.get("minute")),
        _listed(numbers.get("hour")),
        _listed(numbers.get("date")),
        _listed(months),
        # with a date as well, cron would mean either of the two
        _listed(sorted(weekdays)) if weekdays is not None and "date" not in numbers else "*",
    ]
    try:
        CronSim(" ".join(fields), _ANY_DAY)
    except CronSimError:
        raise InvalidSchedule(
            f"date {fields[_DAY_OF_MONTH]} never comes in month {parts['month']} (0 is January)"
        ) from None
    years = tuple(sorted(numbers["year"])) if "year" in numbers else None
    return Calendar(tuple(fields), weekdays if "date" in numbers else None, years)


def _check(fields: Sequence[str], *, rule: str, given: int) -> None:
    """Refuse what cronsim refuses, and say where: it names a field at most, so each term is tried alone."""
    for place, ((name, values), field) in enumerate(zip(FIELDS, fields, strict=True)):
        for term in field.split(","):
            if not term or not _is_parsable(["*"] * place + [term] + ["*"] * (5 - place)):
                within = f" in {field!r}" if term != field else ""
                raise InvalidSchedule(
                    f"{_shown(rule)}: {name} (field {place - 6 + given + 1} of {given}) cannot be {term!r}{within}. "
                    f"Use {values}; *; a list 1,2; a range 1-5; a step */2"
                )
    if not _is_parsable(fields) or Calendar(tuple(fields)).next_after(_ANY_DAY) is None:
        raise InvalidSchedule(f"{_shown(rule)}: such a day never comes")


def _is_parsable(fields: Sequence[str]) -> bool:
    try:
        CronSim(" ".join(fields), _ANY_DAY)
    except (CronSimError, ValueError):  # the latter from numbers too long to be any
        return False
    return True


def _numbers(name: str, value: object) -> list[int]:
    lowest, highest = PARTS[name]
    values = value if isinstance(value, list | tuple) else [value]
    numbers = [_number(single) for single in values]
    if not numbers or not all(number is not None and lowest <= number <= highest for number in numbers):
        of = " (0 is January)" if name == "month" else " (0 is Sunday)" if name == "dayOfWeek" else ""
        raise InvalidSchedule(
            f"{name} cannot be {value!r}: use a number from {lowest} to {highest}{of}, or a list of them"
        )
    return [number for number in numbers if number is not None]


def _number(value: object) -> int | None:
    """A whole number, also as JSON's 9.0 or the text "9", which the platform's scheduler takes too."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,4}", value):
        return int(value)
    return None


def _listed(numbers: Sequence[int] | None) -> str:
    return "*" if numbers is None else ",".join(str(number) for number in numbers)


def _shown(rule: str) -> str:
    return f"the rule {rule[:100]!r} is broken"
