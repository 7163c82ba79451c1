"""Wait for one job to finish. It is polled, since the database does not announce the end of a job."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobfn.errors import ConfigurationError
from jobfn.operations.queries import get_job, get_job_row
from jobfn.operations.records import JobDetail, JobRow, JobState, RunOutcome
from jobfn.operations.statements import Database

#: Outcomes of jobs that have ended and kept their row, by their states, without a history.
_ENDED_OUTCOMES = {
    JobState.FAILED: RunOutcome.PERMANENTLY_FAILED,
    JobState.CANCELLED: RunOutcome.CANCELLED,
    JobState.EXPIRED: RunOutcome.EXPIRED,
}


@dataclass(frozen=True, slots=True)
class FinalState:
    """How a job ended.

    Attributes:
        state: ``COMPLETED``, ``FAILED``, ``CANCELLED`` or ``EXPIRED``.
        outcome: Outcome of the last attempt. None: the row was deleted and there is no history, so the job completed or
            an operator removed it.
        attempts: Number of attempts; None if unknown.
    """

    id: int
    state: JobState
    outcome: RunOutcome | None
    attempts: int | None
    error: str | None = None


async def follow(
    database: Database, job_id: int, *, poll_interval_seconds: float, on_change: Callable[[JobRow], None] | None
) -> FinalState:
    """See ``Operations.follow``."""
    previous: JobRow | None = None
    while (job := await get_job_row(database, job_id)) is not None:
        if job.state in _ENDED_OUTCOMES:
            ended = await get_job(database, job_id)
            outcome = ended.runs[-1].outcome if ended is not None and ended.runs else _ENDED_OUTCOMES[job.state]
            return FinalState(job_id, job.state, outcome, job.attempts, job.last_error)
        if on_change is not None and (previous is None or _visible_state(previous) != _visible_state(job)):
            on_change(job)
        previous = job
        await asyncio.sleep(poll_interval_seconds)
    detail = await get_job(database, job_id)
    if detail is None and previous is None and database.capabilities.history:
        raise ConfigurationError(f"job {job_id} is not in the queue or its history: see `jobfn jobs list`")
    return _final_state(job_id, detail)


def _final_state(job_id: int, detail: JobDetail | None) -> FinalState:
    """Return the final state of a job whose row was deleted."""
    if detail is None:
        return FinalState(job_id, JobState.COMPLETED, None, None)
    if not detail.runs:  # the history is turned off, and the completed job is stored
        return FinalState(job_id, JobState.COMPLETED, RunOutcome.COMPLETED, None)
    last = detail.runs[-1]
    if last.outcome is RunOutcome.COMPLETED:
        return FinalState(job_id, JobState.COMPLETED, last.outcome, last.attempt)
    state = {RunOutcome.CANCELLED: JobState.CANCELLED, RunOutcome.EXPIRED: JobState.EXPIRED}.get(
        last.outcome, JobState.FAILED
    )
    return FinalState(job_id, state, last.outcome, last.attempt, last.error)


def _visible_state(job: JobRow) -> tuple[Any, ...]:
    return job.state, job.attempts, job.progress, job.progress_message
