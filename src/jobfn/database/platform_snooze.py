"""Snoozes on the platform's schema, which has no columns for them. Pure.

A snooze gives the attempt back. The number of snoozes and the time of the first are kept at the end of ``last_error``,
``the bank is closed (snoozed 3 times since 2030-01-31T09:00:00+00:00)``, until an attempt fails.
"""

import re
from datetime import datetime, timedelta
from typing import NamedTuple

from jobfn.database.records import MAX_ERROR_CHARACTERS

#: Leaves room for the number of snoozes in the maximum length of an error message.
_MAX_REASON_CHARACTERS = MAX_ERROR_CHARACTERS - 100
_SUFFIX = re.compile(r" \(snoozed (\d{1,9}) times? since (\S{1,40})\)$")


class PlatformSnooze(NamedTuple):
    """The state of a snoozed job.

    Attributes:
        last_error: The reason, with the number of snoozes.
        is_over: Whether the maximum age is exceeded, so that the job fails permanently.
    """

    last_error: str
    is_over: bool


def next_snooze(last_error: str | None, reason: str, *, now: datetime, max_age: timedelta) -> PlatformSnooze:
    """Return what to store for a snooze.

    Args:
        last_error: What the job has stored.
        reason: The reason of the new snooze.
        now: The database's clock.
        max_age: Maximum time since the first snooze.
    """
    count, since = _parse(last_error, now)
    is_over = now - since >= max_age
    if not is_over:
        count += 1
    times = f"{count} time{'' if count == 1 else 's'}"
    return PlatformSnooze(
        f"{reason[:_MAX_REASON_CHARACTERS]} (snoozed {times} since {since.isoformat(timespec='seconds')})", is_over
    )


def _parse(last_error: str | None, now: datetime) -> tuple[int, datetime]:
    match = _SUFFIX.search(last_error or "")
    if match is not None:
        try:
            since = datetime.fromisoformat(match[2])
        except ValueError:  # a handler's own text
            return 0, now
        if since.tzinfo is not None:
            return int(match[1]), since
    return 0, now
