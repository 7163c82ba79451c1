"""``assert_enqueued``: what waits in a test's queue, and a message that shows it."""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

import pydantic_core

from jobfn.function.task import Task
from jobfn.testing.database import SCHEMA, JobsDatabase

_ANY: Any = object()
_SHOWN = 10
_ROWS = f"""
    select
        id, task_identifier, payload, key, queue_name, run_at, priority, max_attempts, attempts, last_error,
        database_id::text, actor_id::text
    from {SCHEMA}.jobs
    order by id
"""  # noqa: S608  - a constant


class AssertEnqueued:
    """The fixture ``assert_enqueued``.

    Args:
        database: Whose jobs.
    """

    def __init__(self, database: JobsDatabase) -> None:
        self._database = database

    def __call__(
        self,
        task: "Task[..., Any] | str",
        payload: Any = _ANY,
        *,
        key: str | None = _ANY,
        queue: str | None = _ANY,
        run_at: datetime = _ANY,
        priority: int = _ANY,
        max_attempts: int = _ANY,
        database_id: UUID | str | None = _ANY,
        count: int | None = None,
    ) -> list[dict[str, Any]]:
        """Fail unless such a job is in the table, committed, and has not run.

        Args:
            task: A task, or its identifier.
            payload: The whole of it: what JSON holds, or a model. Not given: any; so are the others.
            key: As it was enqueued.
            queue: As it was enqueued.
            run_at: As it was enqueued.
            priority: As it was enqueued.
            max_attempts: As it was enqueued.
            database_id: As it was enqueued.
            count: Exactly so many; 0: none. Default None: one or more.

        Returns:
            The rows that fit, as dictionaries, each payload read.

        Raises:
            AssertionError: There are none, or not so many; shows what there is.
        """
        identifier = task.identifier if isinstance(task, Task) else task
        wanted = {
            "payload": payload if payload is _ANY else json.loads(pydantic_core.to_json(payload, by_alias=True)),
            "key": key,
            "queue_name": queue,
            "run_at": run_at,
            "priority": priority,
            "max_attempts": max_attempts,
            "database_id": str(database_id) if isinstance(database_id, UUID) else database_id,
        }
        wanted = {name: value for name, value in wanted.items() if value is not _ANY}
        rows = self._rows()
        found = [
            row
            for row in rows
            if row["task_identifier"] == identifier and all(row[name] == value for name, value in wanted.items())
        ]
        if found if count is None else len(found) == count:
            return found
        raise AssertionError(_told(identifier, wanted, found, rows, count))

    def _rows(self) -> list[dict[str, Any]]:
        rows = self._database.fetch(_ROWS)
        return [row | {"payload": json.loads(row["payload"])} for row in rows]


def _told(
    identifier: str,
    wanted: dict[str, Any],
    found: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    count: int | None,
) -> str:
    said = ", ".join(f"{name}={value!r}" for name, value in wanted.items())
    how_many = "no job" if not found else f"{len(found)} job{'s' if len(found) > 1 else ''}"
    first = f"{how_many} of {identifier!r}{f' with {said}' if said else ''}" + (
        "" if count is None else f", where {count} should be"
    )
    if not rows:
        return f"{first}; the queue is empty"
    names = ["payload", *(name for name in wanted if name != "payload")]
    lines = [
        f"  {row['id']} {row['task_identifier']} " + " ".join(f"{name}={row[name]!r}" for name in names)
        for row in rows[:_SHOWN]
    ]
    more = [f"  and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []
    return "\n".join([f"{first}; the queue holds:", *lines, *more])
