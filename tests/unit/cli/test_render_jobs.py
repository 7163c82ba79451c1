"""How jobs and numbers are shown."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from jobfn.cli import render_jobs
from jobfn.operations import (
    Action,
    ActionResult,
    Counts,
    GroupCount,
    JobDetail,
    JobPage,
    JobRow,
    JobState,
    Minute,
    Skipped,
    WorkerRow,
)

NOW = datetime(2030, 1, 31, 12, tzinfo=UTC)
EARLIER = NOW - timedelta(minutes=3)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.0004, "0s"),
        (0.0123, "0.012s"),
        (3.14, "3.1s"),
        (42.4, "42s"),
        (60.0, "1m"),
        (7200.0, "2h"),
        (86_400.0 * 3, "3d"),
    ],
)
def test_a_duration_in_its_largest_unit(seconds: float, text: str) -> None:
    """As people say it, both ways in time."""
    assert render_jobs.seconds_text(seconds) == text
    assert render_jobs.ago(NOW - timedelta(seconds=seconds), NOW) == f"{text} ago"


def test_a_time_to_come() -> None:
    """With in, not ago."""
    assert render_jobs.ago(NOW + timedelta(hours=2), NOW) == "in 2h"


def row(state: JobState, **fields: object) -> JobRow:
    """A job that stands so."""
    values: dict[str, object] = {"id": 7, "task": "send", "state": state, "created_at": EARLIER, "max_attempts": 25}
    return JobRow(**(values | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("job", "when"),
    [
        (row(JobState.READY, run_at=EARLIER), "due 3m ago"),
        (row(JobState.DELAYED, run_at=NOW + timedelta(days=1)), "due in 1d"),
        (row(JobState.RUNNING, locked_at=EARLIER, locked_by="w-1"), "on w-1 since 3m ago"),
        (row(JobState.RUNNING, locked_at=EARLIER, locked_by="w-1", progress=0.5), "on w-1 since 3m ago, 50%"),
        (row(JobState.FAILED, updated_at=EARLIER, last_error="boom\n  at once"), "failed 3m ago  boom at once"),
        (row(JobState.COMPLETED, ended_at=EARLIER, max_attempts=0, attempts=2), "done 3m ago"),
        (row(JobState.READY), ""),
    ],
)
def test_a_line_for_each_job(job: JobRow, when: str) -> None:
    """What matters in its state, and errors in one line."""
    lines = render_jobs.job_table(JobPage((job,), "7"), NOW)
    assert len(lines) == 3
    assert lines[1].endswith(when)
    assert lines[2] == "more: --after 7"


def test_no_job() -> None:
    """Says so."""
    assert render_jobs.job_table(JobPage(()), NOW) == ["no job fits"]


def test_a_payload_that_is_hard_to_read() -> None:
    """JSON that Python does not read is shown as it is."""
    deep = "[" * 100_000 + "]" * 100_000
    for payload in ("{broken", deep):
        detail = JobDetail(7, "send", row(JobState.READY), payload, ())
        assert payload in "\n".join(render_jobs.detail_lines(detail, NOW))


def test_throughput_of_nothing_and_of_something() -> None:
    """No history, no attempt, and both kinds of end."""
    assert "no history" in render_jobs.throughput_line(())
    assert render_jobs.throughput_line((Minute(NOW),)) == "last 1 minutes: 0 completed, 0 failed"
    busy = Minute(NOW, 3, 1, 2.0, 1.0, 5.0, 6.0, 0.1)
    assert render_jobs.throughput_line((Minute(EARLIER), busy)) == (
        "last 2 minutes: 3 completed, 1 failed; 2s each on average, 6s at most"
    )


def test_workers_and_none() -> None:
    """What is not known of an unregistered one is a question mark."""
    assert "start `jobfn service`" in render_jobs.worker_lines((), NOW)[0]
    lines = render_jobs.worker_lines(
        (WorkerRow("node-1", holds=2), WorkerRow("w-1", "h", 7, "1", ("worker",), 16, 3)), NOW
    )
    assert lines[1].split() == ["node-1", "yes", "?", "?", "?", "?", "?", "2", "?", "by", "its", "locks"]
    assert "3/16" in lines[2]


def test_what_was_left_is_named() -> None:
    """The first of them, and how many more."""
    result = ActionResult(Action.RETRY, 1, (7,), (Skipped(8, "it runs"),), 5)
    assert render_jobs.result_lines(result, "retried") == ["retried 1 job", "left job 8: it runs", "left 4 more"]


def test_counts_without_groups() -> None:
    """One line."""
    counts = Counts(NOW, 1, 0, 0, 0, 3.0, (), (GroupCount("q", 1, 0, 0, 0),), 0.1)
    assert render_jobs.count_lines(counts)[0].endswith("(the oldest ready one for 3s)")
    assert json.loads(render_jobs.as_json(counts))["taken_at"] == "2030-01-31T12:00:00+00:00"
