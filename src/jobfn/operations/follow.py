"""Waiting for one job's end: it is asked for again and again, since a job's end is announced to nobody."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from jobfn.errors import ConfigurationError
from jobfn.operations.queries import show_job
from jobfn.operations.records import JobDetail, JobRow, JobState, RunOutcome
from jobfn.operations.statements import Database


@dataclass(frozen=True, slots=True)
class FinalState:
    """How a job ended.

    Attributes:
        id: ``jobs.id``.
        state: ``COMPLETED`` or ``FAILED``.
        outcome: Of its last attempt; None: its row is gone, and there is no history to ask. It was completed, or
            somebody removed it.
        attempts: How many it took; None: not known.
        error: Why it failed.
    """

    id: int
    state: JobState
    outcome: RunOutcome | None
    attempts: int | None
    error: str | None = None


async def follow(
    database: Database, job_id: int, *, poll_interval_seconds: float, changed: Callable[[JobRow], None] | None
) -> FinalState:
    """See ``Operations.follow``."""
    seen: JobRow | None = None
    while (detail := await show_job(database, job_id)) is not None and detail.job is not None:
        if detail.state is JobState.FAILED:
            last = detail.runs[-1].outcome if detail.runs else RunOutcome.FAILED_FOR_GOOD
            return FinalState(job_id, JobState.FAILED, last, detail.job.attempts, detail.job.last_error)
        if changed is not None and _news(seen, detail.job):
            changed(detail.job)
        seen = detail.job
        await asyncio.sleep(poll_interval_seconds)
    if detail is None and seen is None and database.features.history:
        raise ConfigurationError(f"there is no job {job_id}, nor has history one: see `jobfn jobs list`")
    return _gone(job_id, detail)


def _gone(job_id: int, detail: JobDetail | None) -> FinalState:
    if detail is None:
        return FinalState(job_id, JobState.COMPLETED, None, None)
    last = detail.runs[-1]
    if last.outcome is RunOutcome.COMPLETED:
        return FinalState(job_id, JobState.COMPLETED, last.outcome, last.attempt)
    return FinalState(job_id, JobState.FAILED, last.outcome, last.attempt, last.error)


def _news(before: JobRow | None, now: JobRow) -> bool:
    if before is None:
        return True
    return (before.state, before.attempts, before.progress, before.progress_note) != (
        now.state,
        now.attempts,
        now.progress,
        now.progress_note,
    )
