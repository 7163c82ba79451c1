"""Jobs one by one: lists that stay quick however many there are, and all that is known of one job.

A page goes on below the last id of the page before it, by the primary key, so that no page costs more than the first.
"""

import sys
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg

from jobfn.errors import ConfigurationError
from jobfn.operations.records import Event, JobDetail, JobFilter, JobPage, JobRow, JobState, Run, RunOutcome
from jobfn.operations.statements import Database

MAX_LIMIT = 1000
#: Of one job's attempts so many are shown, the latest: a job that was given back for days has more.
MAX_RUNS = 500
_MAX_ID = 2**63 - 1
_CENTURY_SECONDS = 100 * 365.25 * 86_400

_ENDED = {
    RunOutcome.COMPLETED: "completed",
    RunOutcome.FAILED: "failed, to be tried again",
    RunOutcome.FAILED_FOR_GOOD: "failed for good",
    RunOutcome.RELEASED: "given back, the attempt not counted",
    RunOutcome.LOST: "lost: its worker died, or lost its lease",
    RunOutcome.CANCELLED: "cancelled",
    RunOutcome.REMOVED: "removed",
}


async def list_jobs(database: Database, wanted: JobFilter, *, limit: int, after: str | None) -> JobPage:
    """See ``Operations.list_jobs``."""
    if not 1 <= limit <= MAX_LIMIT:
        raise ConfigurationError(f"a page of {limit} jobs: ask for 1 to {MAX_LIMIT}")
    below = _parse_cursor(after)
    if wanted.state is JobState.COMPLETED:
        jobs = await _completed(database, wanted, below, limit + 1)
    else:
        values = conditions(database, wanted, below)
        rows = await database.fetch("list_jobs", *values, limit + 1, newest_first=wanted.search is not None)
        jobs = [JobRow.of(row) for row in rows]
    more = len(jobs) > limit
    return JobPage(tuple(jobs[:limit]), str(jobs[limit - 1].id) if more else None)


async def count_matching(database: Database, wanted: JobFilter, *, at_most: int) -> int:
    """See ``Operations.count_matching``."""
    if wanted.state is JobState.COMPLETED:
        raise ConfigurationError("completed jobs are not counted: see the throughput")
    rows = await database.fetch("count_jobs", *conditions(database, wanted, None), at_most)
    return int(rows[0]["count"])


async def show_job(database: Database, job_id: int) -> JobDetail | None:
    """See ``Operations.show_job``."""
    if not 0 < job_id <= _MAX_ID:
        return None
    async with database.transaction() as connection:
        row = await connection.fetchrow(database.statement("show_job"), job_id)
        runs: Sequence[asyncpg.Record] = ()
        if database.features.history_days is not None:
            runs = await connection.fetch(database.statement("job_runs"), job_id, MAX_RUNS)
    ended = tuple(Run.of(run) for run in runs)
    if row is None:
        return JobDetail(job_id, ended[0].task, None, None, ended, _timeline(None, ended)) if ended else None
    job = JobRow.of(row)
    return JobDetail(job.id, job.task, job, row["payload"], ended, _timeline(job, ended))


async def states_of(database: Database, ids: Sequence[int]) -> dict[int, JobState]:
    """Where these jobs stand; those that are gone are left out."""
    return {row["id"]: JobState.of(row) for row in await database.fetch("job_states", list(ids))}


def conditions(database: Database, wanted: JobFilter, below: int | None) -> list[Any]:
    """The parameters $1 to $13 of ``jobs_matching.sql``.

    Raises:
        ConfigurationError: The tenant is no UUID, an age is negative, or the search is empty.
    """
    text, number = _parse_search(wanted.search)
    return [
        below,
        _clean(wanted.task),
        _clean(wanted.queue),
        None if wanted.state is None else wanted.state.value,
        _clean(wanted.error),
        text,
        number,
        _tenant(wanted.tenant),
        _clean(wanted.worker),
        _age(wanted.older_than_seconds),
        _age(wanted.newer_than_seconds),
        *_keys_between(text or "", in_byte_order=database.features.keys_in_byte_order),
    ]


