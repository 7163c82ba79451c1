"""Find the next wall-clock time that matches a cron rule or its parts, without a time zone.

cronsim parses the fields. This module adds the ``@`` aliases, error messages that name the field, and the parts form of
the contract (section 3). ``wallclock.py`` places the times in a zone.
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

#: Name and valid values of each field, seconds first.
FIELDS = (
    ("second", "0-59"),
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of month", "1-31, L for the last, LW for the last weekday"),
    ("month", "1-12 or JAN-DEC"),
    ("day of week", "0-7 or SUN-SAT (0 and 7 are Sunday), 5L for the last Friday, MON#1 for the first Monday"),
)
_DAY_OF_MONTH, _MONTH, _DAY_OF_WEEK = 3, 4, 5

#: Lowest and highest number of each part in the parts form.
PART_RANGES = {
    "second": (0, 59),
    "minute": (0, 59),
    "hour": (0, 23),
    "date": (1, 31),
    "month": (0, 11),
    "dayOfWeek": (0, 7),
    "year": (1970, 9998),
}

#: Start of the search that validates a rule. A rule without a match within 50 years is invalid.
_VALIDATION_START = datetime(2000, 1, 1)  # noqa: DTZ001  - wall-clock time, without a zone
_ONE_SECOND = timedelta(seconds=1)
MAX_RULE_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Calendar:
    """The wall-clock times that match a rule.

    Attributes:
        fields: Six cron fields, seconds first.
        weekdays: Only these weekdays, 0 for Sunday, in addition to ``fields``. None: any. With ``date`` and
            ``dayOfWeek``, the parts form requires both to match, while cron requires either of its two day fields.
        years: Only these years. None: any.
    """

    fields: tuple[str, ...]
    weekdays: frozenset[int] | None = None
    years: tuple[int, ...] | None = None

    @property
    def has_fixed_time(self) -> bool:
        """Whether minute and hour are both given without a wildcard; cron runs such a rule once per time it names."""
        return not self.fields[1].startswith("*") and not self.fields[2].startswith("*")

    def next_after(self, wall: datetime) -> datetime | None:
        """Return the first matching time after this one, both naive; None if there is none within 50 years."""
        while (match := next(CronSim(" ".join(self.fields), wall), None)) is not None:
            if self.years is not None and match.year not in self.years:
                later_years = [year for year in self.years if year > match.year]
                if not later_years:
                    return None
                wall = datetime(min(later_years), 1, 1) - _ONE_SECOND  # noqa: DTZ001  - wall-clock time, without a zone
            elif self.weekdays is not None and match.isoweekday() % 7 not in self.weekdays:
                wall = datetime.combine(match, time(23, 59, 59))
            else:
                return match
        return None


def parse_rule(rule: str) -> Calendar:
    """Parse a cron rule: five fields, six fields with seconds first, or an alias such as ``@daily``.

    Raises:
        InvalidSchedule: It is not valid; names the field and its value.
    """
    text = ALIASES.get(rule.strip().lower(), rule)
    if text.lstrip().startswith("@"):
        raise _invalid(rule, f"there is no such alias, use one of {', '.join(ALIASES)}")
    if len(text) > MAX_RULE_CHARACTERS:
        raise _invalid(rule, f"it must not be longer than {MAX_RULE_CHARACTERS} characters")
    fields = text.upper().split()
    if len(fields) not in (5, 6):
        raise _invalid(
            rule,
            f"it has {len(fields)} fields, write 5 (minute, hour, day of month, month, day of week), "
            "or 6 with seconds first",
        )
    six = ["0", *fields] if len(fields) == 5 else fields
    for index in (_DAY_OF_MONTH, _DAY_OF_WEEK):
        six[index] = "*" if six[index] == "?" else six[index]
    six[_DAY_OF_WEEK] = re.sub(r"-SUN\b", "-7", six[_DAY_OF_WEEK])
    _check_fields(six, rule=rule, field_count=len(fields))
    return Calendar(tuple(six))


def parse_parts(parts: Mapping[str, object]) -> Calendar:
    """Parse the parts form: each part is a number or a list of numbers (contract, section 3); null counts as missing.

    Raises:
        InvalidSchedule: It is not valid; names the part and its value.
    """
    numbers = {name: _parse_part(name, parts[name]) for name in PART_RANGES if parts.get(name) is not None}
    weekdays = frozenset(number % 7 for number in numbers["dayOfWeek"]) if "dayOfWeek" in numbers else None
    months = [number + 1 for number in numbers["month"]] if "month" in numbers else None
    fields = [
        _format_field(numbers.get("second", [0])),
        _format_field(numbers.get("minute")),
        _format_field(numbers.get("hour")),
        _format_field(numbers.get("date")),
        _format_field(months),
        # together with a date, cron would match either of the two
        _format_field(sorted(weekdays)) if weekdays is not None and "date" not in numbers else "*",
    ]
    if not _is_parsable(fields):
        raise InvalidSchedule(f"date {fields[_DAY_OF_MONTH]} does not exist in month {parts['month']} (0 is January)")
    years = tuple(sorted(numbers["year"])) if "year" in numbers else None
    return Calendar(tuple(fields), weekdays if "date" in numbers else None, years)


def _check_fields(fields: Sequence[str], *, rule: str, field_count: int) -> None:
    """Parse each term of each field on its own, so that the error can name it; cronsim names the field at most."""
    for index, ((name, values), field) in enumerate(zip(FIELDS, fields, strict=True)):
        for term in field.split(","):
            if not term or not _is_parsable(["*"] * index + [term] + ["*"] * (5 - index)):
                within = f" in {field!r}" if term != field else ""
                raise _invalid(
                    rule,
                    f"{name} (field {index - 6 + field_count + 1} of {field_count}) cannot be {term!r}{within}, "
                    f"use {values}; *; a list 1,2; a range 1-5; a step */2",
                )
    if not _is_parsable(fields) or Calendar(tuple(fields)).next_after(_VALIDATION_START) is None:
        raise _invalid(rule, "it matches no date")


def _is_parsable(fields: Sequence[str]) -> bool:
    try:
        CronSim(" ".join(fields), _VALIDATION_START)
    except (CronSimError, ValueError):  # ValueError: a number with too many digits
        return False
    return True


def _parse_part(name: str, value: object) -> list[int]:
    lowest, highest = PART_RANGES[name]
    values = value if isinstance(value, list | tuple) else [value]
    numbers = [number for number in map(_parse_number, values) if number is not None and lowest <= number <= highest]
    if not numbers or len(numbers) < len(values):
        hint = " (0 is January)" if name == "month" else " (0 is Sunday)" if name == "dayOfWeek" else ""
        raise InvalidSchedule(
            f"{name} cannot be {value!r}: use a number from {lowest} to {highest}{hint}, or a list of them"
        )
    return numbers


def _parse_number(value: object) -> int | None:
    """Parse a whole number, also written as 9.0 or "9", which the platform's scheduler accepts too."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,4}", value):
        return int(value)
    return None


def _format_field(numbers: Sequence[int] | None) -> str:
    return "*" if numbers is None else ",".join(str(number) for number in numbers)


def _invalid(rule: str, reason: str) -> InvalidSchedule:
    return InvalidSchedule(f"the rule {rule[:100]!r} is not valid: {reason}")
