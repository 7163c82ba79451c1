"""Schedules as people see them: list, add, remove, run now. The scheduler's side is ``due.py``.

All of it works on jobfn's own schema and on the platform's, whose tables have fewer columns.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from jobfn.database.statements import query
from jobfn.errors import ConfigurationError, DatabaseError, SchemaError

#: The keys of schedules that come from code begin so.
KEY_PREFIX = "jobfn:"
#: What run_scheduled_job says while a schedule's last job waits or runs (contract, section 3).
ALREADY_SCHEDULED = "ALREADY_SCHEDULED"


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A row of ``scheduled_jobs`` and what became of its last job.

    Attributes:
        id: ``scheduled_jobs.id``.
        task: The task identifier.
        key: Its key, if any; those of schedules from code begin with ``jobfn:``.
        schedule_info: As stored.
        payload: As stored.
        queue: The named queue of its jobs, if any.
        priority: Of its jobs; lower runs first.
        max_attempts: Of its jobs.
        database_id: The tenant, if any.
        last_scheduled: When its last job was made.
        last_job: That job's id.
        outcome: What became of it, in words; None: there was none.
        problem: Why it is broken, or why its last job could not be made.
        skipped: How many due times made no job.
        last_skipped: The latest of them.
        skip_reason: Why.
    """

    id: int
    task: str
    key: str | None
    schedule_info: Any
    payload: Any
    queue: str | None
    priority: int
    max_attempts: int
    database_id: str | None
    last_scheduled: datetime | None
    last_job: int | None
    outcome: str | None
    problem: str | None
    skipped: int
    last_skipped: datetime | None
    skip_reason: str | None

    @classmethod
    def of(cls, row: "asyncpg.Record") -> "ScheduleRow":
        """The schedule in a row of the query ``schedules``."""
        found = json.loads(row["schedule"])
        return cls(
            id=found["id"],
            task=found["task_identifier"],
            key=found["key"],
            schedule_info=found["schedule_info"],
            payload=found["payload"],
            queue=found["queue_name"],
            priority=found["priority"],
            max_attempts=found["max_attempts"],
            database_id=found["database_id"],
            last_scheduled=_moment(found["last_scheduled"]),
            last_job=found["last_scheduled_id"],
            outcome=row["outcome"],
            problem=found.get("last_error"),
            skipped=found.get("skipped", 0),
            last_skipped=_moment(found.get("last_skipped")),
            skip_reason=found.get("skip_reason"),
        )


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """A schedule to add; every field as in the contract's ``add_scheduled_job``.

    Attributes:
        task: The task identifier, 1 to 126 characters.
        schedule_info: As ``scheduler.rule.parse`` reads it.
        payload: JSON text.
        key: A schedule of the same key is replaced; its jobs carry it too.
        queue: The named queue of its jobs.
        max_attempts: Of its jobs, default 25.
        priority: Of its jobs; lower runs first.
        database_id: The tenant; None: that of the session.
    """

    task: str
    schedule_info: dict[str, Any]
    payload: str = "{}"
    key: str | None = None
    queue: str | None = None
    max_attempts: int = 25
    priority: int = 0
    database_id: str | None = None


class ScheduleTable:
    """The schedules of one database, in the transactions of one connection.

    Args:
        connection: Its role must be allowed to read and write the jobs schema.
        schema: The jobs schema.

    Raises:
        DatabaseError: From every method: PostgreSQL refused; says what. ``SchemaError`` where there is no such table.
    """

    def __init__(self, connection: "asyncpg.Connection[Any]", schema: str) -> None:
        self._connection = connection
        self._schema = schema

    async def all(self) -> list[ScheduleRow]:
        """Every schedule, by task."""
        rows = await self._fetch("schedules")
        return [ScheduleRow.of(row) for row in rows]

    async def find(self, name: str) -> ScheduleRow:
        """The one schedule that a person means: by its id, its key, or its task if that has only one.

        Raises:
            ConfigurationError: None, or more than one.
        """
        everything = await self.all()
        for found in (
            [row for row in everything if str(row.id) == name],
            [row for row in everything if row.key == name],
            [row for row in everything if row.task == name],
        ):
            if len(found) == 1:
                return found[0]
            if found:
                ids = ", ".join(str(row.id) for row in found)
                raise ConfigurationError(f"{name} has {len(found)} schedules: name one by its id ({ids})")
        raise ConfigurationError(f"no schedule has the id, the key or the task {name!r}: see `jobfn schedules list`")

    async def add(self, new: NewSchedule) -> int:
        """Add a schedule, or replace the one of the same key. Returns its id."""
        values = [
            new.task,
            new.payload,
            json.dumps(new.schedule_info),
            new.key,
            new.queue,
            new.max_attempts,
            new.priority,
        ]
        async with self._connection.transaction():
            if new.key is not None and not await self._is_ours():
                # the platform's add_scheduled_job, finding the old one locked, adds the new one without its key;
                # and its scheduler hears of new rows only
                await self._fetch("remove_schedule_of_key", new.key)
            if new.database_id is not None:
                rows = await self._fetch("add_schedule_for_tenant", *values, new.database_id)
            else:
                rows = await self._fetch("add_schedule", *values)
        return int(rows[0]["id"])

    async def remove(self, schedule_id: int) -> bool:
        """Remove a schedule; a job that it made stays. Returns whether it was there."""
        return bool(await self._fetch("remove_schedule", schedule_id))

    async def run(self, schedule_id: int) -> int | None:
        """Make its job now, beside its due times. Returns the job's id, None where the schedule is gone.

        Raises:
            DatabaseError: Its last job still waits or runs, or PostgreSQL refused.
        """
        rows = await self._fetch("run_scheduled_job", schedule_id)
        return rows[0]["id"] if rows else None

    async def _is_ours(self) -> bool:
        rows = await self._fetch("schedules_kind", self._schema)
        return bool(rows[0]["has_due_times"])

    async def _fetch(self, name: str, *values: Any) -> "Sequence[asyncpg.Record]":
        try:
            rows: Sequence[asyncpg.Record] = await self._connection.fetch(query(name, self._schema), *values)
        except (asyncpg.InvalidSchemaNameError, asyncpg.UndefinedTableError) as error:
            raise SchemaError(f"schema {self._schema} has no schedules: run `jobfn db migrate`") from error
        except asyncpg.UndefinedFunctionError as error:
            raise SchemaError(
                f"schema {self._schema} has no function for this: run `jobfn db migrate`; a schema of the "
                "platform's own wants the tenant too (--database-id)"
            ) from error
        except asyncpg.NotNullViolationError as error:
            hint = ": this schema wants the tenant (--database-id)" if error.column_name == "database_id" else ""
            raise DatabaseError(f"the schedule was refused: {error.args[0]}{hint}") from error
        except asyncpg.RaiseError as error:
            if error.args[0] == ALREADY_SCHEDULED:
                raise DatabaseError("no job was made: the schedule's last one is still waiting or running") from error
            raise DatabaseError(f"the schedule was refused: {error.args[0]}") from error
        except asyncpg.PostgresError as error:
            raise DatabaseError(f"the schedule was refused: {error.args[0]}") from error
        except asyncpg.DataError as error:  # the driver's own: a number too large, a text that is none
            raise DatabaseError(f"the schedule was refused: {error}") from error
        return rows


def _moment(text: str | None) -> datetime | None:
    return None if text is None or text.endswith("infinity") else datetime.fromisoformat(text)
