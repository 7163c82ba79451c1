"""List, add, remove and run schedules, for people and for the sync from code. ``due_schedules.py`` is for schedulers.

Everything works on jobfn's schema and on the platform's, whose tables have fewer columns.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from jobfn.database.statements import query
from jobfn.errors import ConfigurationError, DatabaseError, SchemaError

#: Prefix of the keys of schedules from code.
KEY_PREFIX = "jobfn:"
#: Error of ``run_scheduled_job`` while the schedule's last job waits or runs (contract, section 3).
ALREADY_SCHEDULED = "ALREADY_SCHEDULED"


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A row of ``scheduled_jobs``, with the state of its last job.

    Attributes:
        id: ``scheduled_jobs.id``.
        task: The task identifier.
        key: Its key, if any.
        schedule_info: Its rule, as stored.
        payload: The payload of its jobs, as stored.
        queue: The named queue of its jobs, if any.
        priority: The priority of its jobs; lower runs first.
        max_attempts: Maximum number of attempts of its jobs.
        database_id: The tenant, if any.
        last_scheduled: When its last job was enqueued.
        last_job: The id of that job.
        outcome: The state of that job, as text; None: there was no job.
        problem: Why the rule is invalid, or the last job was not enqueued.
        skipped: Number of due times that passed without a job.
        last_skipped: The latest of them.
        skip_reason: Why the latest one was skipped.
        paused_at: Since when it makes no jobs; None: it is not paused.
        pause_reason: Why, if it is known.
        paused_until: When the pause ends by itself; None: when it is resumed.
        due_at: Its next due time, if a scheduler has computed one.
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
    paused_at: datetime | None = None
    pause_reason: str | None = None
    paused_until: datetime | None = None
    due_at: datetime | None = None

    def require_pause(self) -> None:
        """Check that it is paused.

        Raises:
            ConfigurationError: It is not.
        """
        if self.paused_at is None:
            raise ConfigurationError(f"schedule {self.id} of {self.task} is not paused: see `jobfn schedules list`")

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> "ScheduleRow":
        """Return the schedule in a row of the query ``schedules``."""
        columns = json.loads(row["schedule"])
        return cls(
            id=columns["id"],
            task=columns["task_identifier"],
            key=columns["key"],
            schedule_info=columns["schedule_info"],
            payload=columns["payload"],
            queue=columns["queue_name"],
            priority=columns["priority"],
            max_attempts=columns["max_attempts"],
            database_id=columns["database_id"],
            last_scheduled=_parse_time(columns["last_scheduled"]),
            last_job=columns["last_scheduled_id"],
            outcome=row["outcome"],
            problem=columns.get("last_error"),
            skipped=columns.get("skipped", 0),
            last_skipped=_parse_time(columns.get("last_skipped")),
            skip_reason=columns.get("skip_reason"),
            paused_at=_parse_time(columns.get("paused_at")),
            pause_reason=columns.get("pause_reason"),
            paused_until=_parse_time(columns.get("paused_until")),
            due_at=_parse_time(columns.get("due_at")),
        )


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """A schedule to add, with the arguments of the contract's ``add_scheduled_job``.

    Attributes:
        task: The task identifier, 1 to 126 characters.
        schedule_info: Its rule, as ``scheduler.rule.parse`` reads it.
        payload: JSON text.
        key: A schedule with the same key is replaced. Its jobs have this job key, too.
        queue: The named queue of its jobs.
        max_attempts: Maximum number of attempts of its jobs.
        priority: The priority of its jobs; lower runs first.
        database_id: The tenant; None: the session's.
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
    """The schedules of a database.

    Args:
        connection: A connection whose role may read and write the jobs schema.
        schema: The jobs schema.

    Raises:
        DatabaseError: From every method: PostgreSQL rejected the statement.
        SchemaError: From every method: the schema has no schedules, or is out of date.
    """

    def __init__(self, connection: asyncpg.Connection, schema: str) -> None:
        self._connection = connection
        self._schema = schema

    async def all(self) -> list[ScheduleRow]:
        """Return all schedules, ordered by task."""
        return [ScheduleRow.from_row(row) for row in await self._fetch("schedules")]

    async def find(self, name: str) -> ScheduleRow:
        """Return the schedule with this id, with this key, or of this task if the task has only one.

        Raises:
            ConfigurationError: There is no such schedule, or more than one.
        """
        schedules = await self.all()
        for matches in (
            [schedule for schedule in schedules if str(schedule.id) == name],
            [schedule for schedule in schedules if schedule.key == name],
            [schedule for schedule in schedules if schedule.task == name],
        ):
            if len(matches) == 1:
                return matches[0]
            if matches:
                ids = ", ".join(str(schedule.id) for schedule in matches)
                raise ConfigurationError(f"{name} has {len(matches)} schedules: name one by its id ({ids})")
        raise ConfigurationError(f"no schedule has the id, the key or the task {name!r}: see `jobfn schedules list`")

    async def add(self, new: NewSchedule) -> int:
        """Add a schedule, or replace the one with the same key. Return its id."""
        name = "add_schedule"
        values: list[object] = [
            new.task,
            new.payload,
            json.dumps(new.schedule_info),
            new.key,
            new.queue,
            new.max_attempts,
            new.priority,
        ]
        if new.database_id is not None:
            name = "add_schedule_for_tenant"
            values.append(new.database_id)
        async with self._connection.transaction():
            if new.key is not None and not await self._is_native():
                # While a scheduler has locked the old row, the platform's add_scheduled_job would add a second row,
                # without the key. Its scheduler also notices only new rows.
                await self._fetch("remove_schedule_of_key", new.key)
            rows = await self._fetch(name, *values)
        return int(rows[0]["id"])

    async def remove(self, schedule_id: int) -> bool:
        """Remove a schedule; its jobs stay. Return whether it existed."""
        return bool(await self._fetch("remove_schedule", schedule_id))

    async def run(self, schedule_id: int) -> int | None:
        """Enqueue a schedule's job now, in addition to its due times, also while it is paused.

        Returns:
            The job's id; None: no such schedule.

        Raises:
            DatabaseError: Its last job still waits or runs, or PostgreSQL rejected the job.
        """
        name = "run_schedule" if await self._is_native() else "run_scheduled_job"
        rows = await self._fetch(name, schedule_id)
        return rows[0]["id"] if rows else None

    async def pause(
        self,
        schedule_id: int,
        reason: str | None = None,
        *,
        seconds: float | None = None,
        until: datetime | None = None,
    ) -> bool:
        """Make no jobs of a schedule for some seconds, until a time, or until it is resumed. Return whether it exists.

        Raises:
            ConfigurationError: The schema is the platform's.
            DatabaseError: The time is not in the future.
        """
        await self._require_pauses()
        return bool((await self._fetch("pause_schedule", schedule_id, reason, until, seconds))[0]["is_found"])

    async def resume(self, schedule_id: int) -> bool:
        """End the pause of a schedule. Due times in the pause make no job. Return whether it exists.

        Raises:
            ConfigurationError: The schema is the platform's.
        """
        await self._require_pauses()
        return bool((await self._fetch("resume_schedule", schedule_id))[0]["is_found"])

    async def _require_pauses(self) -> None:
        if not await self._is_native():
            raise ConfigurationError(
                f"schema {self._schema} is the platform's own, which has no pauses: remove the schedule, and add it "
                "again later"
            )

    async def _is_native(self) -> bool:
        rows = await self._fetch("schema_kind", self._schema)
        return bool(rows[0]["has_due_times"])

    async def _fetch(self, name: str, *values: object) -> Sequence[asyncpg.Record]:
        try:
            rows: Sequence[asyncpg.Record] = await self._connection.fetch(query(name, self._schema), *values)
        except (asyncpg.InvalidSchemaNameError, asyncpg.UndefinedTableError) as error:
            raise SchemaError(f"schema {self._schema} has no schedules: run `jobfn db migrate`") from error
        except asyncpg.UndefinedFunctionError as error:
            raise SchemaError(
                f"schema {self._schema} has no matching function: run `jobfn db migrate`; the platform's schema "
                "requires the tenant (--database-id)"
            ) from error
        except asyncpg.PostgresError as error:
            message = error.args[0]
            if message == ALREADY_SCHEDULED:
                raise DatabaseError("no job was enqueued: the schedule's last job still waits or runs") from error
            if isinstance(error, asyncpg.NotNullViolationError) and error.column_name == "database_id":
                message += ": this schema requires the tenant (--database-id)"
            raise DatabaseError(f"the schedule was rejected: {message}") from error
        return rows


def _parse_time(text: str | None) -> datetime | None:
    return None if text is None or text.endswith("infinity") else datetime.fromisoformat(text)
