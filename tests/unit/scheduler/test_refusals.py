"""Broken schedules: each is refused in one line that names the place, what stands there, and what would do."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobfn.errors import InvalidSchedule
from jobfn.scheduler.humanize import in_words
from jobfn.scheduler.rule import parse

RULES: list[tuple[str, list[str]]] = [
    ("0 25 * * *", ["hour (field 2 of 5)", "'25'", "0-23"]),
    ("0 0 25 * * *", ["hour (field 3 of 6)", "'25'"]),
    ("60 * * * *", ["minute (field 1 of 5)", "'60'", "0-59"]),
    ("61 * * * * *", ["second (field 1 of 6)", "'61'"]),
    ("0 9 0 * *", ["day of month (field 3 of 5)", "'0'", "1-31"]),
    ("0 9 * 13 *", ["month (field 4 of 5)", "'13'", "JAN-DEC"]),
    ("0 9 * * MON,FOO", ["day of week (field 5 of 5)", "'FOO' in 'MON,FOO'"]),
    ("0 9 * * 5-1", ["day of week", "'5-1'"]),
    ("1,,2 * * * *", ["minute", "'' in '1,,2'"]),
    ("*/0 * * * *", ["minute", "'*/0'"]),
    ("-5 * * * *", ["minute", "'-5'"]),
    ("a * * * *", ["minute", "'A'"]),
    ("0 0 * * MON#6", ["day of week", "'MON#6'"]),
    ("9" * 900 + " * * * *", ["minute"]),
    ("* * * *", ["4 fields", "seconds first"]),
    ("* * * * * * 2026", ["7 fields"]),
    ("", ["0 fields"]),
    ("@reboot", ["no such name", "@daily"]),
    ("0 0 31 2 *", ["never comes"]),
    ("0 0 30 2 *", ["never comes"]),
    ("0 0 */20 * 1L", ["never comes"]),
    ("* " * 5000, ["longer than 1000 characters"]),
]

INFOS: list[tuple[Any, list[str]]] = [
    ({}, ["says no time", '"rule"']),
    ({"tz": "UTC"}, ["says no time"]),
    (None, ["schedule_info cannot be None"]),
    (["0 9 * * *"], ["schedule_info cannot be"]),
    ({"rule": 9}, ["rule cannot be 9"]),
    ({"rule": {"hour": 9}}, ["rule cannot be"]),
    ({"hour": 24}, ["hour cannot be 24", "0 to 23"]),
    ({"hour": [8, "noon"]}, ["hour cannot be [8, 'noon']"]),
    ({"minute": []}, ["minute cannot be []"]),
    ({"minute": True}, ["minute cannot be True"]),
    ({"minute": 0.5}, ["minute cannot be 0.5"]),
    ({"month": 12}, ["month cannot be 12", "0 is January"]),
    ({"dayOfWeek": 8}, ["dayOfWeek cannot be 8", "0 is Sunday"]),
    ({"date": 31, "month": 1}, ["date 31 never comes in month 1"]),
    ({"rule": "0 9 * * *", "tz": "Europe/Pari"}, ["no time zone 'Europe/Pari'", "did you mean Europe/Paris?"]),
    ({"rule": "0 9 * * *", "tz": "+02:00"}, ["no time zone '+02:00'"]),
    ({"rule": "0 9 * * *", "tz": "/etc/passwd"}, ["no time zone"]),
    ({"rule": "0 9 * * *", "tz": "Europe"}, ["no time zone 'Europe'"]),
    ({"rule": "0 9 * * *", "tz": 2}, ["tz cannot be 2"]),
    ({"rule": "0 9 * * *", "start": "soon"}, ["start cannot be 'soon'", "ISO 8601"]),
    ({"rule": "0 9 * * *", "end": 1e300}, ["end cannot be"]),
    ({"rule": "0 9 * * *", "end": True}, ["end cannot be True"]),
    ({"rule": "0 9 * * *", "start": "2026-02-01", "end": "2026-01-01"}, ["lies before start"]),
    ({"rule": "0 9 * * *", "catch_up": "some"}, ["catch_up cannot be 'some'", "one", "all", "none"]),
]


@pytest.mark.parametrize(("rule", "said"), RULES, ids=[rule[:30] for rule, _ in RULES])
def test_a_broken_rule_is_refused_by_field(rule: str, said: list[str]) -> None:
    """The error names the field and what stands there."""
    with pytest.raises(InvalidSchedule) as refusal:
        parse({"rule": rule})
    assert [words for words in said if words not in str(refusal.value)] == []
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 1500


@pytest.mark.parametrize(("info", "said"), INFOS, ids=[str(info)[:40] for info, _ in INFOS])
def test_a_broken_schedule_info_is_refused_by_key(info: Any, said: list[str]) -> None:
    """The error names the key and what stands there."""
    with pytest.raises(InvalidSchedule) as refusal:
        parse(info)
    assert [words for words in said if words not in str(refusal.value)] == []


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"rule": "0 9 * * *", "timezone": "Europe/Paris"}, "no key 'timezone'"),
        ({"hour": 9, "dayofweek": 1}, "did you mean dayOfWeek?"),
        ({"rule": "0 9 * * *", "hour": 9}, "rule and hour exclude each other"),
    ],
)
def test_what_is_written_now_is_judged_more_strictly_than_what_stands_in_a_table(info: Any, said: str) -> None:
    """A key that nobody reads is refused in new schedules, and passed over in old ones."""
    parse(info)
    with pytest.raises(InvalidSchedule) as refusal:
        parse(info, strict=True)
    assert said in str(refusal.value)


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
def test_whatever_stands_in_the_table_is_read_or_refused(info: Any) -> None:
    """No value makes it fail in another way, and whatever was read can be said in words."""
    try:
        schedule = parse(info)
    except InvalidSchedule:
        return
    assert in_words(schedule)
