"""What a scheduler needs of the database: lock the schedules whose time has come, take a step with each, commit.

``DueSchedules`` is that on jobfn's own schema; ``platform_due.py`` on the platform's. What a step is to be, the
scheduler decides (``scheduler/decide.py``): its pure function is handed in, and called while the rows are locked.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import asyncpg

from jobfn.database.records import str_or_none
from jobfn.database.statements import query
from jobfn.errors import SchemaError

#: Schedules in one transaction: enough to be quick at midnight, few enough to be no burden while they are locked.
BATCH = 100


class Outcome(StrEnum):
    """What became of a step."""

    PLANNED = "planned"
    ENQUEUED = "enqueued"
    SKIPPED = "skipped"
    WAITING = "waiting"
    FAILED = "failed"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class DueSchedule:
    """A schedule that a scheduler looks at.

    Attributes:
        id: ``scheduled_jobs.id``.
        task: The task identifier.
        schedule_info: JSON text, as stored.
        now: The time at which it is looked at.
        since: Times up to this one are none of its own.
        due_at: The next due time; None: yet to be reckoned.
        last_scheduled: When it last made a job, if ever.
        holder: Another scheduler that has locked it for itself, as the platform's does.
    """

    id: int
    task: str
    schedule_info: str
    now: datetime
    since: datetime
    due_at: datetime | None = None
    last_scheduled: datetime | None = None
    holder: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What to do with a schedule now.

    Attributes:
        next_due: Its next due time after this step; None: never again.
        due: The time that it makes a job for; None: it makes none now.
        waits: What if its last job still waits or runs: True tries again, False skips this time.
        let_go: How many due times pass without a job.
        last_let_go: The latest of them.
        problem: Why the schedule is broken; None: it is not.
    """

    next_due: datetime | None = None
    due: datetime | None = None
    waits: bool = False
    let_go: int = 0
    last_let_go: datetime | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """A step that was taken.

    Attributes:
        schedule: With which schedule.
        step: Which.
        outcome: What became of it.
        job_id: The job that it made.
        error: Why it failed, or is broken.
        database_id: The tenant, if any.
    """

    schedule: DueSchedule
    step: Step
    outcome: Outcome
    job_id: int | None = None
    error: str | None = None
    database_id: str | None = None


Decide = Callable[[DueSchedule], Step]


class DueSchedules:
    """The schedules of jobfn's own schema, as any number of schedulers may see to them at once.

    Args:
        pool: Connections.
        schema: The jobs schema.
        tasks: Only schedules of these; None for all.
        takeover: For how long past its due time a schedule is left to a scheduler of the platform's that holds it.
        clock: What time it is; None for the database's own clock, which all schedulers and workers share.
    """

    def __init__(
        self,
        pool: "asyncpg.Pool[Any]",
        schema: str,
        *,
        tasks: Sequence[str] | None,
        takeover: timedelta,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._pool = pool
        self._query = functools.partial(query, schema=schema)
        self._tasks = tasks
        self._takeover = takeover
        self._clock = clock

    async def advance_schedules(self, decide: Decide, *, exclude_ids: Sequence[int]) -> list[Taken]:
        """Lock up to ``BATCH`` schedules that are due, decide, and commit all steps together.

        A schedule that another scheduler has under its hands is passed over: it sees to it.

        Args:
            decide: Pure; called once for each.
            exclude_ids: Ids to leave alone.

        Returns:
            What was done, empty when nothing was due.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(self._query("bound_schedule_locks"))
            rows = await connection.fetch(
                self._query("due_schedules"), self._now(), self._tasks, list(exclude_ids), self._takeover, BATCH
            )
            steps = {row["id"]: (found := _due_schedule(row), decide(found)) for row in rows}
            if not steps:
                return []
            done = await connection.fetch(self._query("advance_schedules"), *_columns(list(steps.values())))
        return [
            Taken(
                *steps[row["id"]],
                Outcome(row["outcome"]),
                job_id=row["job_id"],
                error=row["error"],
                database_id=str_or_none(row.get("database_id")),
            )
            for row in done
        ]

    async def seconds_to_next(self, *, exclude_ids: Sequence[int]) -> float | None:
        """Seconds until something is due, zero or less if it is already; None when nothing ever is."""
        seconds: float | None = await self._pool.fetchval(
            self._query("next_due"), self._now(), self._tasks, list(exclude_ids), self._takeover
        )
        return seconds

    def _now(self) -> datetime | None:
        return self._clock() if self._clock is not None else None


async def has_due_times(pool: "asyncpg.Pool[Any]", schema: str) -> bool:
    """Whether this schema has what ``DueSchedules`` needs; False: it is the platform's own.

    Raises:
        SchemaError: It has no schedules at all, or is one of jobfn's that is out of date.
    """
    kind = await pool.fetchrow(query("schedules_kind", schema), schema)
    if kind is None or not kind["has_schedules"] or (kind["has_record"] and not kind["has_due_times"]):
        raise SchemaError(f"schema {schema} has no schedules, or is out of date: run `jobfn db migrate`")
    return bool(kind["has_due_times"])


def _due_schedule(row: "asyncpg.Record") -> DueSchedule:
    return DueSchedule(
        id=row["id"],
        task=row["task_identifier"],
        schedule_info=row["schedule_info"],
        now=row["now"],
        since=row["rule_since"],
        due_at=row["due_at"],
        last_scheduled=row["last_scheduled"],
        holder=row["locked_by"],
    )


def _columns(steps: Sequence[tuple[DueSchedule, Step]]) -> list[list[Any]]:
    return [
        [schedule.id for schedule, _ in steps],
        [step.due is not None for _, step in steps],
        [step.waits for _, step in steps],
        [step.due for _, step in steps],
        [step.next_due for _, step in steps],
        [step.let_go for _, step in steps],
        [step.last_let_go for _, step in steps],
        [step.problem for _, step in steps],
    ]
