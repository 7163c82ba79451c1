"""Schedules and triggers as operators see them: with their next times, and the tables they watch."""

import itertools
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from jobfn.database.schedules import ScheduleRow, ScheduleTable
from jobfn.errors import InvalidSchedule, SchemaError
from jobfn.operations.statements import Database
from jobfn.scheduler.humanize import humanize
from jobfn.scheduler.rule import parse
from jobfn.triggers.catalog import read_jobs_schema
from jobfn.triggers.introspect import read_existing_objects


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule.

    Attributes:
        row: Its row, and what became of its last job.
        rule: As written.
        words: In English; empty where it is broken.
        next_times: The next times, in UTC.
        problem: Why it is broken, or why its last job could not be made; None: all is well.
    """

    row: ScheduleRow
    rule: str
    words: str
    next_times: tuple[datetime, ...]
    problem: str | None


@dataclass(frozen=True, slots=True)
class TriggerView:
    """A trigger that jobfn made.

    Attributes:
        schema: Of the table that it watches.
        table: That table.
        name: Its own name.
        event: ``INSERT``, ``UPDATE`` or ``DELETE``, where it says so.
        task: The task that it enqueues.
        state: What ``alter table`` did to it, such as ``disable``; None: nothing.
        parameters: Of its node in the blueprint, those that differ from the defaults.
    """

    schema: str
    table: str
    name: str
    event: str | None
    task: str
    state: str | None
    parameters: dict[str, Any] = field(default_factory=dict)


async def schedules(database: Database, *, times: int, now: datetime | None = None) -> tuple[ScheduleView, ...]:
    """See ``Operations.schedules``; none on a schema that has no table for them."""
    async with database.transaction() as connection:
        try:
            rows = await ScheduleTable(connection, database.schema).all()
        except SchemaError:
            return ()
    moment = now or datetime.now(UTC)
    return tuple(_schedule(row, times, moment) for row in rows)


async def triggers(database: Database) -> tuple[TriggerView, ...]:
    """See ``Operations.triggers``."""
    async with database.transaction() as connection:
        jobs = await read_jobs_schema(connection, database.schema)
        existing = await read_existing_objects(connection, jobs, None)
    parameters = {found.oid: found.tag.parameters for found in existing.functions if found.tag is not None}
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


def _schedule(row: ScheduleRow, times: int, now: datetime) -> ScheduleView:
    try:
        schedule = parse(row.schedule_info)
    except InvalidSchedule as error:
        return ScheduleView(row, json.dumps(row.schedule_info), "", (), str(error))
    upcoming = tuple(itertools.islice(schedule.upcoming(now), times))
    return ScheduleView(row, schedule.rule, humanize(schedule), upcoming, row.problem)
