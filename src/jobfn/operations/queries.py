"""Lists of jobs, and the details of one job.

Lists use keyset pagination: a page starts below the last id of the page before, by the primary key, so that no page
costs more than the first. In the order of the last change, which has no index because each claim would have to maintain
it, a page starts below the last time and id.
"""

import re
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from jobfn.database.connection import LATEST
from jobfn.errors import ConfigurationError
from jobfn.operations.durable_runs import read_run
from jobfn.operations.records import Event, JobDetail, JobFilter, JobOrder, JobPage, JobRow, JobState, Run, RunOutcome
from jobfn.operations.statements import Database
from jobfn.operations.wait_reasons import read_wait_reasons

#: Maximum size of a page.
MAX_LIMIT = 1000
#: Maximum number of attempts in a job's details, the latest ones. A job that is released for days has more.
MAX_RUNS = 500
_MAX_ID = 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_CENTURY_SECONDS = 100 * 365.25 * 86_400

_DUE_TEXTS = {JobState.READY: "ready since", JobState.DELAYED: "due", JobState.PARKED: "wakes at the latest"}
_OUTCOME_TEXTS = {
    RunOutcome.COMPLETED: "completed",
    RunOutcome.FAILED: "failed, will be retried",
    RunOutcome.PERMANENTLY_FAILED: "permanently failed",
    RunOutcome.RELEASED: "released (attempt not counted)",
    RunOutcome.SNOOZED: "snoozed (attempt not counted)",
    RunOutcome.PARKED: "parked (attempt not counted)",
    RunOutcome.LOST: "lost: the worker died or its lease expired",
    RunOutcome.CANCELLED: "cancelled",
    RunOutcome.EXPIRED: "expired: not started in time",
    RunOutcome.REMOVED: "removed",
}


async def list_jobs(
    database: Database, job_filter: JobFilter, *, limit: int, after: str | None, order: JobOrder
) -> JobPage:
    """See ``Operations.list_jobs``."""
    if not 1 <= limit <= MAX_LIMIT:
        raise ConfigurationError(f"the limit {limit} is out of range: use 1 to {MAX_LIMIT}")
    if order is JobOrder.UPDATED:
        return await _list_updated(database, job_filter, limit, after)
    below = _parse_cursor(after)
    if job_filter.state is JobState.COMPLETED:
        jobs = await _list_completed(database, job_filter, below, limit + 1)
    else:
        values = filter_parameters(database, job_filter, below)
        rows = await database.fetch("list_jobs", *values, limit + 1, newest_first=job_filter.search is not None)
        jobs = [JobRow.from_row(row) for row in rows]
    has_more = len(jobs) > limit
    return JobPage(tuple(jobs[:limit]), str(jobs[limit - 1].id) if has_more else None)


async def _list_updated(database: Database, job_filter: JobFilter, limit: int, after: str | None) -> JobPage:
    if job_filter.state is JobState.COMPLETED:
        raise ConfigurationError("completed jobs are listed newest first only: choose another order or state")
    updated_at, below = _parse_updated_cursor(after)
    values = filter_parameters(database, job_filter, None)
    rows = await database.fetch("list_updated_jobs", *values, limit + 1, updated_at, below)
    jobs = [JobRow.from_row(row) for row in rows[:limit]]
    if len(rows) <= limit:
        return JobPage(tuple(jobs))
    last = rows[limit - 1]
    return JobPage(tuple(jobs), f"{(last['updated_at'] - _EPOCH) // _MICROSECOND}-{last['id']}")


async def count_matching(database: Database, job_filter: JobFilter, *, limit: int) -> int:
    """See ``Operations.count_matching``."""
    if job_filter.state is JobState.COMPLETED:
        raise ConfigurationError("completed jobs cannot be counted: use the throughput instead")
    rows = await database.fetch("count_jobs", *filter_parameters(database, job_filter, None), limit)
    return int(rows[0]["count"])


