"""Schedules in a database, and pollers whose clock the test sets."""

import json
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import asyncpg

from jobfn.scheduler.poller import SchedulePoller

EVERY_HOUR = {"rule": "0 * * * *"}


def at(time: str) -> datetime:
    """Return a time of 2 March 2026, in UTC."""
    return datetime.fromisoformat(f"2026-03-02T{time}Z")


@dataclass
class Clock:
    """A wall clock that stands still at ``now``, at first 08:30 on 2 March 2026."""

    now: datetime = field(default_factory=lambda: at("08:30"))

    def __call__(self) -> datetime:
        return self.now


@dataclass(frozen=True)
class Schedules:
    """The schedules of one database.

    Attributes:
        connection: A connection to it.
        clock: The clock of its pollers.
        is_native: Whether the schema is jobfn's; False: the stand-in for the platform's.
    """

    connection: "asyncpg.Connection[Any]"
    clock: Clock = field(default_factory=Clock)
    is_native: bool = True

    async def set_time(self, time: str) -> None:
        """Set the clock to a time of 2 March 2026, for pollers and for the stand-in's functions."""
        self.clock.now = at(time)
        if not self.is_native:
            await self.connection.execute("update app_jobs.clock set now = $1", self.clock.now)

    async def add(self, info: object = EVERY_HOUR, *, added_at: datetime | None = None, **columns: object) -> int:
        """Insert a schedule, by default of the task ``sweep`` and added at 08:30. Return its id."""
        values = {"task_identifier": "sweep", "schedule_info": json.dumps(info)} | columns
        if self.is_native:
            values["rule_changed_at"] = added_at or at("08:30")
        places = ", ".join(f"${number}" for number, _ in enumerate(values, 1))
        schedule: int = await self.connection.fetchval(
            f"insert into app_jobs.scheduled_jobs ({', '.join(values)}) values ({places}) returning id",
            *values.values(),
        )
        return schedule

    async def row(self, schedule: int) -> "asyncpg.Record":
        """Return the schedule's row."""
        row = await self.connection.fetchrow("select * from app_jobs.scheduled_jobs where id = $1", schedule)
        assert row is not None
        return row

    async def update(self, schedule: int, **columns: object) -> None:
        """Update columns of a schedule."""
        assignments = ", ".join(f"{name} = ${number}" for number, name in enumerate(columns, 2))
        await self.connection.execute(
            f"update app_jobs.scheduled_jobs set {assignments} where id = $1", schedule, *columns.values()
        )

    async def set_rule(self, schedule: int, rule: str) -> None:
        """Change a schedule's rule at the clock's time."""
        changed_at = {"rule_changed_at": self.clock.now} if self.is_native else {}
        await self.update(schedule, schedule_info=json.dumps({"rule": rule}), **changed_at)

    async def job_count(self) -> int:
        """Return the number of jobs in the table."""
        count: int = await self.connection.fetchval("select count(*) from app_jobs.jobs")
        return count

    async def delete_jobs(self) -> None:
        """Delete all jobs, as if they were completed."""
        await self.connection.execute("delete from app_jobs.jobs")

    async def complete_jobs_immediately(self) -> None:
        """Complete each job from now on when it is inserted, and record it for ``completed_jobs``."""
        await self.connection.execute(
            """
            create table public.completed (task text, at timestamptz default clock_timestamp());
            create function public.complete() returns trigger language plpgsql as $$
            begin
                insert into public.completed (task) values (new.task_identifier);
                delete from app_jobs.jobs where id = new.id;
                return null;
            end $$;
            create trigger complete after insert on app_jobs.jobs for each row execute function public.complete();
            """
        )

    async def completed_jobs(self, task: str = "sweep") -> int:
        """Return the number of jobs of this task that were completed immediately."""
        count: int = await self.connection.fetchval("select count(*) from public.completed where task = $1", task)
        return count

    async def reject_jobs(self, task: str) -> None:
        """Make PostgreSQL reject jobs of this task, by the constraint ``rejected``."""
        await self.connection.execute(
            f"alter table app_jobs.jobs add constraint rejected check (task_identifier <> '{task}')"
        )

    async def accept_jobs(self) -> None:
        """Undo ``reject_jobs``."""
        await self.connection.execute("alter table app_jobs.jobs drop constraint rejected")


@dataclass(frozen=True)
class TimedPoller:
    """A poller that polls at a time that the test sets."""

    poller: SchedulePoller
    schedules: Schedules

    async def poll(self, time: str | None = None) -> float | None:
        """Set the clock, if a time is given, and poll."""
        if time is not None:
            await self.schedules.set_time(time)
        return await self.poller.poll()


class OpenPoller(Protocol):
    """The fixture ``open_poller``: opens and starts one more poller, with its own connection."""

    def __call__(
        self, scheduler_id: str = "scheduler-a", *, tasks: list[str] | None = None
    ) -> Awaitable[TimedPoller]: ...
