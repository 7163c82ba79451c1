"""Numbers, times and filters as people read them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from jobfn.dashboard.filters import Filter
from jobfn.dashboard.render import breakable, count, duration, first_line, link, moment, pretty
from jobfn.operations import JobState


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "—"),
        (0, "0 ms"),
        (0.0004, "0 ms"),
        (0.0042, "4.2 ms"),
        (0.25, "250 ms"),
        (0.9996, "1 s"),
        (1.54, "1.5 s"),
        (59.9, "59.9 s"),
        (59.99, "60 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (3599, "59 min 59 s"),
        (7800, "2 h 10 min"),
        (86_400, "1 d"),
        (400_000, "4 d 15 h"),
    ],
)
def test_a_length_of_time_has_the_unit_that_fits(seconds: float | None, text: str) -> None:
    """Two units at most."""
    assert duration(seconds) == text


def test_a_name_breaks_after_its_underscores() -> None:
    """On a phone; and it is escaped all the same."""
    assert str(breakable("a_<b>_c")) == "a_<wbr>&lt;b&gt;_<wbr>c"


def test_a_moment_is_absolute_in_utc() -> None:
    """The browser makes it relative; without scripts it is right as it is."""
    at = datetime(2026, 3, 29, 9, 0, tzinfo=timezone(timedelta(hours=2)))
    assert str(moment(at)) == '<time datetime="2026-03-29T07:00:00.000Z">2026-03-29 07:00:00 UTC</time>'
    assert moment(None) == "—"


def test_numbers_and_texts() -> None:
    """Thousands apart, the first line of an error, JSON as JSON and the rest as it is."""
    assert (count(1234567), count(None)) == ("1,234,567", "—")
    assert first_line("\n one\ntwo") == "one"
    assert first_line(None) == ""
    assert pretty('{"ä":1}') == '{\n  "ä": 1\n}'
    assert pretty("no json") == "no json"


def test_a_link_leaves_out_what_is_empty() -> None:
    """And encodes what is not."""
    assert link("/jobs", task="a&b", queue=None, state="") == "/jobs?task=a%26b"
    assert link("/jobs", queue=None) == "/jobs"


def test_a_filter_is_read_and_written() -> None:
    """What is meant goes to the operations; links keep the rest of it."""
    found = Filter.parse("state=failed&task=mail&error=time+out&since=1h&page=7&queue=")
    assert found.meant.state is JobState.FAILED
    assert (found.meant.task, found.meant.error, found.meant.newer_than_seconds) == ("mail", "time out", 3600)
    assert found.query == "state=failed&task=mail&error=time+out&since=1h"
    assert found.having(state=None) == "/jobs?task=mail&error=time+out&since=1h"
    assert found.having(after="x").endswith("&after=x")
    assert Filter.parse("").having() == "/jobs"
    assert Filter.parse("").is_empty


def test_what_a_filter_cannot_mean_is_named_and_left_out() -> None:
    """A mistake in one field does not hide the others."""
    found = Filter.parse({"state": "odd", "tenant": "me", "since": "ever", "before": "1d", "task": "mail"})
    assert set(found.problems) == {"state", "tenant", "since"}
    assert (found.meant.state, found.meant.tenant, found.meant.task) == (None, None, "mail")
    assert found.meant.older_than_seconds == 86_400


def test_times_of_day_are_aware() -> None:
    """A moment without a zone would be taken for the machine's."""
    assert "Z" in str(moment(datetime(2026, 1, 1, tzinfo=UTC)))