async def get_job(database: Database, job_id: int) -> JobDetail | None:
    """See ``Operations.get_job``."""
    if not 0 < job_id <= _MAX_ID:
        return None
    async with database.transaction() as connection:
        row = await connection.fetchrow(database.statement("show_job"), job_id)
        run_rows: Sequence[asyncpg.Record] = ()
        if database.capabilities.history_days is not None:
            run_rows = await connection.fetch(database.statement("job_runs"), job_id, MAX_RUNS)
        run = None
        if row is not None and row["has_steps"]:
            run = await read_run(connection, database, job_id, is_parked=row["is_parked"])
        wait = None
        if row is not None and not row["is_running"] and not row["exhausted"]:
            wait = next(iter(await read_wait_reasons(connection, database, job_id)), None)
    runs = tuple(Run.from_row(run_row) for run_row in run_rows)
    if row is None:
        return await _get_completed(database, job_id, runs)
    job = JobRow.from_row(row)
    return JobDetail(job.id, job.task, job, row["payload"], runs, _timeline(job, runs), run, row["parent_id"], wait)


async def get_job_row(database: Database, job_id: int) -> JobRow | None:
    """Return a job without its attempts, its steps and why it waits; None if it has no row."""
    if not 0 < job_id <= _MAX_ID:
        return None
    rows = await database.fetch("show_job", job_id)
    return JobRow.from_row(rows[0]) if rows else None


async def _get_completed(database: Database, job_id: int, runs: tuple[Run, ...]) -> JobDetail | None:
    stored = None
    if not database.capabilities.is_platform:
        stored = next(iter(await database.fetch("show_completed", job_id)), None)
    if runs:
        payload = None if stored is None else stored["payload"]
        return JobDetail(job_id, runs[0].task, None, payload, runs, _timeline(None, runs))
    if stored is None:
        return None
    events = (
        Event(stored["created_at"], "enqueued", "enqueued"),
        Event(stored["completed_at"], "ended", "completed", outcome=RunOutcome.COMPLETED),
    )
    return JobDetail(job_id, stored["task_identifier"], None, stored["payload"], (), events)


async def job_states(database: Database, job_ids: Sequence[int]) -> dict[int, JobState]:
    """Return the states of these jobs, by id, without those that do not exist."""
    return {row["id"]: JobState.from_row(row) for row in await database.fetch("job_states", list(job_ids))}


def filter_parameters(database: Database, job_filter: JobFilter, below: int | None) -> list[Any]:
    """Return the parameters $1 to $18 of the query ``jobs_matching``.

    Raises:
        ConfigurationError: The tenant is not a UUID, an age is negative, the search is empty, or the error group is
            not an id.
    """
    search, search_id = _parse_search(job_filter.search)
    return [
        below,
        _sanitize(job_filter.task),
        _sanitize(job_filter.queue),
        None if job_filter.state is None else job_filter.state.value,
        _sanitize(job_filter.error),
        search,
        search_id,
        _parse_tenant(job_filter.tenant),
        _sanitize(job_filter.worker),
        _age(job_filter.older_than_seconds),
        _age(job_filter.newer_than_seconds),
        *_key_range(search or "", in_byte_order=database.capabilities.keys_in_byte_order),
        _age(job_filter.failed_before_seconds),
        _age(job_filter.failed_after_seconds),
        *_payload(job_filter),
        _parse_group(job_filter.error_group),
    ]


def completed_parameters(job_filter: JobFilter, below: int | None) -> list[Any]:
    """Return the parameters $1 to $11 of the queries about completed jobs. Errors as ``filter_parameters``."""
    search, search_id = _parse_search(job_filter.search)
    return [
        below,
        _sanitize(job_filter.task),
        _sanitize(job_filter.queue),
        search_id,
        _parse_tenant(job_filter.tenant),
        _sanitize(job_filter.worker),
        _age(job_filter.older_than_seconds),
        _age(job_filter.newer_than_seconds),
        search if search_id is None else None,
        *_payload(job_filter),
    ]


async def _list_completed(database: Database, job_filter: JobFilter, below: int | None, limit: int) -> list[JobRow]:
    if database.capabilities.history_days is None:
        raise ConfigurationError(
            f"schema {database.schema} is the platform's own and has no history: completed jobs cannot be listed"
        )
    values = completed_parameters(job_filter, below)
    if job_filter.excludes_completed:
        return []
    rows = await database.fetch("list_completed", *values, limit)
    return [JobRow.from_run(Run.from_row(row)) for row in rows]


def _parse_cursor(after: str | None) -> int | None:
    if after is None:
        return None
    if not after.isascii() or not after.isdigit() or int(after) > _MAX_ID:
        raise ConfigurationError(f"invalid cursor {after!r}: pass the `next` value of the previous page")
    return int(after)


