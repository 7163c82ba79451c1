"""Due times of every form of ``schedule_info``. The expected times are computed by hand."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobfn.scheduler.rule import parse

#: Rule, time, and the first due times after it. 1 January 2026 is a Thursday.
UTC_RULES: list[tuple[str, str, list[str]]] = [
    # a time of day: strictly after, to the microsecond
    ("0 9 * * *", "2026-01-01T08:59:59.999999Z", ["2026-01-01T09:00Z"]),
    ("0 9 * * *", "2026-01-01T09:00Z", ["2026-01-02T09:00Z"]),
    ("  0\t9  * * *  ", "2026-01-01T00:00Z", ["2026-01-01T09:00Z"]),
    # wildcards, steps, ranges, lists
    ("* * * * *", "2026-01-01T00:00:30Z", ["2026-01-01T00:01Z", "2026-01-01T00:02Z"]),
    ("*/7 * * * *", "2026-01-01T00:50Z", ["2026-01-01T00:56Z", "2026-01-01T01:00Z", "2026-01-01T01:07Z"]),
    ("5-59/20 * * * *", "2026-01-01T00:00Z", ["2026-01-01T00:05Z", "2026-01-01T00:25Z", "2026-01-01T00:45Z"]),
    ("20/20 * * * *", "2026-01-01T00:00Z", ["2026-01-01T00:20Z", "2026-01-01T00:40Z", "2026-01-01T01:20Z"]),
    ("10,40 8,20 * * *", "2026-01-01T08:10Z", ["2026-01-01T08:40Z", "2026-01-01T20:10Z", "2026-01-01T20:40Z"]),
    ("0 */5 * * *", "2026-01-01T15:00Z", ["2026-01-01T20:00Z", "2026-01-02T00:00Z", "2026-01-02T05:00Z"]),
    # days of the month
    ("30 4 1,15 * *", "2026-01-02T00:00Z", ["2026-01-15T04:30Z", "2026-02-01T04:30Z"]),
    ("0 0 31 * *", "2026-01-31T00:00Z", ["2026-03-31T00:00Z", "2026-05-31T00:00Z"]),
    ("0 0 29 2 *", "2026-01-01T00:00Z", ["2028-02-29T00:00Z", "2032-02-29T00:00Z"]),
    ("0 0 29 2 *", "2096-02-29T00:00Z", ["2104-02-29T00:00Z"]),
    ("0 12 L * *", "2026-01-31T12:00Z", ["2026-02-28T12:00Z", "2026-03-31T12:00Z", "2026-04-30T12:00Z"]),
    ("0 0 LW * *", "2026-01-01T00:00Z", ["2026-01-30T00:00Z", "2026-02-27T00:00Z", "2026-03-31T00:00Z"]),
    # days of the week
    ("0 9 * * MON-FRI", "2026-01-02T09:00Z", ["2026-01-05T09:00Z", "2026-01-06T09:00Z"]),
    ("0 9 * * SAT,SUN", "2026-01-01T00:00Z", ["2026-01-03T09:00Z", "2026-01-04T09:00Z", "2026-01-10T09:00Z"]),
    ("0 9 * * 7", "2026-01-01T00:00Z", ["2026-01-04T09:00Z", "2026-01-11T09:00Z"]),
    ("0 9 * * FRI-SUN", "2026-01-02T09:00Z", ["2026-01-03T09:00Z", "2026-01-04T09:00Z", "2026-01-09T09:00Z"]),
    ("0 0 * * MON#1", "2026-01-01T00:00Z", ["2026-01-05T00:00Z", "2026-02-02T00:00Z", "2026-03-02T00:00Z"]),
    ("0 0 * * 5L", "2026-01-01T00:00Z", ["2026-01-30T00:00Z", "2026-02-27T00:00Z", "2026-03-27T00:00Z"]),
    # both day fields: either matches; with a wildcard in one: both must match
    ("0 0 13 * 5", "2026-01-03T00:00Z", ["2026-01-09T00:00Z", "2026-01-13T00:00Z", "2026-01-16T00:00Z"]),
    ("0 0 */2 * MON", "2026-01-01T00:00Z", ["2026-01-05T00:00Z", "2026-01-19T00:00Z", "2026-02-09T00:00Z"]),
    ("0 0 ? * MON", "2026-01-01T00:00Z", ["2026-01-05T00:00Z", "2026-01-12T00:00Z"]),
    # months
    ("0 9 * JAN,JUL *", "2026-01-31T09:00Z", ["2026-07-01T09:00Z"]),
    ("0 0 1 */3 *", "2026-01-01T00:00Z", ["2026-04-01T00:00Z", "2026-07-01T00:00Z", "2026-10-01T00:00Z"]),
    # six fields, seconds first
    ("*/15 * * * * *", "2026-01-01T00:00:50Z", ["2026-01-01T00:01:00Z", "2026-01-01T00:01:15Z"]),
    ("*/1 * * * * *", "2026-12-31T23:59:58.5Z", ["2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"]),
    ("5,10 30 12 * * 3", "2026-01-01T00:00Z", ["2026-01-07T12:30:05Z", "2026-01-07T12:30:10Z"]),
    # aliases
    ("@yearly", "2026-01-01T00:00Z", ["2027-01-01T00:00Z"]),
    ("@monthly", "2026-01-15T00:00Z", ["2026-02-01T00:00Z"]),
    ("@weekly", "2026-01-01T00:00Z", ["2026-01-04T00:00Z", "2026-01-11T00:00Z"]),
    ("@daily", "2026-01-01T00:00Z", ["2026-01-02T00:00Z"]),
    (" @Hourly", "2026-01-01T00:30Z", ["2026-01-01T01:00Z", "2026-01-01T02:00Z"]),
]

#: The same for a whole schedule_info; "never" means that there are no more.
INFOS: list[tuple[dict[str, Any], str, list[str]]] = [
    # parts
    ({"minute": [0, 30]}, "2026-01-01T00:10Z", ["2026-01-01T00:30Z", "2026-01-01T01:00Z"]),
    ({"hour": 9}, "2026-01-01T08:59:30Z", ["2026-01-01T09:00Z", "2026-01-01T09:01Z"]),
    ({"second": [0, 30]}, "2026-01-01T00:00Z", ["2026-01-01T00:00:30Z", "2026-01-01T00:01Z"]),
    ({"hour": 0, "minute": 0, "dayOfWeek": 7}, "2026-01-01T00:00Z", ["2026-01-04T00:00Z"]),
    ({"hour": 0, "minute": 0, "month": 0, "date": 1}, "2026-01-01T00:00Z", ["2027-01-01T00:00Z"]),
    ({"hour": 0, "minute": 0, "month": 11, "date": 31}, "2026-01-01T00:00Z", ["2026-12-31T00:00Z"]),
    # date and dayOfWeek must both match, unlike cron's two day fields: Fridays the 13th
    (
        {"hour": 0, "minute": 0, "date": 13, "dayOfWeek": 5},
        "2026-01-01T00:00Z",
        ["2026-02-13T00:00Z", "2026-03-13T00:00Z", "2026-11-13T00:00Z"],
    ),
    (
        {"year": [2028, 2026], "month": 1, "date": [28, 29], "hour": 0, "minute": 0},
        "2026-01-01T00:00Z",
        ["2026-02-28T00:00Z", "2028-02-28T00:00Z", "2028-02-29T00:00Z", "never"],
    ),
    ({"year": 2020, "hour": 0, "minute": 0}, "2026-01-01T00:00Z", ["never"]),
    ({"hour": "9", "minute": 0.0, "second": None, "date": None}, "2026-01-01T00:00Z", ["2026-01-01T09:00Z"]),
    # start and end, both inclusive
    ({"rule": "0 9 * * *", "start": "2026-06-01T09:00:00Z"}, "2026-01-01T00:00Z", ["2026-06-01T09:00Z"]),
    ({"rule": "0 9 * * *", "start": "2026-06-01T09:00:01Z"}, "2026-01-01T00:00Z", ["2026-06-02T09:00Z"]),
    ({"rule": "0 9 * * *", "start": 1_780_272_000_000}, "2026-01-01T00:00Z", ["2026-06-01T09:00Z"]),
    ({"rule": "0 0 * * *", "start": "2026-07-01", "tz": "Europe/Paris"}, "2026-01-01T00:00Z", ["2026-06-30T22:00Z"]),
    ({"rule": "0 9 * * *", "end": "2026-01-02T09:00:00Z"}, "2026-01-01T09:00Z", ["2026-01-02T09:00Z", "never"]),
    ({"rule": "0 9 * * *", "end": "2025-12-31T00:00:00Z"}, "2026-01-01T00:00Z", ["never"]),
    ({"hour": 9, "minute": 0, "end": "2026-01-01T09:00+00:00"}, "2026-01-01T00:00Z", ["2026-01-01T09:00Z", "never"]),
    # parts inside the rule, as node-schedule accepts them; its zone is the one beside the rule
    ({"rule": {"hour": 14, "minute": 30}}, "2026-01-01T00:00Z", ["2026-01-01T14:30Z", "2026-01-02T14:30Z"]),
    (
        {"rule": {"hour": 14, "minute": 0, "dayOfWeek": [1]}, "start": "2026-01-06", "end": "2026-01-13"},
        "2026-01-01T00:00Z",
        ["2026-01-12T14:00Z", "never"],
    ),
    (
        {"rule": {"hour": 9, "minute": 0, "tz": "Asia/Tokyo"}, "tz": "Europe/Paris", "hour": 3},
        "2026-07-01T00:00Z",
        ["2026-07-01T07:00Z"],
    ),
    # zones
    ({"rule": "0 9 * * *", "tz": "Europe/Paris"}, "2026-07-01T00:00Z", ["2026-07-01T07:00Z"]),
    ({"rule": "30 0 * * *", "tz": "Asia/Kathmandu"}, "2026-01-01T00:00Z", ["2026-01-01T18:45Z"]),
    ({"rule": "0 9 * * *", "tz": "utc"}, "2026-01-01T00:00Z", ["2026-01-01T09:00Z"]),
    ({"rule": "0 9 * * *", "tz": ""}, "2026-01-01T00:00Z", ["2026-01-01T09:00Z"]),
    # unknown keys in the database are ignored
    ({"rule": "0 9 * * *", "note": "before the markets open"}, "2026-01-01T00:00Z", ["2026-01-01T09:00Z"]),
]


@pytest.mark.parametrize(("info", "after", "expected"), [*UTC_RULES, *INFOS])
def test_due_times(info: Any, after: str, expected: list[str]) -> None:
    due_times = itertools.islice(parse(info).upcoming(utc(after)), len(expected))
    assert list(due_times) == [utc(time) for time in expected if time != "never"]


@pytest.mark.parametrize(
    "rule", ["* * * * * *", "*/7 * * * *", "0 0 1 * *", "* 3 1 2 *", "30-40 0 0 1 1 *", "0 9 * * 1"]
)
@pytest.mark.parametrize("span", [timedelta(hours=1), timedelta(days=3), timedelta(days=800)])
def test_latest_returns_the_last_due_times_of_a_span(rule: str, span: timedelta) -> None:
    schedule = parse({"rule": rule, "tz": "America/New_York"})
    first = schedule.next_after(utc("2026-01-01T00:00Z"))
    assert first is not None
    until = first + span
    latest = schedule.latest(first, until, limit=10)
    start = first if len(latest) < 10 else latest[0]
    assert latest == [start, *itertools.takewhile(lambda due_at: due_at <= until, schedule.upcoming(start))]
    assert len(latest) == 10 or first in latest


def test_no_due_time_after_the_year_9999() -> None:
    assert parse({"rule": "0 9 * * *"}).next_after(datetime(9999, 12, 31, 23, tzinfo=UTC)) is None


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text)
