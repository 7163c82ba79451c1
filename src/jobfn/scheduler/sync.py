"""Schedules from code: what ``@task(..., schedule=...)`` says, brought into the table.

A schedule from code has the key ``jobfn:{task}``; no other is ever touched. It is replaced when the code says
something else, left alone when it says the same, and removed when its task has no schedule any more.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from jobfn.database.schedules import KEY_PREFIX, NewSchedule, ScheduleRow, ScheduleTable
from jobfn.database.statements import query
from jobfn.errors import InvalidSchedule
from jobfn.scheduler.rule import parse


@dataclass(frozen=True, slots=True)
class CodeTask:
    """A task, as its code has it.

    Attributes:
        task: The task identifier.
        location: ``file:line``, for errors.
        schedule_info: Its schedule; None: it has none.
    """

    task: str
    location: str
    schedule_info: dict[str, Any] | None = None


class Change(enum.StrEnum):
    """What a sync did with one schedule."""

    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    REMOVED = "removed"
    #: From code once, but its task is in none of the files that were given.
    LEFT = "left"


async def sync(
    connection: "asyncpg.Connection[Any]",
    schema: str,
    tasks: Sequence[CodeTask],
    *,
    prune: bool = False,
    database_id: str | None = None,
) -> list[tuple[Change, str]]:
    """Make the table say what the code says, in one transaction.

    Args:
        connection: A connection.
        schema: The jobs schema.
        tasks: All tasks of the files at hand, with and without a schedule.
        prune: Remove also what came from code and whose task is not among ``tasks``: right when they are all there
            are, wrong when another image's functions have schedules too.
        database_id: The tenant of what is added.

    Returns:
        What was done with each schedule that comes from code, by task.

    Raises:
        InvalidSchedule: A schedule in the code is broken; names file and line. Nothing was changed.
        DatabaseError: PostgreSQL refused. Nothing was changed.
    """
    for task in tasks:
        _check(task)
    table = ScheduleTable(connection, schema)
    changes: list[tuple[Change, str]] = []
    async with connection.transaction():
        await connection.execute(query("lock_schedule_sync", schema))
        rows = {row.key: row for row in await table.all() if row.key is not None and row.key.startswith(KEY_PREFIX)}
        for task in tasks:
            row = rows.pop(f"{KEY_PREFIX}{task.task}", None)
            changes += await _bring(table, task, row, database_id)
        for row in rows.values():
            if prune:
                await table.remove(row.id)
            changes.append((Change.REMOVED if prune else Change.LEFT, row.task))
    return sorted(changes, key=lambda change: change[1])


async def _bring(
    table: ScheduleTable, task: CodeTask, row: ScheduleRow | None, database_id: str | None
) -> list[tuple[Change, str]]:
    if task.schedule_info is None:
        if row is None:
            return []
        await table.remove(row.id)
        return [(Change.REMOVED, task.task)]
    if (
        row is not None
        and row.schedule_info == task.schedule_info
        and row.database_id == (database_id or row.database_id)
    ):
        return [(Change.UNCHANGED, task.task)]
    await table.add(
        NewSchedule(
            task.task,
            task.schedule_info,
            key=f"{KEY_PREFIX}{task.task}",
            database_id=database_id or (row.database_id if row is not None else None),
        )
    )
    return [(Change.ADDED if row is None else Change.CHANGED, task.task)]


def _check(task: CodeTask) -> None:
    if task.schedule_info is None:
        return
    try:
        parse(task.schedule_info, strict=True)
    except InvalidSchedule as error:
        raise InvalidSchedule(f"{task.location}: @task({task.task!r}): {error}") from None
