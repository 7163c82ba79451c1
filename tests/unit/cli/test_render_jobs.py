"""Jobs and statistics as text and JSON."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from jobfn.cli import render_jobs, render_times
from jobfn.database.connection import LATEST
from jobfn.operations import (
    Action,
    ActionResult,
    GroupCount,
    JobCounts,
    JobDetail,
    JobPage,
    JobRow,
    JobState,
    ThroughputBucket,
    WorkerRow,
)
from jobfn.operations.actions import Skipped

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
def test_duration_is_formatted_in_its_largest_unit(seconds: float, text: str) -> None:
    assert render_times.seconds_text(seconds) == text
    assert render_times.ago(NOW - timedelta(seconds=seconds), NOW) == f"{text} ago"


def test_future_time_is_formatted_with_in() -> None:
    assert render_times.ago(NOW + timedelta(hours=2), NOW) == "in 2h"


def row(state: JobState, **fields: object) -> JobRow:
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
        (row(JobState.COMPLETED, ended_at=EARLIER, max_attempts=0, attempts=2), "completed 3m ago"),
        (row(JobState.READY), ""),
    ],
)
def test_job_line_ends_with_what_matters_in_its_state(job: JobRow, when: str) -> None:
    lines = render_jobs.job_table(JobPage((job,), "7"), NOW)
    assert len(lines) == 3
    assert lines[1].endswith(when)
    assert lines[2] == "more: --after 7"


def test_job_list_fits_80_columns_with_as_much_of_the_error_as_possible() -> None:
    error = "could not connect to the mail server: connection refused"
    job = row(JobState.FAILED, task="send_email", attempts=25, updated_at=EARLIER, last_error=error)
    assert render_jobs.job_table(JobPage((job,)), NOW, max_width=80) == [
        "ID  STATE   TASK        ATTEMPTS  ENQUEUED  WHEN           ERROR",
        "7   failed  send_email  25/25     3m ago    failed 3m ago  could not connect to…",
    ]


def test_long_name_leaves_room_for_the_other_columns() -> None:
    rows = [("TASK", "READY", "FAILED"), ("very_" * 25, "1", "2"), ("send", "3", "4")]
    assert render_times.columns(rows, max_width=40) == [
        "TASK                       READY  FAILED",
        "very_very_very_very_very…  1      2",
        "send                       3      4",
    ]


def test_table_that_is_too_wide_for_its_columns_is_cut() -> None:
    assert render_times.columns([("A" * 8, "B" * 8), ("1", "")], max_width=6) == ["AAAAA…", "1"]
    assert render_times.columns([("WHEN", "ON"), ("1" * 12, "2" * 12)], max_width=22, whole=1) == [
        "WHEN          ON",
        "111111111111  2222222…",
    ]


def test_snoozes_are_shown_beside_the_attempts() -> None:
    job = row(JobState.DELAYED, attempts=1, snoozes=29, run_at=NOW)
    assert "1/25, snoozed 29 " in render_jobs.job_table(JobPage((job,)), NOW)[1]
    lines = render_jobs.detail_lines(JobDetail(7, "send", job, "{}", ()), NOW)
    assert "    attempts    1 of 25, snoozed 29" in lines
    assert not any(
        "snoozed" in line for line in render_jobs.detail_lines(JobDetail(7, "send", row(JobState.READY), "{}", ()), NOW)
    )


def test_parks_are_shown_beside_the_attempts() -> None:
    job = row(JobState.PARKED, attempts=2, snoozes=3, parks=3, run_at=NOW + timedelta(hours=2))
    line = render_jobs.job_table(JobPage((job,)), NOW)[1]
    assert "  parked  " in line
    assert "2/25, parked 3 times " in line
    assert line.endswith("wakes in 2h")
    assert "    attempts    2 of 25, parked 3 times" in render_jobs.detail_lines(
        JobDetail(7, "send", job, "{}", ()), NOW
    )
    waiting = row(JobState.PARKED, snoozes=1, parks=1, run_at=LATEST)
    assert render_jobs.job_table(JobPage((waiting,)), NOW)[1].endswith("parked once  3m ago    waits")


def test_empty_page_says_so() -> None:
    assert render_jobs.job_table(JobPage(()), NOW) == ["no matching jobs"]


def test_payload_that_python_cannot_parse_is_shown_unchanged() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    for payload in ("{broken", deep):
        detail = JobDetail(7, "send", row(JobState.READY), payload, ())
        assert payload in "\n".join(render_jobs.detail_lines(detail, NOW))


def test_throughput_line() -> None:
    assert "no history" in render_jobs.throughput_line(())
    assert render_jobs.throughput_line((ThroughputBucket(NOW),)) == "last 1 minutes: 0 completed, 0 failed"
    busy = ThroughputBucket(NOW, 3, 1, 2.0, 1.0, 5.0, 6.0, 0.1)
    assert render_jobs.throughput_line((ThroughputBucket(EARLIER), busy)) == (
        "last 2 minutes: 3 completed, 1 failed; duration 2s on average, 6s at most"
    )


def test_worker_lines_show_question_marks_for_unknown_values() -> None:
    assert "start `jobfn service`" in render_jobs.worker_lines((), NOW)[0]
    lines = render_jobs.worker_lines(
        (WorkerRow("node-1", held_jobs=2), WorkerRow("w-1", "h", 7, "1", ("worker",), 16, 3, is_alive=False)), NOW
    )
    assert lines[1].split() == ["node-1", "?", "?", "2", "by", "its", "locks", "?", "?", "?", "?", "?"]
    assert lines[2].split()[:2] == ["w-1", "no"]
    assert "3/16" in lines[2]
    limited = WorkerRow("w-2", "h", 7, "1", ("worker",), 16, 3, is_alive=True, tasks=("print",), queues=("",))
    assert "  print; queues none  " in render_jobs.worker_lines((limited,), NOW)[1]
    roles = ("worker", "callbacks", "scheduler")
    wide = WorkerRow("jobfn-service-7d4b9", "node-17.example", 12345, "0.1.0", roles, 16, 3, is_alive=True)
    assert render_jobs.worker_lines((wide,), NOW, max_width=80) == [
        "WORKER               ALIVE  IN FLIGHT  HELD  LAST SEEN     STARTED  ROLES     H…",
        "jobfn-service-7d4b9  yes    3/16       0     by its locks  ?        worker,…  n…",
    ]


def test_result_lists_skipped_jobs() -> None:
    result = ActionResult(Action.RETRY, 1, (7,), (Skipped(8, "it is running"),), 5)
    assert render_jobs.result_lines(result, "retried") == [
        "retried 1 job",
        "skipped job 8: it is running",
        "skipped 4 more",
    ]


def test_counts_show_the_age_of_the_oldest_ready_job() -> None:
    counts = JobCounts(NOW, 1, 0, 0, 0, 3.0, (), (GroupCount("q", 1, 0, 0, 0),), 0.1)
    assert render_jobs.format_counts(counts)[0].endswith("(oldest ready job: 3s)")
    assert json.loads(render_jobs.as_json(counts))["taken_at"] == "2030-01-31T12:00:00+00:00"
