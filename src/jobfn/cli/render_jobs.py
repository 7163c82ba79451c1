"""How jobs and numbers about them are shown: lines for people, JSON for programs. Pure but for the terminal's width."""

import dataclasses
import json
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from jobfn.operations import (
    ActionResult,
    Counts,
    Event,
    GroupCount,
    JobDetail,
    JobPage,
    JobRow,
    JobState,
    Minute,
    WorkerRow,
)

_STEPS = ((86_400, "d"), (3600, "h"), (60, "m"))
#: What is cut in a table where nobody's terminal says how wide it is.
_WIDE = 500


def as_json(value: Any) -> str:
    """A value of ``jobfn.operations`` as JSON; times in UTC."""
    return json.dumps(plain(value), indent=2)


def plain(value: Any) -> Any:
    """A value of ``jobfn.operations`` as what JSON knows."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {part.name: plain(getattr(value, part.name)) for part in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def job_table(page: JobPage, now: datetime) -> list[str]:
    """A line for each job, and how to go on."""
    if not page.jobs:
        return ["no job fits"]
    rows = [("ID", "STATE", "TASK", "QUEUE", "TRIES", "ENQUEUED", "WHEN", "ERROR")]
    rows += [
        (
            str(job.id),
            job.state,
            job.task,
            job.queue or "",
            f"{job.attempts}/{job.max_attempts}" if job.max_attempts else str(job.attempts),
            ago(job.created_at, now),
            _when(job, now),
            _one_line(job.last_error or ""),
        )
        for job in page.jobs
    ]
    return [*columns(rows), *([f"more: --after {page.next}"] if page.next is not None else [])]


def detail_lines(detail: JobDetail, now: datetime) -> list[str]:
    """All that is known of a job."""
    lines = [f"job {detail.id}  {detail.task}  {detail.state}"]
    if detail.job is not None:
        lines += [f"    {name:<11} {text}" for name, text in _fields(detail.job, now) if text]
        lines += ["    payload", *(f"        {line}" for line in _payload(detail.payload).splitlines())]
    else:
        lines.append("    its row is gone; this is what history has kept")
    lines.append("    timeline")
    for event in detail.timeline:
        lines += _event_lines(event, now)
    return lines


def count_lines(counts: Counts) -> list[str]:
    """How many jobs stand where, in all, by task and by queue."""
    oldest = counts.oldest_ready_seconds
    lines = [
        f"ready {counts.ready:,}   delayed {counts.delayed:,}   running {counts.running:,}   failed {counts.failed:,}"
        + (f"   (the oldest ready one for {seconds_text(oldest)})" if oldest is not None else "")
    ]
    for title, groups in (("TASK", counts.by_task), ("QUEUE", counts.by_queue)):
        if groups:
            lines += ["", *columns([(title, "READY", "DELAYED", "RUNNING", "FAILED"), *map(_group, groups)])]
    return lines


def throughput_line(minutes: Sequence[Minute]) -> str:
    """What was done in the last minutes."""
    if not minutes:
        return "no history on this schema: what was done is not known"
    done = sum(minute.completed for minute in minutes)
    failed = sum(minute.failed for minute in minutes)
    text = f"last {len(minutes)} minutes: {done:,} completed, {failed:,} failed"
    busy = [minute for minute in minutes if minute.mean_seconds is not None]
    ended = sum(minute.completed + minute.failed for minute in busy)
    if ended:
        mean = sum((minute.mean_seconds or 0.0) * (minute.completed + minute.failed) for minute in busy) / ended
        longest = max(minute.max_seconds or 0.0 for minute in busy)
        text += f"; {seconds_text(mean)} each on average, {seconds_text(longest)} at most"
    return text


def worker_lines(workers: Sequence[WorkerRow], now: datetime) -> list[str]:
    """A line for each process that works."""
    if not workers:
        return ["no worker is known: start `jobfn service`, or `jobfn dev functions.py`"]
    rows = [("WORKER", "ALIVE", "PARTS", "HOST", "PID", "VERSION", "IN FLIGHT", "HOLDS", "SINCE", "SEEN")]
    rows += [
        (
            worker.id,
            "yes" if worker.is_alive else "no",
            ",".join(worker.parts) or "?",
            worker.host or "?",
            str(worker.pid or "?"),
            worker.version or "?",
            f"{worker.in_flight}/{worker.concurrency}" if worker.is_registered else "?",
            str(worker.holds),
            ago(worker.started_at, now) if worker.started_at is not None else "?",
            ago(worker.seen_at, now) if worker.seen_at is not None else "by its locks",
        )
        for worker in workers
    ]
    return columns(rows)


def result_lines(result: ActionResult, past: str) -> list[str]:
    """What came of an action, and what was left as it is."""
    lines = [f"{past} {result.done:,} job{'' if result.done == 1 else 's'}"]
    lines += [f"left job {skipped.id}: {skipped.reason}" for skipped in result.skipped]
    if result.skipped_count > len(result.skipped):
        lines.append(f"left {result.skipped_count - len(result.skipped):,} more")
    return lines


def columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows with their cells below each other, cut to the terminal's width if there is one."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDE
    lines = ["  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [line if len(line) <= width else f"{line[: width - 1]}…" for line in lines]


def ago(moment: datetime, now: datetime) -> str:
    """A time as people say it: ``3m ago``, ``in 2h``."""
    seconds = (now - moment).total_seconds()
    return f"in {seconds_text(-seconds)}" if seconds < 0 else f"{seconds_text(seconds)} ago"


def seconds_text(seconds: float) -> str:
    """A duration in its largest unit."""
    for size, unit in _STEPS:
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s" if seconds >= 10 else f"{seconds:.2g}s" if seconds >= 0.001 else "0s"


def _when(job: JobRow, now: datetime) -> str:
    if job.state is JobState.RUNNING and job.locked_at is not None:
        progress = f", {job.progress:.0%}" if job.progress is not None else ""
        return f"on {job.locked_by} since {ago(job.locked_at, now)}{progress}"
    if job.state is JobState.COMPLETED and job.ended_at is not None:
        return f"done {ago(job.ended_at, now)}"
    if job.state is JobState.FAILED and job.updated_at is not None:
        return f"failed {ago(job.updated_at, now)}"
    return f"due {ago(job.run_at, now)}" if job.run_at is not None else ""


def _fields(job: JobRow, now: datetime) -> list[tuple[str, str]]:
    progress = f"{job.progress:.0%} " if job.progress is not None else ""
    return [
        ("queue", job.queue or ""),
        ("key", job.key or ""),
        ("priority", str(job.priority)),
        ("attempts", f"{job.attempts} of {job.max_attempts}"),
        ("enqueued", _moment(job.created_at, now)),
        ("run at", _moment(job.run_at, now)),
        ("worker", job.locked_by or ""),
        ("lock until", _moment(job.lease_expires_at, now)),
        ("progress", f"{progress}{job.progress_note or ''}"),
        ("tenant", job.database_id or ""),
        ("actor", job.actor_id or ""),
        ("entity", job.entity_id or ""),
        ("last error", _indented(job.last_error or "")),
    ]


def _event_lines(event: Event, now: datetime) -> list[str]:
    lines = [f"        {_moment(event.at, now)}: {event.text}"]
    if event.error:
        lines += [f"            {line}" for line in event.error.splitlines()]
    return lines


def _moment(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return ""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC ({ago(moment, now)})"


def _payload(text: str | None) -> str:
    try:
        return json.dumps(json.loads(text or "null"), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):  # of a depth or a size that Python does not read
        return text or ""


def _group(group: GroupCount) -> tuple[str, ...]:
    return (group.name, f"{group.ready:,}", f"{group.delayed:,}", f"{group.running:,}", f"{group.failed:,}")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _indented(text: str) -> str:
    return "\n                ".join(text.splitlines())
