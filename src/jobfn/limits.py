"""Parse the limits of concurrency and rate that hold across all workers (pure)."""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from jobfn.errors import ConfigurationError

#: Maximum number of starts in the interval of a rate, and maximum concurrency.
MAX_LIMIT_COUNT: Final = 1_000_000
#: Maximum interval of a rate.
MAX_RATE_INTERVAL = timedelta(days=31)
#: Maximum length of the name of a limit.
MAX_LIMIT_NAME_LENGTH: Final = 126

_UNITS: Final = {
    unit: timedelta(seconds=seconds)
    for units, seconds in (
        ("s sec second seconds", 1),
        ("m min minute minutes", 60),
        ("h hour hours", 3600),
        ("d day days", 86400),
    )
    for unit in units.split()
}
_RATE = re.compile(r"(?P<count>[0-9]{1,9})\s*/\s*(?P<times>[0-9]{1,9})?\s*(?P<unit>[a-z]+)", re.IGNORECASE)
_PAYLOAD_FIELD = re.compile(r"payload\.[^.]+(\.[^.]+)*")
#: Longest value of ``per``.
MAX_PER_LENGTH: Final = 200


@dataclass(frozen=True, slots=True)
class Rate:
    """A maximum number of starts in any window of time.

    Attributes:
        count: Maximum number of starts.
        interval: Length of the window.
    """

    count: int
    interval: timedelta

    def __str__(self) -> str:
        seconds = int(self.interval.total_seconds())
        for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
            if seconds % length == 0:
                times = seconds // length
                return f"{self.count}/{unit}" if times == 1 else f"{self.count}/{times} {unit}s"
        return f"{self.count}/second" if seconds == 1 else f"{self.count}/{seconds} seconds"


def parse_rate(text: str) -> Rate:
    """Parse a rate such as ``100/minute``, ``10/s`` or ``500/15 minutes``.

    Raises:
        ConfigurationError: The rate is not valid.
    """
    match = _RATE.fullmatch(text.strip())
    unit = _UNITS.get(match["unit"].lower()) if match is not None else None
    if match is None or unit is None:
        raise ConfigurationError(
            f"the rate {text!r} is not valid: write a number of starts per time, as in 100/minute, 10/second or 5/30s"
        )
    count, times = int(match["count"]), int(match["times"] or 1)
    if not 1 <= count <= MAX_LIMIT_COUNT:
        raise ConfigurationError(f"the rate {text!r} is not valid: allow 1 to {MAX_LIMIT_COUNT:,} starts")
    if not 1 <= times <= MAX_RATE_INTERVAL // unit:
        raise ConfigurationError(f"the rate {text!r} is not valid: its time must be 1 second to 31 days")
    return Rate(count, unit * times)


def check_limit_name(name: str) -> str:
    """Return the name of a limit if it is valid.

    Raises:
        ConfigurationError: It is empty, or longer than ``MAX_LIMIT_NAME_LENGTH``.
    """
    if not 1 <= len(name) <= MAX_LIMIT_NAME_LENGTH:
        raise ConfigurationError(f"the name of a limit must have 1 to {MAX_LIMIT_NAME_LENGTH} characters")
    return name


def check_concurrency(concurrency: int) -> int:
    """Return the concurrency of a limit if it is valid.

    Raises:
        ConfigurationError: It is not between 1 and ``MAX_LIMIT_COUNT``.
    """
    if isinstance(concurrency, bool) or not 1 <= concurrency <= MAX_LIMIT_COUNT:
        raise ConfigurationError(
            f"the concurrency {concurrency!r} is not valid: it must be 1 to {MAX_LIMIT_COUNT:,}. "
            "Pause what should not run at all"
        )
    return concurrency


def check_per(per: str) -> str:
    """Return what a limit counts by if it is valid: ``tenant``, ``queue``, ``key``, ``task`` or ``payload.<field>``.

    Raises:
        ConfigurationError: It is something else.
    """
    if per in ("tenant", "queue", "key", "task") or (len(per) <= MAX_PER_LENGTH and _PAYLOAD_FIELD.fullmatch(per)):
        return per
    raise ConfigurationError(
        f"per={per!r} is not valid: use tenant, queue, key, task, or a field of the payload such as payload.customer"
    )
