"""Invalid schedules: the error names the place, the value and what to write instead, in one line."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobfn.errors import InvalidSchedule
from jobfn.scheduler.humanize import humanize
from jobfn.scheduler.rule import parse

CASES: list[tuple[Any, list[str]]] = [
    ("0 25 * * *", ["hour (field 2 of 5)", "'25'", "0-23"]),
    ("60 * * * *", ["minute (field 1 of 5)", "'60'", "0-59"]),
    ("0 9 0 * *", ["day of month (field 3 of 5)", "'0'", "1-31"]),
    ("0 9 * 13 *", ["month (field 4 of 5)", "'13'", "JAN-DEC"]),
    ("0 9 * * MON,FOO", ["day of week (field 5 of 5)", "'FOO' in 'MON,FOO'"]),
    ("0 9 * * 5-1", ["day of week", "'5-1'"]),
    ("1,,2 * * * *", ["minute", "'' in '1,,2'"]),
    ("-5 * * * *", ["minute", "'-5'"]),
    ("0 0 * * MON#6", ["day of week", "'MON#6'"]),
    ("9" * 900 + " * * * *", ["minute"]),
    ("* * * *", ["4 fields", "seconds first"]),
    ("@reboot", ["there is no such alias", "@daily"]),
    ("0 0 31 2 *", ["matches no date"]),
    ("0 0 */20 * 1L", ["matches no date"]),
    ("* " * 5000, ["must not be longer than 1000 characters"]),
    ({}, ["has no rule", '"rule"']),
    (None, ["schedule_info cannot be None"]),
    (["0 9 * * *"], ["schedule_info cannot be"]),
    ({"rule": 9}, ["rule cannot be 9"]),
    ({"rule": {}}, ["has no rule", '"hour": 9']),
    ({"rule": {"hour": 24}, "start": "2026-01-01"}, ["hour cannot be 24", "0 to 23"]),
    ({"hour": 24}, ["hour cannot be 24", "0 to 23"]),
    ({"hour": [8, "noon"]}, ["hour cannot be [8, 'noon']"]),
    ({"minute": True}, ["minute cannot be True"]),
    ({"minute": 0.5}, ["minute cannot be 0.5"]),
    ({"month": 12}, ["month cannot be 12", "0 is January"]),
    ({"dayOfWeek": 8}, ["dayOfWeek cannot be 8", "0 is Sunday"]),
    ({"date": 31, "month": 1}, ["date 31 does not exist in month 1"]),
    ({"rule": "0 9 * * *", "tz": "Europe/Pari"}, ["tz 'Europe/Pari' is not a time zone", "did you mean Europe/Paris?"]),
    ({"rule": "0 9 * * *", "tz": "/etc/passwd"}, ["is not a time zone"]),
    ({"rule": "0 9 * * *", "tz": "Europe"}, ["tz 'Europe' is not a time zone"]),
    ({"rule": "0 9 * * *", "tz": 2}, ["tz cannot be 2"]),
    ({"rule": "0 9 * * *", "start": "soon"}, ["start cannot be 'soon'", "ISO 8601"]),
    ({"rule": "0 9 * * *", "end": True}, ["end cannot be True"]),
    ({"rule": "0 9 * * *", "start": "2026-02-01", "end": "2026-01-01"}, ["must not be before start"]),
    ({"rule": "0 9 * * *", "jitter_seconds": -1}, ["jitter_seconds cannot be -1", "from 0 to 31,622,400"]),
    ({"rule": "0 9 * * *", "expires_in_seconds": 0}, ["expires_in_seconds cannot be 0", "above 0"]),
    ({"rule": "0 9 * * *", "expires_in_seconds": "1h"}, ["expires_in_seconds cannot be '1h'", "from 0 to 31,622,400"]),
    ({"rule": "0 9 * * *", "jitter_seconds": True}, ["jitter_seconds cannot be True"]),
    ({"rule": "0 9 * * *", "catch_up_window_seconds": "1h"}, ["catch_up_window_seconds cannot be '1h'"]),
    ({"rule": "0 9 * * *", "catch_up": "some"}, ["catch_up cannot be 'some'", "one", "all", "none"]),
]


@pytest.mark.parametrize(("info", "phrases"), CASES, ids=[str(info)[:40] for info, _ in CASES])
def test_invalid_schedule_error_names_place_and_value(info: Any, phrases: list[str]) -> None:
    with pytest.raises(InvalidSchedule) as raised:
        parse(info)
    message = str(raised.value)
    assert [phrase for phrase in phrases if phrase not in message] == []
    assert "\n" not in message
    assert len(message) < 1500


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"rule": "0 9 * * *", "timezone": "Europe/Paris"}, "unknown key 'timezone'"),
        ({"hour": 9, "dayofweek": 1}, "did you mean dayOfWeek?"),
        ({"rule": "0 9 * * *", "hour": 9}, "rule and hour exclude each other"),
        ({"rule": {"hour": 9, "minut": 0}}, "rule has an unknown key 'minut': did you mean minute?"),
        ({"rule": {"hour": 9, "tz": "UTC"}}, "rule has an unknown key 'tz'"),
    ],
)
def test_strict_parsing_rejects_unknown_and_conflicting_keys(info: Any, message: str) -> None:
    parse(info)
    with pytest.raises(InvalidSchedule, match=re.escape(message)):
        parse(info, strict=True)


@given(
    st.one_of(
        st.text(),
        st.lists(st.text("0123456789*/,-L#W?JANMOFRISU ", max_size=8), min_size=5, max_size=6).map(" ".join),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["rule", "start", "end", "tz", "hour", "date", "year", "month"]), inner
                )
            ),
        ),
    )
)
def test_any_value_is_either_invalid_or_can_be_described(info: Any) -> None:
    try:
        schedule = parse(info)
    except InvalidSchedule:
        return
    assert humanize(schedule)
