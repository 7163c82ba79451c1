"""Scheduler processes that are killed or frozen in the middle of it: nothing is lost, nothing is doubled."""

import signal
from typing import Any

import asyncpg
import pytest

from support.commands import RunningCommand, Spawn
from support.jobs import Jobs
from support.network import eventually
from support.schedules import Schedules

#: Where the first scheduler is held up for a while: triggers that sleep, once.
POINTS = {
    "when the job is inserted": "create trigger hold after insert on app_jobs.jobs for each row",
    "when the job is noted in the schedule": (
        "create trigger hold before update of last_scheduled on app_jobs.scheduled_jobs for each row"
    ),
    "when the schedule moves on": (
        "create trigger hold after update of due_at on app_jobs.scheduled_jobs for each row "
        "when (old.due_at < new.due_at)"
    ),
    "when it commits": (
        "create constraint trigger hold after insert on app_jobs.jobs deferrable initially deferred for each row"
    ),
}
HOLD = """
    create sequence public.holds;
    create function public.hold() returns trigger language plpgsql as $$
    begin
        if nextval('public.holds') = 1 then perform pg_sleep({seconds}); end if;
        return new;
    end $$;
"""
HELD_UP = """
    select pid from pg_stat_activity
    where datname = current_database() and wait_event = 'PgSleep' and application_name = 'jobfn-service'
"""


async def start_scheduler(spawn: Spawn, database: str, name: str) -> RunningCommand:
    running = await spawn(
        "jobfn",
        "service",
        "--only",
        "scheduler",
        DATABASE_URL=database,
        HOSTNAME=name,
        JOBS_POLL_INTERVAL_SECONDS="3600",
    )
    await running.until('"scheduler started"')
    return running


async def add_a_time_that_has_come(schedules: Schedules) -> int:
    """A schedule that is due now and then not before next year."""
    schedule = await schedules.add({"rule": "0 0 1 1 *"})
    await schedules.change(schedule, due_at=await schedules.connection.fetchval("select now()"))
    return schedule


async def hold_up(connection: "asyncpg.Connection[Any]", point: str, *, seconds: float) -> None:
    await connection.execute(HOLD.format(seconds=seconds))
    await connection.execute(f"{POINTS[point]} execute function public.hold()")


async def is_held_up(connection: "asyncpg.Connection[Any]") -> int | None:
    pid: int | None = await connection.fetchval(HELD_UP)
    return pid


@pytest.mark.parametrize("point", POINTS)
async def test_a_scheduler_killed_in_the_middle_loses_and_doubles_nothing(
    point: str, schedules: Schedules, jobs: Jobs, spawn: Spawn, database: str
) -> None:
    """kill -9 at every point of its transaction; the one beside it makes the job, or finds it made."""
    await hold_up(schedules.connection, point, seconds=1.0)
    schedule = await add_a_time_that_has_come(schedules)
    first = await start_scheduler(spawn, database, "scheduler-1")
    await eventually(lambda: is_held_up(schedules.connection))
    first.send(signal.SIGKILL)
    assert await first.wait() == -signal.SIGKILL
    await start_scheduler(spawn, database, "scheduler-2")

    async def moved_on() -> bool:
        return bool((await schedules.row(schedule))["due_at"] > (await now(schedules)))

    await eventually(moved_on)
    row = await schedules.row(schedule)
    job = await jobs.row(row["last_scheduled_id"])
    assert job is not None
    # a second try would have found the first job waiting, and counted a skip
    assert (await jobs.count(), row["skipped"]) == (1, 0)


async def test_a_scheduler_that_freezes_in_the_middle_is_not_waited_for(
    schedules: Schedules, jobs: Jobs, spawn: Spawn, database: str
) -> None:
    """Its machine stands still with the row locked: after ten seconds the server ends its transaction."""
    await hold_up(schedules.connection, "when the schedule moves on", seconds=0.5)
    schedule = await add_a_time_that_has_come(schedules)
    frozen = await start_scheduler(spawn, database, "scheduler-1")
    await eventually(lambda: is_held_up(schedules.connection))
    frozen.send(signal.SIGSTOP)
    second = await start_scheduler(spawn, database, "scheduler-2")
    await second.until('"job enqueued"', seconds=20)
    row = await schedules.row(schedule)
    assert (await jobs.count(), row["skipped"]) == (1, 0)

    second.send(signal.SIGTERM)
    await second.wait()
    frozen.send(signal.SIGCONT)
    await schedules.add({"rule": "* * * * * *"}, task_identifier="after")
    await frozen.until('"job enqueued"')
    row = await schedules.row(schedule)
    assert (await jobs.count(), row["skipped"]) == (2, 0)


async def now(schedules: Schedules) -> Any:
    return await schedules.connection.fetchval("select now()")
