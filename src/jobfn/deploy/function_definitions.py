"""Plan and write the rows of a function's tasks in a table of function definitions (``jobfn register``)."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import asyncpg

from jobfn.database.function_definitions import DefinitionsTable
from jobfn.deploy.inspection import TaskInfo
from jobfn.errors import ConfigurationError, DatabaseError
from jobfn.handler_json import ports
from jobfn.sql.quoting import quote_identifier
from jobfn.wire import task_url

#: Group of a task whose identifier has no prefix, as the platform names it.
DEFAULT_GROUP = "custom"


class Action(StrEnum):
    """What happens to a row."""

    CREATE = "create"
    CHANGE = "change"
    KEEP = "keep"


@dataclass(frozen=True)
class DefinitionChange:
    """The change of a task's row.

    Attributes:
        before: The columns that change, as they are.
        after: The columns to write.
    """

    task: str
    action: Action
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)


async def plan_definitions(
    connection: "asyncpg.Connection[Any]",
    table: DefinitionsTable,
    tasks: Sequence[TaskInfo],
    *,
    service_url: str | None = None,
    columns: Mapping[str, Any] | None = None,
) -> list[DefinitionChange]:
    """Compare the rows of these tasks with the tasks. Other rows, and other columns of these rows, do not change.

    Args:
        connection: A connection.
        table: The table.
        tasks: The tasks.
        service_url: Base URL of the functions, as ``KNATIVE_SERVICE_URL``; None: URLs do not change.
        columns: Values of further columns, for every row.

    Raises:
        ConfigurationError: The table lacks a given column, or has several rows of a task.
    """
    given = {} if columns is None else dict(columns)
    for name in (*given, *([] if service_url is None else ["service_url"])):
        if name not in table.columns:
            raise ConfigurationError(f"{table} has no column {name}: use one of {', '.join(table.columns)}")
    rows = await connection.fetch(
        f"select task_identifier, to_jsonb(d)::text as row from {table.quoted} d where task_identifier = any ($1)",  # noqa: S608  - quoted
        [task.identifier for task in tasks],
    )
    existing: dict[str, dict[str, Any]] = {}
    for row in rows:
        if existing.setdefault(row["task_identifier"], json.loads(row["row"])) != json.loads(row["row"]):
            raise ConfigurationError(
                f"{table} has several rows of the task {row['task_identifier']!r}: jobfn cannot choose one of them"
            )
    return [_change(table, task, existing.get(task.identifier), service_url, given) for task in tasks]


async def apply_definitions(
    connection: "asyncpg.Connection[Any]", table: DefinitionsTable, changes: Sequence[DefinitionChange]
) -> None:
    """Write the changes in one transaction.

    Raises:
        DatabaseError: The database refused a row. Nothing was written.
    """
    async with connection.transaction():
        for change in changes:
            if change.action is Action.KEEP:
                continue
            names = ", ".join(quote_identifier(name) for name in change.after)
            values = f"select {names} from jsonb_populate_record(null::{table.quoted}, $1::jsonb)"  # noqa: S608  - quoted
            document = json.dumps(dict(change.after))
            try:
                if change.action is Action.CREATE:
                    await connection.execute(f"insert into {table.quoted} ({names}) {values}", document)
                else:
                    await connection.execute(
                        f"update {table.quoted} set ({names}) = ({values}) where task_identifier = $2",  # noqa: S608  - quoted
                        document,
                        change.task,
                    )
            except asyncpg.PostgresError as error:
                raise DatabaseError(
                    f"{table}: the row of the task {change.task!r} was refused: {error}. Set the columns that this "
                    "table requires with --column NAME=VALUE"
                ) from error


def _change(
    table: DefinitionsTable,
    task: TaskInfo,
    existing: Mapping[str, Any] | None,
    service_url: str | None,
    given: dict[str, Any],
) -> DefinitionChange:
    desired = _described(task) | (
        {} if service_url is None else {"service_url": task_url(service_url, task.identifier)}
    )
    desired = {name: value for name, value in desired.items() if name in table.columns} | given
    if existing is None:
        return DefinitionChange(task.identifier, Action.CREATE, {}, _key(table, task) | desired)
    differing = [name for name, value in desired.items() if _comparable(existing.get(name)) != value]
    if not differing:
        return DefinitionChange(task.identifier, Action.KEEP)
    before = {name: existing.get(name) for name in differing}
    return DefinitionChange(task.identifier, Action.CHANGE, before, {name: desired[name] for name in differing})


def _key(table: DefinitionsTable, task: TaskInfo) -> dict[str, str]:
    """Return the columns that identify a row: newer tables compute the identifier from category and name."""
    group, separator, name = task.identifier.partition(":")
    if "task_identifier" in table.generated:
        if not separator:
            raise ConfigurationError(
                f"{table} has tasks of the form category:name: rename the task {task.identifier!r}, for example to "
                f"{DEFAULT_GROUP}:{task.identifier}"
            )
        return {"category": group, "name": name}
    key = {
        "task_identifier": task.identifier,
        "scope": group if separator else DEFAULT_GROUP,
        "name": name if separator else task.identifier,
    }
    return {column: value for column, value in key.items() if column in table.columns}


def _described(task: TaskInfo) -> dict[str, Any]:
    """Return what a task says about itself, by column."""
    described: dict[str, Any] = {"description": task.description or None, "inputs": ports(task.payload)}
    if task.timeout_seconds is not None:
        described["timeout_seconds"] = math.ceil(task.timeout_seconds)
    # without a declaration, what is in the table stays
    declared = {"required_secrets": task.secrets, "required_configs": task.configs}
    return described | {name: requirements for name, requirements in declared.items() if requirements}


def _comparable(value: Any) -> Any:
    """Return a value of a row without the fields of requirements that jobfn does not know."""
    if isinstance(value, list) and all(isinstance(entry, dict) and "required" in entry for entry in value):
        return [{"name": entry.get("name"), "required": entry["required"]} for entry in value]
    return value
