"""Lock the due schedules, decide what to do with each, and commit.

``DueSchedules`` works on jobfn's schema, ``platform_due_schedules.py`` on the platform's. The decision is a pure
function of the scheduler (``scheduler/decide.py``), called while the rows are locked.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import asyncpg

from jobfn.database.records import str_or_none
from jobfn.database.statements import query
from jobfn.errors import SchemaError

#: Maximum number of schedules in one transaction: many are due at midnight, and all stay locked until it commits.
BATCH_SIZE = 100


class ScheduleOutcome(StrEnum):
    """Result of a decision in the database."""

    PLANNED = "planned"
    ENQUEUED = "enqueued"
    SKIPPED = "skipped"
    WAITING = "waiting"
    FAILED = "failed"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class DueSchedule:
    """A schedule to decide on.

    Attributes:
        id: ``scheduled_jobs.id``.
        task: The task identifier.
        schedule_info: JSON text, as stored.
        now: The current time.
        after: Only due times after this one count.
        due_at: The next due time; None: not computed yet.
        last_scheduled: When its last job was enqueued, if ever.
        locked_by: The scheduler that has locked it, as the platform's scheduler does; None: it is free.
    """

    id: int
    task: str
    schedule_info: str
    now: datetime
    after: datetime
    due_at: datetime | None = None
    last_scheduled: datetime | None = None
    locked_by: str | None = None


@dataclass(frozen=True, slots=True)
class ScheduleDecision:
    """The next action for a schedule.

    Attributes:
        next_due_at: The next due time after this decision; None: never again.
        due_at: The due time to enqueue a job for; None: enqueue none now.
        wait_for_previous: If the previous job still waits or runs: True tries again later, False skips this due time.
        missed_count: Number of due times that pass without a job.
        last_missed_at: The latest of them.
        error: Why the schedule is invalid; None: it is valid.
    """

    next_due_at: datetime | None = None
    due_at: datetime | None = None
    wait_for_previous: bool = False
    missed_count: int = 0
    last_missed_at: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ScheduleResult:
    """A decision and its outcome.

    Attributes:
        schedule: The schedule.
        decision: The decision.
        outcome: The result in the database.
        job_id: The enqueued job.
        error: Why no job was enqueued.
        database_id: The tenant, if any.
    """

    schedule: DueSchedule
    decision: ScheduleDecision
    outcome: ScheduleOutcome
    job_id: int | None = None
    error: str | None = None
    database_id: str | None = None


Decide = Callable[[DueSchedule], ScheduleDecision]


class DueSchedules:
    """The schedules of jobfn's schema. Several schedulers can process them at the same time.

    Args:
        pool: Connections.
        schema: The jobs schema.
        tasks: Only schedules of these tasks; None: all.
        takeover_delay: Delay after the due time until a schedule that the platform's scheduler has locked is run.
        clock: Returns the current time; None: the database's clock, which all schedulers and workers share.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        schema: str,
        *,
        tasks: Sequence[str] | None,
        takeover_delay: timedelta,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._pool = pool
        self._query = functools.partial(query, schema=schema)
        self._tasks = tasks
        self._takeover_delay = takeover_delay
        self._clock = clock

    async def advance(self, decide: Decide, *, exclude_ids: Sequence[int]) -> list[ScheduleResult]:
        """Lock up to ``BATCH_SIZE`` schedules that are due, decide, and commit all decisions together.

        Schedules whose rows another scheduler has locked are skipped.

        Args:
            decide: A pure function, called once for each schedule.
            exclude_ids: Ids of schedules to leave out.

        Returns:
            The result for each schedule; empty if none was due.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(self._query("limit_schedule_locks"))
            await connection.fetchval(self._query("end_schedule_pauses"), self._now())
            rows = await connection.fetch(
                self._query("due_schedules"),
                self._now(),
                self._tasks,
                list(exclude_ids),
                self._takeover_delay,
                BATCH_SIZE,
            )
            decisions = {row["id"]: (schedule := _due_schedule(row), decide(schedule)) for row in rows}
            if not decisions:
                return []
            results = await connection.fetch(self._query("advance_schedules"), *_columns(list(decisions.values())))
        return [
            ScheduleResult(
                *decisions[row["id"]],
                ScheduleOutcome(row["outcome"]),
                job_id=row["job_id"],
                error=row["error"],
                database_id=str_or_none(row["database_id"]),
            )
            for row in results
        ]

    async def seconds_until_next(self, *, exclude_ids: Sequence[int]) -> float | None:
        """Return the seconds until a schedule is due, zero or less if one is due now; None if none ever is."""
        seconds: float | None = await self._pool.fetchval(
            self._query("next_schedule_due"), self._now(), self._tasks, list(exclude_ids), self._takeover_delay
        )
        return seconds

    def _now(self) -> datetime | None:
        return self._clock() if self._clock is not None else None


async def is_native_schema(pool: asyncpg.Pool, schema: str) -> bool:
    """Return whether the schema is jobfn's; False: it is the platform's.

    Raises:
        SchemaError: The schema has no schedules, or is a schema of jobfn's that is out of date.
    """
    kind = await pool.fetchrow(query("schema_kind", schema), schema)
    if not kind["has_schedules"] or (kind["has_record"] and not kind["has_due_times"]):
        raise SchemaError(f"schema {schema} has no schedules, or is out of date: run `jobfn db migrate`")
    return bool(kind["has_due_times"])


def _due_schedule(row: asyncpg.Record) -> DueSchedule:
    return DueSchedule(
        id=row["id"],
        task=row["task_identifier"],
        schedule_info=row["schedule_info"],
        now=row["now"],
        after=row["rule_changed_at"],
        due_at=row["due_at"],
        last_scheduled=row["last_scheduled"],
        locked_by=row["locked_by"],
    )


def _columns(decisions: Sequence[tuple[DueSchedule, ScheduleDecision]]) -> list[list[object]]:
    return [
        [schedule.id for schedule, _ in decisions],
        [decision.due_at is not None for _, decision in decisions],
        [decision.wait_for_previous for _, decision in decisions],
        [decision.due_at for _, decision in decisions],
        [decision.next_due_at for _, decision in decisions],
        [decision.missed_count for _, decision in decisions],
        [decision.last_missed_at for _, decision in decisions],
        [decision.error for _, decision in decisions],
    ]
