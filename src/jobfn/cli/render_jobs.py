"""Format jobs and statistics: as lines for people, as JSON for programs."""

import dataclasses
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from jobfn.cli.render_runs import run_lines
from jobfn.cli.render_times import ago, columns, moment, seconds_text
from jobfn.database.connection import LATEST
from jobfn.operations import (
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
from jobfn.operations.records import NO_TRACEBACK, Event

#: Maximum number of new jobs that a result lists.
_MAX_LISTED = 20


def as_json(value: Any) -> str:
    """Format a value of ``jobfn.operations`` as JSON; times are in UTC."""
    return json.dumps(plain(value), indent=2)


def plain(value: Any) -> Any:
    """Convert a value of ``jobfn.operations`` to JSON types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def job_table(page: JobPage, now: datetime, *, max_width: int | None = None) -> list[str]:
    """Format a page as a table, with the option for the next page; ``max_width`` is as in ``columns``."""
    if not page.jobs:
        return ["no matching jobs"]
    rows = [("ID", "STATE", "TASK", "QUEUE", "ATTEMPTS", "ENQUEUED", "WHEN", "ERROR")]
    rows += [
        (
            str(job.id),
            job.state_label,
            job.task,
            job.queue or "",
            _attempts(job),
            ago(job.created_at, now),
            _when(job, now),
            " ".join((job.last_error or "").split()),
        )
        for job in page.jobs
    ]
    return [*columns(rows, max_width=max_width), *([f"more: --after {page.next}"] if page.next is not None else [])]


def detail_lines(detail: JobDetail, now: datetime) -> list[str]:
    """Format everything known about a job."""
    lines = [f"job {detail.id}  {detail.task}  {detail.state_label}"]
    if detail.job is not None:
        waits = [] if detail.wait is None else [f"    waits       {detail.wait.text}"]
        lines += waits + [f"    {name:<11} {text}" for name, text in _fields(detail.job, detail.parent_id, now) if text]
    else:
        lines.append("    the job was deleted; this is its history")
    if detail.job is not None or detail.payload is not None:
        lines += ["    payload", *(f"        {line}" for line in _payload(detail.payload).splitlines())]
    if detail.run is not None:
        lines += run_lines(detail.run, now)
    traced = next((run for run in reversed(detail.runs) if run.traceback), None)
    if traced is not None:
        lines.append(f"    traceback of attempt {traced.attempt}")
        lines += [f"        {line}" for line in (traced.traceback or "").splitlines()]
    elif detail.has_no_traceback:
        lines.append(f"    {NO_TRACEBACK}")
    lines.append("    timeline")
    for event in detail.timeline:
        lines += _event_lines(event, now)
    return lines


def format_counts(counts: JobCounts) -> list[str]:
    """Format the number of jobs by state: in total, by task and by queue."""
    oldest = counts.oldest_ready_seconds
    lines = [
        f"ready {counts.ready:,}   delayed {counts.delayed:,}   parked {counts.parked:,}   "
        f"running {counts.running:,}   failed {counts.failed:,}"
        + (f"   cancelled {counts.cancelled:,}" if counts.cancelled else "")
        + (f"   expired {counts.expired:,}" if counts.expired else "")
        + (f"   (oldest ready job: {seconds_text(oldest)})" if oldest is not None else "")
    ]
    for title, groups in (("TASK", counts.by_task), ("QUEUE", counts.by_queue)):
        if groups:
            lines += ["", *columns([(title, "READY", "DELAYED", "PARKED", "RUNNING", "FAILED"), *map(_group, groups)])]
    return lines


def throughput_line(buckets: Sequence[ThroughputBucket]) -> str:
    """Format the throughput of the last minutes."""
    if not buckets:
        return "throughput: unknown, this schema has no history"
    completed = sum(bucket.completed for bucket in buckets)
    failed = sum(bucket.failed for bucket in buckets)
    text = f"last {len(buckets)} minutes: {completed:,} completed, {failed:,} failed"
    busy = [bucket for bucket in buckets if bucket.mean_seconds is not None]
    ended = sum(bucket.completed + bucket.failed for bucket in busy)
    if ended:
        mean = sum((bucket.mean_seconds or 0.0) * (bucket.completed + bucket.failed) for bucket in busy) / ended
        longest = max(bucket.max_seconds or 0.0 for bucket in busy)
        text += f"; duration {seconds_text(mean)} on average, {seconds_text(longest)} at most"
    return text


def worker_lines(workers: Sequence[WorkerRow], now: datetime, *, max_width: int | None = None) -> list[str]:
    """Format the workers as a table; ``max_width`` is as in ``columns``."""
    if not workers:
        return ["no workers: start `jobfn service`, or `jobfn dev functions.py`"]
    rows = [("WORKER", "ALIVE", "IN FLIGHT", "HELD", "LAST SEEN", "STARTED", "ONLY", "ROLES", "HOST", "PID", "VERSION")]
    rows += [
        (
            worker.id,
            "?" if worker.is_alive is None else "yes" if worker.is_alive else "no",
            f"{worker.in_flight}/{worker.concurrency}" if worker.is_registered else "?",
            str(worker.held_jobs),
            ago(worker.last_heartbeat_at, now) if worker.last_heartbeat_at is not None else "by its locks",
            ago(worker.started_at, now) if worker.started_at is not None else "?",
            worker.limits_label,
            ",".join(worker.roles) or "?",
            worker.host or "?",
            str(worker.pid or "?"),
            worker.version or "?",
        )
        for worker in workers
    ]
    return columns(rows, max_width=max_width, whole=rows[0].index("STARTED"))


def result_lines(result: ActionResult, past_tense: str) -> list[str]:
    """Format the result of an action: changed and skipped jobs."""
    lines = [f"{past_tense} {result.done:,} job{'' if result.done == 1 else 's'}"]
    if result.children:
        lines[0] += f", and {result.children:,} waiting child job{'' if result.children == 1 else 's'}"
    if 0 < len(result.new_ids) <= _MAX_LISTED:
        lines += [f"job {old} runs again as job {new}" for old, new in zip(result.ids, result.new_ids, strict=True)]
    lines += [f"skipped job {skipped.id}: {skipped.reason}" for skipped in result.skipped]
    if result.skipped_count > len(result.skipped):
        lines.append(f"skipped {result.skipped_count - len(result.skipped):,} more")
    return lines


def _when(job: JobRow, now: datetime) -> str:
    if job.is_expired:
        since = job.lease_expires_at or job.locked_at
        return f"lease of {job.locked_by} ended{f' {ago(since, now)}' if since is not None else ''}"
    if job.state is JobState.RUNNING and job.locked_at is not None:
        progress = f", {job.progress:.0%}" if job.progress is not None else ""
        return f"on {job.locked_by} since {ago(job.locked_at, now)}{progress}"
    if job.state is JobState.COMPLETED and job.ended_at is not None:
        return f"completed {ago(job.ended_at, now)}"
    if job.state in {JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED} and job.updated_at is not None:
        return f"{job.state} {ago(job.updated_at, now)}"
    if job.state is JobState.PARKED and job.run_at is not None:
        return "waits" if job.run_at == LATEST else f"wakes {ago(job.run_at, now)}"
    return f"due {ago(job.run_at, now)}" if job.run_at is not None else ""


def _attempts(job: JobRow) -> str:
    attempts = f"{job.attempts}/{job.max_attempts}" if job.max_attempts else str(job.attempts)
    return f"{attempts}, {job.uncounted_label}" if job.uncounted_label else attempts


def _fields(job: JobRow, parent_id: int | None, now: datetime) -> list[tuple[str, str]]:
    progress = f"{job.progress:.0%} " if job.progress is not None else ""
    return [
        ("queue", job.queue or ""),
        ("key", job.key or ""),
        ("parent", "" if parent_id is None else f"job {parent_id}"),
        ("priority", str(job.priority)),
        ("attempts", ", ".join(filter(None, [f"{job.attempts} of {job.max_attempts}", job.uncounted_label]))),
        ("enqueued", moment(job.created_at, now)),
        ("run at", moment(job.run_at, now)),
        ("expires", moment(job.expires_at, now)),
        ("worker", job.locked_by or ""),
        ("lock until", moment(job.lease_expires_at, now)),
        ("progress", f"{progress}{job.progress_message or ''}"),
        ("tenant", job.database_id or ""),
        ("actor", job.actor_id or ""),
        ("entity", job.entity_id or ""),
        ("last error", "\n                ".join((job.last_error or "").splitlines())),
    ]


def _event_lines(event: Event, now: datetime) -> list[str]:
    lines = [f"        {moment(event.at, now)}: {event.text}"]
    if event.error:
        lines += [f"            {line}" for line in event.error.splitlines()]
    return lines


def _payload(text: str | None) -> str:
    try:
        return json.dumps(json.loads(text or "null"), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):  # nested too deeply, or an integer too long for Python
        return text or ""


def _group(group: GroupCount) -> tuple[str, ...]:
    numbers = (group.ready, group.delayed, group.parked, group.running, group.failed)
    return (group.name, *(f"{number:,}" for number in numbers))
