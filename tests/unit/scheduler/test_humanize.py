"""Schedules described in English."""

from typing import Any

import pytest

from jobfn.scheduler.humanize import humanize
from jobfn.scheduler.rule import parse

DESCRIPTIONS: list[tuple[Any, str]] = [
    ({"rule": "0 9 * * *", "tz": "Europe/Paris"}, "at 09:00 every day, Europe/Paris"),
    ("@daily", "at 00:00 every day, UTC"),
    ("*/1 * * * * *", "every second, UTC"),
    ("0 0 13 * 5", "at 00:00 on the 13th day of month and on Friday, UTC"),
    ("0 0 */2 * 1", "at 00:00 on every second day of month if it's on Monday, UTC"),
    ({"hour": 9, "minute": 0, "dayOfWeek": [1, 2]}, "at 09:00 on Monday and Tuesday, UTC"),
    (
        {"hour": 0, "minute": 0, "date": 13, "dayOfWeek": [5, 6]},
        "at 00:00 on the 13th day of every month, if it is a Friday or Saturday, UTC",
    ),
    ({"hour": 9, "minute": 0, "year": [2026, 2027]}, "at 09:00 every day, in 2026 and 2027, UTC"),
    (
        {"rule": "0 9 * * *", "tz": "Europe/Paris", "start": "2026-07-01", "end": "2026-12-31T09:00:30"},
        "at 09:00 every day, Europe/Paris, from 2026-07-01 00:00+02:00, until 2026-12-31 09:00:30+01:00",
    ),
    ({"rule": "@hourly", "catch_up": "all"}, "at the start of every hour, UTC, every missed run is caught up"),
    (
        {"rule": "@hourly", "jitter_seconds": 90, "catch_up_window_seconds": 93600},
        (
            "at the start of every hour, UTC, up to 1 minute 30 seconds later, "
            "runs that are more than 1 day 2 hours late are skipped"
        ),
    ),
    (
        {"rule": "@hourly", "expires_in_seconds": 1800},
        "at the start of every hour, UTC, jobs expire 30 minutes after their time",
    ),
    ({"rule": "@hourly", "jitter_seconds": 0.5}, "at the start of every hour, UTC, up to 0.5 seconds later"),
    ({"rule": "@hourly", "catch_up": "none"}, "at the start of every hour, UTC, missed runs are skipped"),
]


@pytest.mark.parametrize(("info", "description"), DESCRIPTIONS, ids=[description for _, description in DESCRIPTIONS])
def test_schedule_description(info: Any, description: str) -> None:
    assert humanize(parse(info)) == description
