"""Write the schedules of ``@task(..., schedule=...)`` to the database.

A schedule from code has the key ``jobfn:{task}``; other schedules are never touched. It is replaced when the code
changes, and removed when its task has no schedule any more.
"""

import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from jobfn.database.schedules import KEY_PREFIX, NewSchedule, ScheduleRow, ScheduleTable
from jobfn.database.statements import query
from jobfn.errors import InvalidSchedule
from jobfn.scheduler.rule import parse
from jobfn.sql.locks import SCHEDULE_SYNC_LOCK


@dataclass(frozen=True, slots=True)
class CodeTask:
    """A task as defined in code.

    Attributes:
        task: The task identifier.
        location: Where it is defined.
        schedule_info: Its schedule; None: it has none.
        payload: The payload of the jobs of its schedule, as JSON text.
    """

    task: str
    location: str
    schedule_info: dict[str, Any] | None = None
    payload: str = "{}"


class Change(enum.StrEnum):
    """What ``sync`` did with a schedule."""

    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    REMOVED = "removed"
    #: It comes from code, but its task is not among the given ones.
    KEPT = "kept"


async def sync(
    connection: "asyncpg.Connection[Any]",
    schema: str,
    tasks: Sequence[CodeTask],
    *,
    prune: bool = False,
    database_id: str | None = None,
) -> list[tuple[Change, str]]:
    """Make the schedules in the database match those in code, in one transaction.

    Args:
        connection: A connection.
        schema: The jobs schema.
        tasks: All tasks of the given files, with and without a schedule.
        prune: Also remove schedules from code whose task is not among ``tasks``. Set it only if ``tasks`` are all tasks
            of this database: another image's functions may have schedules too.
        database_id: The tenant of added schedules.

    Returns:
        The change of each schedule that comes from code, by task.

    Raises:
        InvalidSchedule: A schedule in code is not valid; names file and line. Nothing was changed.
        DatabaseError: PostgreSQL rejected a change. Nothing was changed.
    """
    for task in tasks:
        _validate(task)
    table = ScheduleTable(connection, schema)
    changes: list[tuple[Change, str]] = []
    async with connection.transaction():
        await connection.execute(query("lock_schedule_sync", schema), SCHEDULE_SYNC_LOCK)
        rows = {row.key: row for row in await table.all() if row.key is not None and row.key.startswith(KEY_PREFIX)}
        for task in tasks:
            change = await _upsert(table, task, rows.pop(f"{KEY_PREFIX}{task.task}", None), database_id)
            if change is not None:
                changes.append((change, task.task))
        for row in rows.values():
            if prune:
                await table.remove(row.id)
            changes.append((Change.REMOVED if prune else Change.KEPT, row.task))
    return sorted(changes, key=lambda change: change[1])


async def _upsert(
    table: ScheduleTable, task: CodeTask, row: ScheduleRow | None, database_id: str | None
) -> Change | None:
    if task.schedule_info is None:
        if row is None:
            return None
        await table.remove(row.id)
        return Change.REMOVED
    if row is not None:
        database_id = database_id or row.database_id
        existing = (row.schedule_info, row.payload, row.database_id)
        if existing == (task.schedule_info, json.loads(task.payload), database_id):
            return Change.UNCHANGED
    key = f"{KEY_PREFIX}{task.task}"
    await table.add(NewSchedule(task.task, task.schedule_info, task.payload, key=key, database_id=database_id))
    return Change.ADDED if row is None else Change.CHANGED


def _validate(task: CodeTask) -> None:
    if task.schedule_info is None:
        return
    try:
        parse(task.schedule_info, strict=True)
    except InvalidSchedule as error:
        raise InvalidSchedule(f"{task.location}: @task({task.task!r}): {error}") from None