async def _completed(database: Database, wanted: JobFilter, below: int | None, limit: int) -> list[JobRow]:
    if database.features.history_days is None:
        raise ConfigurationError(
            f"schema {database.schema} is the platform's own and keeps no history: completed jobs are gone"
        )
    text, number = _parse_search(wanted.search)
    if wanted.error is not None:
        return []  # what was completed has none
    rows = await database.fetch(
        "list_completed",
        below,
        _clean(wanted.task),
        _clean(wanted.queue),
        number,
        _tenant(wanted.tenant),
        _clean(wanted.worker),
        _age(wanted.older_than_seconds),
        _age(wanted.newer_than_seconds),
        text if number is None else None,
        limit,
    )
    return [JobRow.of_run(Run.of(row)) for row in rows]


def _parse_cursor(after: str | None) -> int | None:
    if after is None:
        return None
    if not after.isascii() or not after.isdigit() or int(after) > _MAX_ID:
        raise ConfigurationError(f"{after!r} is no place to go on from: take the `next` of the page before")
    return int(after)


def _parse_search(text: str | None) -> tuple[str | None, int | None]:
    if text is None:
        return None, None
    if not text:  # every key begins with nothing
        raise ConfigurationError("a search for nothing: give an id, or what a key, a task or an error has")
    is_id = text.isascii() and text.isdigit() and int(text) <= _MAX_ID
    return _clean(text), int(text) if is_id else None


def _keys_between(text: str, *, in_byte_order: bool) -> tuple[str, str | None]:
    """The lowest key that may begin with a text, and one that all such keys lie below; None: there is none for certain.

    In every language's order a text comes before what it is the beginning of, but for some letters beyond ASCII.
    """
    lowest = text if in_byte_order or text.isascii() else ""
    last = ord(text[-1]) if text and in_byte_order else sys.maxunicode
    following = 0xE000 if last == 0xD7FF else last + 1  # what lies between is no character
    return lowest, text[:-1] + chr(following) if last < sys.maxunicode else None


def _clean(text: str | None) -> str | None:
    """A text that PostgreSQL can be asked for: what it cannot hold, no job has."""
    return None if text is None else text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _tenant(text: str | None) -> uuid.UUID | None:
    if text is None:
        return None
    try:
        return uuid.UUID(text)
    except ValueError:
        raise ConfigurationError(f"the tenant {text!r} is no UUID") from None


def _age(seconds: float | None) -> timedelta | None:
    if seconds is None:
        return None
    if not seconds >= 0:
        raise ConfigurationError(f"an age of {seconds} seconds: give 0 or more")
    return timedelta(seconds=min(seconds, _CENTURY_SECONDS))


def _timeline(job: JobRow | None, runs: Sequence[Run]) -> tuple[Event, ...]:
    enqueued_at = job.created_at if job is not None else runs[0].enqueued_at
    events = [Event(enqueued_at, "enqueued", "enqueued")]
    for run in runs:
        if run.started_at is not None:
            events.append(Event(run.started_at, "started", f"attempt {run.attempt} on {run.worker}", run.attempt))
        events.append(Event(run.ended_at, "ended", _ENDED[run.outcome], run.attempt, run.outcome, run.error))
    events.sort(key=lambda event: event.at)
    if job is not None and job.locked_at is not None:
        events.append(Event(job.locked_at, "running", f"attempt {job.attempts} runs on {job.locked_by}", job.attempts))
    elif job is not None and job.run_at is not None and job.state in {JobState.READY, JobState.DELAYED}:
        words = "ready since then" if job.state is JobState.READY else "due"
        events.append(Event(job.run_at, "due", words, job.attempts + 1))
    return tuple(events)
