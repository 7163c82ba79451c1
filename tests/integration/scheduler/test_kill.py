"""Scheduler processes that are killed or frozen during a poll: no run is lost or doubled."""

import signal
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from support.commands import RunningCommand, Spawn
from support.fixtures import ConnectTo
from support.jobs import Jobs
from support.network import eventually
from support.schedules import Schedules

#: Triggers that stop the first poll at some point, until the gate opens.
TRIGGERS = {
    "insert of the job": "create trigger wait after insert on app_jobs.jobs for each row",
    "update of last_scheduled": (
        "create trigger wait before update of last_scheduled on app_jobs.scheduled_jobs for each row"
    ),
    "update of due_at": (
        "create trigger wait after update of due_at on app_jobs.scheduled_jobs for each row "
        "when (old.due_at < new.due_at)"
    ),
    "commit": "create constraint trigger wait after insert on app_jobs.jobs deferrable initially deferred for each row",
}
WAIT_AT_GATE = """
    create sequence public.arrivals;
    create function public.wait_at_gate() returns trigger language plpgsql as $$
    begin
        if nextval('public.arrivals') = 1 then perform pg_advisory_xact_lock(1); end if;
        return new;
    end $$;
"""
WAITING = "select exists (select from pg_locks where locktype = 'advisory' and objid = 1 and not granted)"


@pytest.fixture
async def gate(database: str, connect_to: ConnectTo) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """A connection that holds the gate's lock."""
    connection = await connect_to(database)
    await connection.execute("select pg_advisory_lock(1)")
    yield connection
    await connection.execute("select pg_advisory_unlock_all()")


async def start_scheduler(spawn: Spawn, database: str, name: str) -> RunningCommand:
    variables = {"DATABASE_URL": database, "HOSTNAME": name, "JOBS_POLL_INTERVAL_SECONDS": "3600"}
    running = await spawn("jobfn", "service", "--only", "scheduler", **variables)
    await running.until('"scheduler started"')
    return running


async def add_due_schedule(schedules: Schedules) -> int:
    """Add a schedule that is due now, and then not before the next year."""
    schedule = await schedules.add({"rule": "0 0 1 1 *"})
    await schedules.update(schedule, due_at=await schedules.connection.fetchval("select now()"))
    return schedule


async def install_trigger(connection: "asyncpg.Connection[Any]", point: str) -> None:
    await connection.execute(f"{WAIT_AT_GATE} {TRIGGERS[point]} execute function public.wait_at_gate()")


@pytest.mark.parametrize("point", TRIGGERS)
async def test_killed_scheduler_loses_and_doubles_no_run(
    point: str, schedules: Schedules, jobs: Jobs, spawn: Spawn, database: str, gate: "asyncpg.Connection[Any]"
) -> None:
    await install_trigger(schedules.connection, point)
    schedule = await add_due_schedule(schedules)
    first = await start_scheduler(spawn, database, "scheduler-1")
    await eventually(lambda: gate.fetchval(WAITING))
    first.send(signal.SIGKILL)
    assert await first.wait() == -signal.SIGKILL
    await start_scheduler(spawn, database, "scheduler-2")
    await gate.execute("select pg_advisory_unlock(1)")

    advanced = "select due_at > now() from app_jobs.scheduled_jobs where id = $1"
    await eventually(lambda: gate.fetchval(advanced, schedule))
    row = await schedules.row(schedule)
    assert await jobs.exists(row["last_scheduled_id"])
    # a second attempt would find the first job waiting, and count as skipped
    assert (await jobs.count(), row["skipped"]) == (1, 0)


async def test_transaction_of_a_frozen_scheduler_ends_after_ten_seconds(
    schedules: Schedules, jobs: Jobs, spawn: Spawn, database: str, gate: "asyncpg.Connection[Any]"
) -> None:
    await install_trigger(schedules.connection, "update of due_at")
    schedule = await add_due_schedule(schedules)
    frozen = await start_scheduler(spawn, database, "scheduler-1")
    await eventually(lambda: gate.fetchval(WAITING))
    frozen.send(signal.SIGSTOP)
    await gate.execute("select pg_advisory_unlock(1)")
    second = await start_scheduler(spawn, database, "scheduler-2")
    await second.until('"job enqueued"', seconds=20)
    assert (await jobs.count(), (await schedules.row(schedule))["skipped"]) == (1, 0)

    second.send(signal.SIGTERM)
    await second.wait()
    frozen.send(signal.SIGCONT)
    await schedules.add({"rule": "* * * * * *"}, task_identifier="after")
    await frozen.until('"job enqueued"')
    assert (await jobs.count(), (await schedules.row(schedule))["skipped"]) == (2, 0)
