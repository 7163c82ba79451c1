"""Format schedules: a few lines each for people, JSON for programs."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from jobfn.database.schedules import ScheduleRow
from jobfn.errors import InvalidSchedule
from jobfn.operations.read_models import next_job_times
from jobfn.scheduler.humanize import format_time, humanize
from jobfn.scheduler.rule import Schedule, parse

_MAX_NEXT_TIMES = 3


def as_text(rows: Sequence[ScheduleRow]) -> str:
    """Format all schedules as text."""
    if not rows:
        return "no schedules: add one with `jobfn schedules add TASK '0 9 * * *'`"
    return "\n\n".join("\n".join(_lines(row)) for row in rows)


def as_json(rows: Sequence[ScheduleRow]) -> str:
    """Format all schedules as JSON; times are in UTC."""
    return json.dumps([_object(row) for row in rows], indent=2)


def _lines(row: ScheduleRow) -> list[str]:
    schedule, error = _parse(row)
    title = f"{row.id}  {row.task}" + (f"  (key {row.key})" if row.key is not None else "")
    fields: list[tuple[str, str]] = [("rule", schedule.rule if schedule is not None else json.dumps(row.schedule_info))]
    if schedule is None:
        fields.append(("INVALID", error or ""))
    else:
        next_times = [format_time(time, schedule) for time in _next_times(row, schedule)]
        never = "never again" if row.paused_at is None else "not while it is paused"
        fields += [("words", humanize(schedule)), ("next", ", ".join(next_times) or never)]
        if row.problem is not None:
            fields.append(("problem", row.problem))
    zone = schedule if schedule is not None else parse("* * * * *")
    if row.paused_at is not None:
        reason = f": {row.pause_reason}" if row.pause_reason else ""
        until = f" until {format_time(row.paused_until, zone)}" if row.paused_until is not None else ""
        fields.insert(0, ("PAUSED", f"since {format_time(row.paused_at, zone)}{until}{reason}"))
    if row.last_scheduled is not None:
        fields.append(("last run", f"{format_time(row.last_scheduled, zone)}, job {row.last_job}: {row.outcome}"))
    else:
        fields.append(("last run", "never"))
    if row.last_skipped is not None:
        last_skipped = f"{format_time(row.last_skipped, zone)}: {row.skip_reason}"
        fields.append(("skipped", f"{row.skipped} in total, last {last_skipped}"))
    return [title, *(f"    {name:<9} {text}" for name, text in fields)]


def _object(row: ScheduleRow) -> dict[str, Any]:
    schedule, error = _parse(row)
    return {
        "id": row.id,
        "task": row.task,
        "key": row.key,
        "schedule_info": row.schedule_info,
        "words": humanize(schedule) if schedule is not None else None,
        "next": [time.isoformat() for time in _next_times(row, schedule)] if schedule is not None else [],
        "error": error,
        "problem": row.problem if error is None else None,
        "last_run": _iso(row.last_scheduled),
        "last_job": row.last_job,
        "last_outcome": row.outcome,
        "skipped": row.skipped,
        "last_skipped": _iso(row.last_skipped),
        "skip_reason": row.skip_reason,
        "paused_at": _iso(row.paused_at),
        "pause_reason": row.pause_reason,
        "paused_until": _iso(row.paused_until),
        "payload": row.payload,
        "queue": row.queue,
        "priority": row.priority,
        "max_attempts": row.max_attempts,
        "database_id": row.database_id,
    }


def _parse(row: ScheduleRow) -> tuple[Schedule | None, str | None]:
    try:
        return parse(row.schedule_info), None
    except InvalidSchedule as error:
        return None, str(error)


def _next_times(row: ScheduleRow, schedule: Schedule) -> tuple[datetime, ...]:
    return next_job_times(row, schedule, datetime.now(UTC), _MAX_NEXT_TIMES)


def _iso(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat() if moment is not None else None
