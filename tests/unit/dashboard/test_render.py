"""Template filters, links and the list filter."""

from datetime import datetime, timedelta, timezone

import pytest

from jobfn.dashboard.filters import ListFilter
from jobfn.dashboard.render import breakable, count, duration, first_line, link, pretty_json, timestamp
from jobfn.operations import JobState


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "—"),
        (0.0004, "0 ms"),
        (0.0042, "4.2 ms"),
        (0.25, "250 ms"),
        (1.54, "1.5 s"),
        (59.9, "59.9 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (7800, "2 h 10 min"),
        (400_000, "4 d 15 h"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_breakable_name_is_escaped() -> None:
    assert str(breakable("a_<b>_c")) == "a_<wbr>&lt;b&gt;_<wbr>c"


def test_timestamp_is_in_utc() -> None:
    at = datetime(2026, 3, 29, 9, 0, tzinfo=timezone(timedelta(hours=2)))
    assert str(timestamp(at)) == '<time datetime="2026-03-29T07:00:00.000Z">2026-03-29 07:00:00 UTC</time>'
    assert timestamp(None) == "—"


def test_count_first_line_and_pretty_json() -> None:
    assert (count(1234567), count(None)) == ("1,234,567", "—")
    assert first_line("\n one\ntwo") == "one"
    assert first_line(None) == ""
    assert pretty_json('{"ä":1}') == '{\n  "ä": 1\n}'
    assert pretty_json("no json") == "no json"


def test_link_omits_empty_parameters() -> None:
    assert link("/jobs", task="a&b", queue=None, state="") == "/jobs?task=a%26b"
    assert link("/jobs", queue=None) == "/jobs"


def test_filter_is_parsed_and_written_into_links() -> None:
    list_filter = ListFilter.parse("state=failed&task=mail&error=time+out&since=1h&page=7&queue=")
    job_filter = list_filter.to_job_filter()
    assert job_filter.state is JobState.FAILED
    assert (job_filter.task, job_filter.error, job_filter.newer_than_seconds) == ("mail", "time out", 3600)
    assert list_filter.query == "state=failed&task=mail&error=time+out&since=1h"
    assert list_filter.replace(state=None) == "/jobs?task=mail&error=time+out&since=1h"
    assert list_filter.replace(after="x").endswith("&after=x")
    assert ListFilter.parse("").replace() == "/jobs"
    assert ListFilter.parse("").is_empty


def test_invalid_filter_fields_are_reported_and_ignored() -> None:
    list_filter = ListFilter.parse({"state": "odd", "tenant": "me", "since": "ever", "before": "1d", "task": "mail"})
    assert set(list_filter.problems) == {"state", "tenant", "since"}
    job_filter = list_filter.to_job_filter()
    assert (job_filter.state, job_filter.tenant, job_filter.task) == (None, None, "mail")
    assert job_filter.older_than_seconds == 86_400
