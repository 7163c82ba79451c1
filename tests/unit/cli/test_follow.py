"""Texts of ``jobfn enqueue --follow``."""

from datetime import UTC, datetime

import pytest

from jobfn.cli.follow import final_text, state_text
from jobfn.operations import FinalState, JobRow, JobState, RunOutcome

NOW = datetime(2030, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("final", "text"),
    [
        (FinalState(7, JobState.COMPLETED, RunOutcome.COMPLETED, 2), "job 7 completed in attempt 2"),
        (FinalState(7, JobState.FAILED, RunOutcome.REMOVED, 0), "job 7 was removed"),
        (FinalState(7, JobState.FAILED, RunOutcome.CANCELLED, 1, "too late"), "job 7 was cancelled: too late"),
        (FinalState(7, JobState.FAILED, RunOutcome.LOST, 1, "boom"), "job 7 permanently failed: boom"),
        (
            FinalState(7, JobState.COMPLETED, None, None),
            "job 7 no longer exists: it completed or was removed (this schema has no history)",
        ),
    ],
)
def test_final_state_is_described(final: FinalState, text: str) -> None:
    assert final_text(final) == text


@pytest.mark.parametrize(
    ("job", "text"),
    [
        (JobRow(7, "x", JobState.READY, NOW), "ready"),
        (JobRow(7, "x", JobState.RUNNING, NOW, attempts=2), "running, attempt 2"),
        (
            JobRow(7, "x", JobState.DELAYED, NOW, attempts=1, last_error="boom\n  at line 7"),
            "attempt 1 failed, will be retried: boom at line 7",
        ),
    ],
)
def test_state_is_described(job: JobRow, text: str) -> None:
    assert state_text(job) == text
