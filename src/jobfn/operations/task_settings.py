"""Write the options of tasks in code to the database: ``jobfn sync``.

The settings of a task have two parts: what code declares, which only a sync writes, and the overrides of operators,
which a sync never changes. Limits are rows of ``limits``; one that an operator has set stays as it is.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from jobfn.database.statements import query
from jobfn.sql.locks import TASK_SYNC_LOCK
from jobfn.task_defaults import TaskDefaults

#: Columns that a sync writes, by their names for people.
_DECLARED = {
    "queue": "queue_name",
    "priority": "priority",
    "max_attempts": "max_attempts",
    "unique_for": "unique_for",
    "unique_until": "unique_until",
    "unique_by": "unique_by",
    "on_conflict": "on_conflict",
}
_OVERRIDES = {
    "queue": "override_queue_name",
    "priority": "override_priority",
    "max_attempts": "override_max_attempts",
}
_LIMIT = ("concurrency", "rate_count", "rate_interval", "per")


@dataclass(frozen=True, slots=True)
class DeclaredTask:
    """A task as defined in code."""

    task: str
    location: str
    defaults: TaskDefaults


class Change(enum.StrEnum):
    """Kind of change to the settings of a task."""

    ADDED = "add"
    CHANGED = "change"
    UNCHANGED = "unchanged"
    REMOVED = "remove"
    #: They come from code, but the task is not among the given ones.
    KEPT = "keep"


@dataclass(frozen=True, slots=True)
class TaskChange:
    """The change of a sync to one task.

    Attributes:
        before: The declared values in the database, by name; only those that are set.
        after: The declared values in code.
        overrides: The values that operators have set instead.
        has_own_limit: Whether an operator has set the limit, which then stays.
    """

    task: str
    change: Change
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    overrides: Mapping[str, Any]
    has_own_limit: bool = False


async def plan_sync(
    connection: "asyncpg.Connection[Any]", schema: str, tasks: Sequence[DeclaredTask], *, prune: bool = False
) -> list[TaskChange]:
    """Return what ``sync`` would do, by task.

    Args:
        connection: A connection.
        schema: The jobs schema.
        tasks: All tasks of the given files, with and without options.
        prune: Also remove what other code has declared. Set it only if ``tasks`` are all tasks of this database.
    """
    rows = {row["task_identifier"]: dict(row) for row in await connection.fetch(query("task_settings", schema))}
    changes: list[TaskChange] = []
    for task in sorted(tasks, key=lambda each: each.task):
        row = rows.pop(task.task, {})
        after = _declared_values(task.defaults)
        changes += _change(task.task, row, after)
    for identifier, row in rows.items():
        change = _change(identifier, row, {})
        changes += change if prune else [_kept(each) for each in change]
    return changes


async def sync(
    connection: "asyncpg.Connection[Any]", schema: str, tasks: Sequence[DeclaredTask], *, prune: bool = False
) -> list[TaskChange]:
    """Make the settings in the database match those in code, in one transaction. The arguments are ``plan_sync``'s."""
    locations = {task.task: task.location for task in tasks}
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", TASK_SYNC_LOCK)
        changes = await plan_sync(connection, schema, tasks, prune=prune)
        for change in changes:
            if change.change in {Change.ADDED, Change.CHANGED, Change.REMOVED}:
                await _apply(connection, schema, change, locations.get(change.task))
    return changes


async def override(
    connection: "asyncpg.Connection[Any]",
    schema: str,
    task: str,
    *,
    queue: str | None,
    priority: int | None,
    max_attempts: int | None,
) -> None:
    """Set the given values for all new jobs of a task, whatever code and callers say. None leaves one as it is."""
    await connection.execute(query("override_task", schema), task, queue, priority, max_attempts)


async def reset(connection: "asyncpg.Connection[Any]", schema: str, task: str) -> bool:
    """Remove the overrides of a task. Return whether there were any."""
    async with connection.transaction():
        count: int = await connection.fetchval(query("reset_task", schema), task)
        await connection.execute(query("delete_empty_task_settings", schema))
    return count > 0


async def read_settings(
    connection: "asyncpg.Connection[Any]", schema: str
) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Return each task that has settings, with the values that code declares and those that operators have set."""
    rows = await connection.fetch(query("task_settings", schema))
    settings = [(row["task_identifier"], _row_values(row), _overrides(row)) for row in rows]
    return [entry for entry in settings if entry[1] or entry[2]]


def _declared_values(defaults: TaskDefaults) -> dict[str, Any]:
    unique, limit = defaults.unique, defaults.limit
    values: dict[str, Any] = {
        "queue": defaults.queue,
        "priority": defaults.priority,
        "max_attempts": defaults.max_attempts,
    }
    if unique is not None:
        values |= {
            "unique_for": unique.period,
            "unique_until": unique.until,
            "unique_by": None if unique.fields is None else list(unique.fields),
            "on_conflict": unique.on_conflict,
        }
    if limit is not None:
        values |= {
            "concurrency": limit.concurrency,
            "rate_count": None if limit.rate is None else limit.rate.count,
            "rate_interval": None if limit.rate is None else limit.rate.interval,
            "per": limit.per,
        }
    return {name: value for name, value in values.items() if value is not None}


def _row_values(row: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: row[column] for name, column in _DECLARED.items()}
    if row["limit_set_by"] == "code":
        values |= {name: row[name] for name in _LIMIT}
    return {name: value for name, value in values.items() if value is not None}


def _overrides(row: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: row[column] for name, column in _OVERRIDES.items()}
    return {name: value for name, value in values.items() if value is not None}


def _change(task: str, row: Mapping[str, Any], after: dict[str, Any]) -> list[TaskChange]:
    before = _row_values(row) if row else {}
    has_own_limit = bool(row) and row["limit_set_by"] not in {None, "code"}
    compared = {name: value for name, value in after.items() if not (has_own_limit and name in _LIMIT)}
    if not before and not compared and not (has_own_limit and after):
        return []
    change = Change.UNCHANGED if before == compared else Change.CHANGED
    if change is Change.CHANGED:
        change = Change.REMOVED if not compared else change if before else Change.ADDED
    return [TaskChange(task, change, before, after, _overrides(row) if row else {}, has_own_limit)]


def _kept(change: TaskChange) -> TaskChange:
    return TaskChange(change.task, Change.KEPT, change.before, change.before, change.overrides, change.has_own_limit)


async def _apply(connection: "asyncpg.Connection[Any]", schema: str, change: TaskChange, location: str | None) -> None:
    after = change.after if change.change is not Change.REMOVED else {}
    is_declared = any(name in after for name in _DECLARED)
    if is_declared or any(name in change.before for name in _DECLARED):
        values = [after.get(name) for name in _DECLARED]
        await connection.execute(query("declare_task", schema), change.task, location if is_declared else None, *values)
        await connection.execute(query("delete_empty_task_settings", schema))
    if change.has_own_limit:
        return
    if any(name in after for name in ("concurrency", "rate_count")):
        await connection.execute(query("declare_limit", schema), change.task, *(after.get(name) for name in _LIMIT))
    elif any(name in change.before for name in _LIMIT):
        await connection.execute(query("remove_limit", schema), change.task)
