"""Schedules with their next times, and triggers with their tables, as operators see them."""

import itertools
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from jobfn.database.schedules import ScheduleRow, ScheduleTable
from jobfn.errors import InvalidSchedule, SchemaError
from jobfn.operations.statements import Database
from jobfn.scheduler.humanize import humanize
from jobfn.scheduler.rule import Schedule, parse
from jobfn.triggers.catalog import read_jobs_schema
from jobfn.triggers.introspect import read_existing_objects


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule.

    Attributes:
        words: The rule in English; empty if it is invalid.
        next_times: The next times of its jobs, in UTC; empty while it is paused.
        problem: Why the rule is invalid or the last job could not be enqueued; None if there is no problem.
    """

    row: ScheduleRow
    rule: str
    words: str
    next_times: tuple[datetime, ...]
    problem: str | None


@dataclass(frozen=True, slots=True)
class TriggerView:
    """A trigger that jobfn created.

    Attributes:
        event: ``INSERT``, ``UPDATE`` or ``DELETE``; None if unknown.
        state: How ``alter table`` changed it (``disable``, for instance); None if it did not.
        parameters: Parameters of its blueprint node that differ from the defaults.
    """

    schema: str
    table: str
    name: str
    event: str | None
    task: str
    state: str | None
    parameters: dict[str, Any] = field(default_factory=dict)


async def list_schedules(database: Database, *, limit: int, now: datetime | None = None) -> tuple[ScheduleView, ...]:
    """See ``Operations.schedules``. A schema without a table for schedules has none."""
    async with database.transaction() as connection:
        try:
            rows = await ScheduleTable(connection, database.schema).all()
        except SchemaError:
            return ()
    return tuple(_schedule_view(row, limit, now or datetime.now(UTC)) for row in rows)


async def list_triggers(database: Database) -> tuple[TriggerView, ...]:
    """See ``Operations.triggers``."""
    async with database.transaction() as connection:
        jobs_schema = await read_jobs_schema(connection, database.schema)
        existing = await read_existing_objects(connection, jobs_schema, None)
    parameters = {function.oid: function.tag.parameters for function in existing.functions if function.tag is not None}
    return tuple(
        TriggerView(
            schema=trigger.schema,
            table=trigger.table,
            name=trigger.name,
            event=trigger.tag.event,
            task=trigger.tag.task,
            state=trigger.state,
            parameters=parameters.get(trigger.function_oid, {}),
        )
        for trigger in existing.triggers
        if trigger.tag is not None
    )


def _schedule_view(row: ScheduleRow, limit: int, now: datetime) -> ScheduleView:
    try:
        schedule = parse(row.schedule_info)
    except InvalidSchedule as error:
        return ScheduleView(row, json.dumps(row.schedule_info), "", (), str(error))
    return ScheduleView(row, schedule.rule, humanize(schedule), next_job_times(row, schedule, now, limit), row.problem)


def next_job_times(row: ScheduleRow, schedule: Schedule, now: datetime, limit: int) -> tuple[datetime, ...]:
    """Return when a schedule enqueues its next jobs, jitter included; none while it is paused."""
    if row.paused_at is not None:
        return ()
    times = [schedule.with_jitter(time, row.id) for time in itertools.islice(schedule.upcoming(now), limit)]
    if row.due_at is not None and times and now < row.due_at < times[0]:  # delayed by its jitter
        times.insert(0, row.due_at)
    return tuple(times[:limit])
