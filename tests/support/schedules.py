"""What tests of schedules speak of: schedules in a database, and a clock that the test sets."""

import json
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import asyncpg

from jobfn.scheduler.poller import SchedulePoller

EVERY_HOUR = {"rule": "0 * * * *"}


def at(time: str) -> datetime:
    """A time of 2 March 2026, in UTC."""
    return datetime.fromisoformat(f"2026-03-02T{time}Z")


@dataclass
class Clock:
    """What time it is, for those who ask."""

    now: datetime = field(default_factory=lambda: at("08:30"))

    def __call__(self) -> datetime:
        """The time."""
        return self.now

    def set(self, time: str) -> None:
        """Let it be so late on 2 March 2026."""
        self.now = at(time)


@dataclass(frozen=True)
class Schedules:
    """The schedules of one database, as a test asks for them."""

    connection: "asyncpg.Connection[Any]"

    async def add(self, info: object = None, **columns: object) -> int:
        """A plain INSERT, as anybody may write one; by default hourly, and known since 08:30."""
        values = {"task_identifier": "sweep", "rule_since": at("08:30")} | columns
        values["schedule_info"] = json.dumps(EVERY_HOUR if info is None else info)
        places = ", ".join(f"${number}" for number, _ in enumerate(values, 1))
        found: int = await self.connection.fetchval(
            f"insert into app_jobs.scheduled_jobs ({', '.join(values)}) values ({places}) returning id",
            *values.values(),
        )
        return found

    async def row(self, schedule: int) -> "asyncpg.Record":
        """The schedule's row."""
        row = await self.connection.fetchrow("select * from app_jobs.scheduled_jobs where id = $1", schedule)
        assert row is not None
        return row

    async def change(self, schedule: int, **columns: object) -> None:
        """A plain UPDATE."""
        sets = ", ".join(f"{name} = ${number}" for number, name in enumerate(columns, 2))
        await self.connection.execute(
            f"update app_jobs.scheduled_jobs set {sets} where id = $1", schedule, *columns.values()
        )

    async def finish_jobs_at_once(self) -> None:
        """From now on a job is done the moment it is made, and written down in ``made``."""
        await self.connection.execute(
            """
            create table public.made (task text, at timestamptz default clock_timestamp());
            create function public.finish() returns trigger language plpgsql as $$
            begin
                insert into public.made (task) values (new.task_identifier);
                delete from app_jobs.jobs where id = new.id;
                return null;
            end $$;
            create trigger finish after insert on app_jobs.jobs for each row execute function public.finish();
            """
        )

    async def made(self, task: str = "sweep") -> int:
        """How many jobs of this task were written down."""
        found: int = await self.connection.fetchval("select count(*) from public.made where task = $1", task)
        return found


class OpenPoller(Protocol):
    """The fixture ``poller``: opens the agenda of one more scheduler, by the test's clock."""

    def __call__(
        self, scheduler_id: str = "scheduler-a", *, tasks: list[str] | None = None
    ) -> Awaitable[SchedulePoller]: ...
