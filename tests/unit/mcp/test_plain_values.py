"""Answers to an assistant are short and visible, and have no values that were not asked for."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import pytest

from jobfn.mcp.plain_values import limited, plain, visible
from jobfn.operations import JobState


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines\tof Grüße 東京", "two\nlines\tof Grüße 東京"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\u200bb\u202ec", r"a\u200bb\u202ec"),
        ("".join(chr(0xE0000 + ord(each)) for each in "hi"), r"\U000e0068\U000e0069"),  # tag characters
        ("\ud800", r"\ud800"),
    ],
)
def test_characters_that_a_person_does_not_see_are_spelled_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_text_is_cut_and_the_rest_is_counted() -> None:
    assert visible("x" * 300) == "x" * 300
    assert visible("x" * 1301) == "x" * 300 + " [1,001 more characters]"


@dataclass(frozen=True)
class Inner:
    payload: str
    at: datetime


@dataclass(frozen=True)
class Outer:
    inner: tuple[Inner, ...]
    state: JobState
    missing: str | None = None


def test_values_become_json_without_empty_and_hidden_fields() -> None:
    at = datetime(2030, 1, 31, 12, 0, 0, 123456, timezone(timedelta(hours=2)))
    outer = Outer((Inner("secret", at),), JobState.READY)
    assert plain(outer, without=("payload",)) == {"inner": [{"at": "2030-01-31T10:00:00.123+00:00"}], "state": "ready"}
    assert plain({"a\u200b": datetime(2030, 1, 1, tzinfo=UTC)}) == {r"a\u200b": "2030-01-01T00:00:00.000+00:00"}


def test_list_has_a_maximum_length() -> None:
    assert limited("tasks", ["a", "b", "c"], 3) == {"tasks": ["a", "b", "c"]}
    assert limited("tasks", ["a", "b", "c"], 2) == {"tasks": ["a", "b"], "more_tasks": 1}
