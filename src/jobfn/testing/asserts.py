"""``assert_enqueued``: check which jobs are in a test's queue."""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

from jobfn.client.validation import to_json
from jobfn.function.task import Task
from jobfn.testing.database import SCHEMA, JobsDatabase

_ANY: Any = object()
#: Maximum number of jobs in an error message.
_MAX_LISTED_JOBS = 10
_SELECT_JOBS = f"""
    select
        id, task_identifier, payload, key, queue_name, run_at, priority, max_attempts, attempts, last_error,
        database_id::text, actor_id::text
    from {SCHEMA}.jobs
    order by id
"""  # noqa: S608  - a constant


class AssertEnqueued:
    """The fixture ``assert_enqueued``."""

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
        """Fail unless a matching job is in the table and committed. Options that are not given match any value.

        Args:
            task: A task or its identifier.
            payload: The whole payload: JSON types or a model.
            key: The job key.
            queue: The named queue.
            run_at: The earliest start.
            priority: The priority.
            max_attempts: The maximum number of attempts.
            database_id: The tenant.
            count: Exact number of matching jobs. Default: one or more.

        Returns:
            The matching rows as dictionaries, with parsed payloads.

        Raises:
            AssertionError: No job matches, or not ``count`` jobs; lists the jobs in the queue.
        """
        identifier = task.identifier if isinstance(task, Task) else task
        options = {
            "payload": payload if payload is _ANY else json.loads(to_json(payload)),
            "key": key,
            "queue_name": queue,
            "run_at": run_at,
            "priority": priority,
            "max_attempts": max_attempts,
            "database_id": str(database_id) if isinstance(database_id, UUID) else database_id,
        }
        expected = {name: value for name, value in options.items() if value is not _ANY}
        rows = [row | {"payload": json.loads(row["payload"])} for row in self._database.fetch(_SELECT_JOBS)]
        matching = [
            row
            for row in rows
            if row["task_identifier"] == identifier and all(row[name] == value for name, value in expected.items())
        ]
        if matching if count is None else len(matching) == count:
            return matching
        raise AssertionError(_message(identifier, expected, len(matching), count, rows))


def _message(
    identifier: str, expected: dict[str, Any], found: int, count: int | None, rows: list[dict[str, Any]]
) -> str:
    conditions = ", ".join(f"{name}={value!r}" for name, value in expected.items())
    text = f"{found or 'no'} job{'s' if found > 1 else ''} of {identifier!r}"
    text += (f" with {conditions}" if conditions else "") + ("" if count is None else f", expected {count}")
    if not rows:
        return f"{text}; the queue is empty"
    names = ["payload", *(name for name in expected if name != "payload")]
    lines = [
        f"  {row['id']} {row['task_identifier']} " + " ".join(f"{name}={row[name]!r}" for name in names)
        for row in rows[:_MAX_LISTED_JOBS]
    ]
    more = [f"  and {len(rows) - _MAX_LISTED_JOBS} more"] if len(rows) > _MAX_LISTED_JOBS else []
    return "\n".join([f"{text}; the queue contains:", *lines, *more])
