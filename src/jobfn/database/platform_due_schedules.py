"""Lock and run schedules on the platform's schema, by its functions (contract, section 3).

``get_scheduled_job`` locks a schedule until ``release_scheduled_jobs``; ``run_scheduled_job`` enqueues its job. The
schema has no column for the next due time: a scheduler keeps it in memory while it has the lock. To prevent two
schedulers from enqueueing the same job, the lock is read again in the transaction that enqueues it.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import asyncpg

from jobfn.database.due_schedules import ScheduleOutcome
from jobfn.database.records import str_or_none
from jobfn.database.schedules import ALREADY_SCHEDULED
from jobfn.database.statements import query


@dataclass(frozen=True, slots=True)
class LockedSchedule:
    """A schedule that a scheduler has locked.

    Attributes:
        id: ``scheduled_jobs.id``.
        task: The task identifier.
        schedule_info: JSON text, as stored.
        locked_by: The id of that scheduler.
        locked_at: When it was locked.
        last_scheduled: When its last job was enqueued, if ever.
    """

    id: int
    task: str
    schedule_info: str
    locked_by: str
    locked_at: datetime
    last_scheduled: datetime | None

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> "LockedSchedule":
        """Return the schedule in a row of ``scheduled_jobs``."""
        return cls(
            id=row["id"],
            task=row["task_identifier"],
            schedule_info=row["schedule_info"],
            locked_by=row["locked_by"],
            locked_at=row["locked_at"],
            last_scheduled=row["last_scheduled"],
        )


@dataclass(frozen=True, slots=True)
class EnqueueResult:
    """The result of enqueueing a schedule's job.

    Attributes:
        outcome: ``ENQUEUED``, ``SKIPPED``, ``WAITING`` or ``FAILED``; ``PLANNED``: the row has changed, so nothing was
            done.
        job_id: The job.
        error: Why there is none.
        schedule: The schedule as it is now.
        database_id: The job's tenant, if any.
    """

    outcome: ScheduleOutcome
    job_id: int | None = None
    error: str | None = None
    schedule: LockedSchedule | None = None
    database_id: str | None = None


class PlatformDueSchedules:
    """The schedules of the platform's schema, which has the contract's columns and functions only.

    Args:
        pool: Connections.
        schema: The jobs schema.
        scheduler_id: The id under which schedules are locked, at least 4 characters.
        tasks: Only schedules of these tasks; None: all.
        clock: Returns the current time; None: the database's clock.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        schema: str,
        *,
        scheduler_id: str,
        tasks: Sequence[str] | None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._pool = pool
        self._query = functools.partial(query, schema=schema)
        self._scheduler_id = scheduler_id
        self._tasks = tasks
        self._clock = clock

    async def now(self) -> datetime:
        """Return the current time."""
        if self._clock is not None:
            return self._clock()
        now: datetime = await self._pool.fetchval("select clock_timestamp()")
        return now

    async def lock_free_schedules(self) -> list[LockedSchedule]:
        """Lock all schedules that are free, and return them."""
        acquired = []
        async with self._pool.acquire() as connection:
            while (
                row := await connection.fetchrow(self._query("get_scheduled_job"), self._scheduler_id, self._tasks)
            ) is not None:
                acquired.append(LockedSchedule.from_row(row))
        return acquired

    async def locked_schedules(self) -> list[LockedSchedule]:
        """Return all locked schedules, also those of other schedulers."""
        return [
            LockedSchedule.from_row(row) for row in await self._pool.fetch(self._query("locked_schedules"), self._tasks)
        ]

    async def release(self) -> None:
        """Release all schedules that are locked under this scheduler's id."""
        await self._pool.execute(self._query("release_scheduled_jobs"), self._scheduler_id, None)

    async def enqueue_job(self, schedule: LockedSchedule, *, wait_for_previous: bool) -> EnqueueResult:
        """Enqueue the job of a schedule that this scheduler has locked, unless the row has changed.

        Args:
            schedule: The schedule as it was read.
            wait_for_previous: The outcome while its previous job waits or runs: ``WAITING`` if True, else ``SKIPPED``.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            if await self._lock_schedule(connection, schedule.id) != schedule:
                return EnqueueResult(ScheduleOutcome.PLANNED)
            result = await self._run_scheduled_job(connection, schedule.id)
            if result.outcome is ScheduleOutcome.SKIPPED and wait_for_previous:
                result = replace(result, outcome=ScheduleOutcome.WAITING)
            if result.outcome is not ScheduleOutcome.ENQUEUED:
                # the lock's age shows other schedulers that this due time was handled
                now = self._clock() if self._clock is not None else None
                await connection.execute(self._query("touch_scheduled_job"), schedule.id, now)
            return replace(result, schedule=await self._lock_schedule(connection, schedule.id))

    async def take_over(self, schedule: LockedSchedule) -> EnqueueResult | None:
        """Enqueue the job that the scheduler with the lock missed, and remove the lock, in one transaction.

        Returns:
            The result; None if the row has changed, or no job was enqueued.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            if await self._lock_schedule(connection, schedule.id) != schedule:
                return None
            result = await self._run_scheduled_job(connection, schedule.id)
            if result.outcome is ScheduleOutcome.ENQUEUED:
                await connection.execute(self._query("release_scheduled_jobs"), schedule.locked_by, [schedule.id])
            return result if result.outcome is ScheduleOutcome.ENQUEUED else None

    async def _lock_schedule(self, connection: asyncpg.Connection, schedule_id: int) -> LockedSchedule | None:
        await connection.execute(self._query("limit_schedule_locks"))
        row = await connection.fetchrow(self._query("locked_schedule"), schedule_id)
        return None if row is None else LockedSchedule.from_row(row)

    async def _run_scheduled_job(self, connection: asyncpg.Connection, schedule_id: int) -> EnqueueResult:
        try:
            async with connection.transaction():
                job = await connection.fetchrow(self._query("run_scheduled_job"), schedule_id)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            return EnqueueResult(ScheduleOutcome.WAITING, error=error.args[0])
        except asyncpg.PostgresError as error:
            if error.args[0] == ALREADY_SCHEDULED:
                return EnqueueResult(ScheduleOutcome.SKIPPED, error=ALREADY_SCHEDULED)
            if str(error.sqlstate).startswith(("53", "57", "58", "XX")):
                raise
            return EnqueueResult(ScheduleOutcome.FAILED, error=error.args[0])
        return EnqueueResult(ScheduleOutcome.ENQUEUED, job_id=job["id"], database_id=str_or_none(job["database_id"]))