def _parse_updated_cursor(after: str | None) -> tuple[datetime | None, int | None]:
    if after is None:
        return None, None
    match = re.fullmatch(r"([0-9]{1,17})-([0-9]{1,19})", after)
    if match is None or int(match[2]) > _MAX_ID:
        raise ConfigurationError(f"invalid cursor {after!r}: pass the `next` value of the previous page")
    return _EPOCH + int(match[1]) * _MICROSECOND, int(match[2])


def _parse_search(text: str | None) -> tuple[str | None, int | None]:
    """Return the search text, and the id if it is one."""
    if text is None:
        return None, None
    if not text:  # every key starts with the empty text
        raise ConfigurationError("empty search text: give an id, the start of a key or task, or a part of an error")
    is_id = text.isascii() and text.isdigit() and int(text) <= _MAX_ID
    return _sanitize(text), int(text) if is_id else None


def _key_range(prefix: str, *, in_byte_order: bool) -> tuple[str, str | None]:
    """Return a lower bound and an exclusive upper bound (None: unknown) of the keys that start with a prefix.

    In the collation of any language a text sorts before its continuations, except for some letters beyond ASCII.
    """
    lower = prefix if in_byte_order or prefix.isascii() else ""
    last = ord(prefix[-1]) if prefix and in_byte_order else sys.maxunicode
    successor = 0xE000 if last == 0xD7FF else last + 1  # skip the surrogates
    return lower, prefix[:-1] + chr(successor) if last < sys.maxunicode else None


def _sanitize(text: str | None) -> str | None:
    """Replace what PostgreSQL cannot store, so that the text matches no job instead of raising an error."""
    return None if text is None else text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _parse_tenant(text: str | None) -> uuid.UUID | None:
    if text is None:
        return None
    try:
        return uuid.UUID(text)
    except ValueError:
        raise ConfigurationError(f"the tenant {text!r} is not a UUID") from None


def _parse_group(text: str | None) -> str | None:
    if text is not None and re.fullmatch("[0-9a-f]{12}", text) is None:
        raise ConfigurationError(f"the error group {text!r} is not an id: `jobfn jobs errors` lists them")
    return text


def _payload(job_filter: JobFilter) -> tuple[list[str] | None, str | None]:
    """Return the path of the payload's field, and its value."""
    if job_filter.payload is None:
        return None, None
    name, value = job_filter.payload
    return [_sanitize(part) or "" for part in name.split(".")], _sanitize(value)


def _age(seconds: float | None) -> timedelta | None:
    if seconds is None:
        return None
    if not seconds >= 0:
        raise ConfigurationError(f"the age of {seconds} seconds is negative: use 0 or more")
    return timedelta(seconds=min(seconds, _CENTURY_SECONDS))


def _timeline(job: JobRow | None, runs: Sequence[Run]) -> tuple[Event, ...]:
    enqueued_at = job.created_at if job is not None else runs[0].enqueued_at
    events = [Event(enqueued_at, "enqueued", "enqueued")]
    for run in runs:
        if run.started_at is not None:
            events.append(Event(run.started_at, "started", f"attempt {run.attempt} on {run.worker}", run.attempt))
        events.append(Event(run.ended_at, "ended", _OUTCOME_TEXTS[run.outcome], run.attempt, run.outcome, run.error))
    events.sort(key=lambda event: event.at)
    attempt = 0 if job is None else job.attempts + job.snoozes
    if job is not None and job.is_expired:
        what = "takes the job over" if job.state is JobState.READY else "fails the job permanently"
        text = f"attempt {attempt} on {job.locked_by} expired: the next claim of a worker {what}"
        events.append(Event(job.lease_expires_at or job.locked_at or enqueued_at, "expired", text, attempt))
    elif job is not None and job.locked_at is not None:
        text = f"attempt {attempt} is running on {job.locked_by}"
        events.append(Event(job.locked_at, "running", text, attempt))
    elif job is not None and job.run_at not in {None, LATEST} and job.state in _DUE_TEXTS:
        text = _DUE_TEXTS[job.state]
        events.append(Event(job.run_at, "due", text, attempt + 1))
    return tuple(events)
