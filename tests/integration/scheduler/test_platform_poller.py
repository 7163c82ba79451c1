"""On a schema of the platform's own: by its functions, without a column of jobfn's."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from support.commands import Spawn
from support.network import eventually
from support.schedules import Clock, OpenPoller, Schedules, at


@pytest.fixture
def database(empty_database: str) -> str:
    return empty_database


@pytest.fixture
async def connection(database: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    opened = await asyncpg.connect(database)
    await opened.execute((Path(__file__).parent / "platform.sql").read_text())
    await opened.execute("insert into app_jobs.clock values ($1)", at("08:30"))
    yield opened
    await opened.close()


async def set_time(time: str, clock: Clock, schedules: Schedules) -> None:
    """Let it be so late, for the scheduler and for the stand-in's functions."""
    clock.set(time)
    await schedules.connection.execute("update app_jobs.clock set now = $1", clock.now)


async def add(schedules: Schedules, rule: str = "0 * * * *", **columns: object) -> int:
    values = {"task_identifier": "sweep", "schedule_info": f'{{"rule": "{rule}"}}'} | columns
    places = ", ".join(f"${number}" for number, _ in enumerate(values, 1))
    found: int = await schedules.connection.fetchval(
        f"insert into app_jobs.scheduled_jobs ({', '.join(values)}) values ({places}) returning id", *values.values()
    )
    return found


async def test_a_due_time_makes_one_job(schedules: Schedules, poller: OpenPoller, clock: Clock) -> None:
    """Locked when it is first seen, its job made when its time comes, let go at the end."""
    await schedules.finish_jobs_at_once()
    schedule = await add(schedules)
    scheduler = await poller()
    assert await scheduler.poll() == 1800.0
    assert (await schedules.row(schedule))["locked_by"] == "scheduler-a"
    await set_time("09:00", clock, schedules)
    assert await scheduler.poll() == 3600.0
    assert await scheduler.poll() == 3600.0
    assert await schedules.made() == 1
    await scheduler.stop()
    assert (await schedules.row(schedule))["locked_by"] is None


async def test_two_schedulers_make_one_job_for_each_time(
    schedules: Schedules, poller: OpenPoller, clock: Clock
) -> None:
    """Whoever holds a schedule makes its jobs; when it ends the other one takes it up."""
    await schedules.finish_jobs_at_once()
    for _ in range(5):
        await add(schedules, "* * * * *")
    first, second = await poller("scheduler-a"), await poller("scheduler-b")
    for minute in range(30, 36):
        await set_time(f"08:{minute}", clock, schedules)
        await asyncio.gather(first.poll(), second.poll())
    await first.stop()
    await second.poll()
    await set_time("08:36", clock, schedules)
    await asyncio.gather(second.poll())
    assert await schedules.made() == 5 * 6


async def test_schedulers_of_one_name_make_one_job(schedules: Schedules, poller: OpenPoller, clock: Clock) -> None:
    """Both believe that they hold the schedule; the row tells the second that its time was seen to."""
    await schedules.finish_jobs_at_once()
    await add(schedules)
    first, second = await poller(), await poller()
    await first.poll()
    await second.poll()
    await set_time("09:00", clock, schedules)
    await asyncio.gather(first.poll(), second.poll())
    assert await schedules.made() == 1


async def test_changed_and_removed_schedules_are_seen_by_the_next_look(
    schedules: Schedules, poller: OpenPoller, clock: Clock
) -> None:
    """A changed rule counts from when it was seen; a removed one makes no job."""
    await schedules.finish_jobs_at_once()
    schedule = await add(schedules)
    removed = await add(schedules, task_identifier="removed")
    scheduler = await poller()
    await scheduler.poll()
    await set_time("08:50", clock, schedules)
    await schedules.change(schedule, schedule_info='{"rule": "45 * * * *"}')
    await schedules.connection.execute("delete from app_jobs.scheduled_jobs where id = $1", removed)
    assert await scheduler.poll() == 3300.0
    await set_time("09:45", clock, schedules)
    await scheduler.poll()
    assert (await schedules.made(), await schedules.made("removed")) == (1, 0)


async def test_a_time_is_skipped_while_the_last_job_waits(
    schedules: Schedules, poller: OpenPoller, clock: Clock
) -> None:
    """ALREADY_SCHEDULED is no error: it is logged, and the other schedulers see that somebody is there."""
    schedule = await add(schedules)
    scheduler = await poller()
    await scheduler.poll()
    await set_time("09:00", clock, schedules)
    await scheduler.poll()
    locked_at = (await schedules.row(schedule))["locked_at"]
    await set_time("10:00", clock, schedules)
    with capture_logs() as logged:
        assert await scheduler.poll() == 3600.0
    assert [line["event"] for line in logged] == ["run skipped: previous job still waiting or running"]
    assert (await schedules.row(schedule))["locked_at"] > locked_at
    assert await schedules.connection.fetchval("select count(*) from app_jobs.jobs") == 1


async def test_a_downtime_is_caught_up_once(schedules: Schedules, poller: OpenPoller, clock: Clock) -> None:
    """Counted from the last job that the row knows of."""
    await schedules.finish_jobs_at_once()
    await add(schedules, last_scheduled=at("05:00"))
    assert await (await poller()).poll() == 1800.0
    assert await schedules.made() == 1


async def test_missed_times_are_all_made_when_asked_for(schedules: Schedules, poller: OpenPoller, clock: Clock) -> None:
    """catch_up: all, each when the job before it is done."""
    schedule = await add(schedules, last_scheduled=at("05:00"))
    await schedules.change(schedule, schedule_info='{"rule": "0 * * * *", "catch_up": "all"}')
    scheduler = await poller()
    for _ in range(3):
        while await scheduler.poll() != 1.0 and not await schedules.connection.fetchval(
            "select count(*) from app_jobs.jobs"
        ):
            pass
        assert await schedules.connection.fetchval("select count(*) from app_jobs.jobs") == 1
        await schedules.connection.execute("delete from app_jobs.jobs")
    assert await scheduler.poll() == 1800.0


async def test_a_broken_schedule_is_logged_once(schedules: Schedules, poller: OpenPoller, clock: Clock) -> None:
    """The others go on; mended, it is served."""
    await schedules.finish_jobs_at_once()
    broken = await add(schedules, "0 25 * * *", task_identifier="broken")
    await add(schedules)
    scheduler = await poller()
    with capture_logs() as logged:
        for time in ("08:30", "09:00", "09:10"):
            await set_time(time, clock, schedules)
            await scheduler.poll()
    assert len([line for line in logged if line["event"].startswith("invalid schedule")]) == 1
    assert await schedules.made() == 1
    await schedules.change(broken, schedule_info='{"rule": "30 * * * *"}')
    await scheduler.poll()
    await set_time("09:30", clock, schedules)
    await scheduler.poll()
    assert await schedules.made("broken") == 1


async def test_a_job_that_cannot_be_made_holds_up_no_other(
    schedules: Schedules, poller: OpenPoller, clock: Clock
) -> None:
    """What PostgreSQL said is in the log; the next due time tries again."""
    await schedules.finish_jobs_at_once()
    await add(schedules, task_identifier="bad")
    await add(schedules)
    await schedules.connection.execute(
        "alter table app_jobs.jobs add constraint no_bad_tasks check (task_identifier <> 'bad')"
    )
    scheduler = await poller()
    await scheduler.poll()
    await set_time("09:00", clock, schedules)
    with capture_logs() as logged:
        await scheduler.poll()
    assert any("no_bad_tasks" in line.get("error", "") for line in logged)
    assert (await schedules.made(), await schedules.made("bad")) == (1, 0)
    await schedules.connection.execute("alter table app_jobs.jobs drop constraint no_bad_tasks")
    await set_time("10:00", clock, schedules)
    await scheduler.poll()
    assert await schedules.made("bad") == 1


async def test_a_schedule_of_a_dead_scheduler_is_taken_over(
    schedules: Schedules, poller: OpenPoller, clock: Clock
) -> None:
    """A minute past the time that it let pass: its job is made, the lock is ours, and the next time is too."""
    await schedules.finish_jobs_at_once()
    schedule = await add(schedules, locked_by="dead-scheduler", locked_at=at("07:30"), last_scheduled=at("08:00"))
    scheduler = await poller()
    assert await scheduler.poll() == 1860.0
    await set_time("09:00:59", clock, schedules)
    assert await scheduler.poll() == 1.0
    assert await schedules.made() == 0
    await set_time("09:01", clock, schedules)
    await scheduler.poll()
    assert await schedules.made() == 1
    await scheduler.poll()
    assert (await schedules.row(schedule))["locked_by"] == "scheduler-a"
    await set_time("10:00", clock, schedules)
    await scheduler.poll()
    assert await schedules.made() == 2


async def test_two_schedulers_that_take_over_make_one_job(
    schedules: Schedules, poller: OpenPoller, clock: Clock
) -> None:
    """Both see that the holder is dead, at the same moment."""
    await schedules.finish_jobs_at_once()
    await add(schedules, locked_by="dead-scheduler", locked_at=at("07:30"))
    first, second = await poller("scheduler-a"), await poller("scheduler-b")
    await set_time("09:30", clock, schedules)
    await asyncio.gather(first.poll(), second.poll())
    assert await schedules.made() == 1


async def test_a_schedule_is_not_taken_from_a_scheduler_that_waits_for_its_last_job(
    schedules: Schedules, poller: OpenPoller, clock: Clock
) -> None:
    """A time that passed without a job may have been skipped for good reason."""
    job = await schedules.connection.fetchval(
        "insert into app_jobs.jobs (task_identifier, locked_at, locked_by) values ('sweep', $1, 'w-01') returning id",
        at("05:45"),
    )
    schedule = await add(
        schedules, locked_by="other-scheduler", locked_at=at("07:30"), last_scheduled=at("08:00"), last_scheduled_id=job
    )
    scheduler = await poller()
    await set_time("09:30", clock, schedules)
    assert await scheduler.poll() is None
    assert (await schedules.row(schedule))["locked_by"] == "other-scheduler"
    assert await schedules.connection.fetchval("select count(*) from app_jobs.jobs") == 1


async def test_a_job_made_by_hand_takes_no_due_time_away(
    schedules: Schedules, poller: OpenPoller, clock: Clock
) -> None:
    """run_scheduled_job between two due times, as `jobfn schedules run` calls it."""
    await schedules.finish_jobs_at_once()
    schedule = await add(schedules)
    scheduler = await poller()
    await scheduler.poll()
    await schedules.connection.execute("select app_jobs.run_scheduled_job($1)", schedule)
    await set_time("09:00", clock, schedules)
    await scheduler.poll()
    assert await schedules.made() == 2


async def test_only_schedules_of_supported_tasks_are_locked(
    schedules: Schedules, poller: OpenPoller, clock: Clock
) -> None:
    """What another scheduler is to see to stays free."""
    await add(schedules)
    other = await add(schedules, task_identifier="other")
    await (await poller(tasks=["sweep"])).poll()
    assert (await schedules.row(other))["locked_by"] is None


async def test_processes_hand_over_when_one_is_killed(schedules: Schedules, spawn: Spawn, database: str) -> None:
    """In real seconds: kill -9 the one that holds the schedule; the other takes over after the time it is given."""
    await schedules.finish_jobs_at_once()
    await schedules.connection.execute("delete from app_jobs.clock")
    await add(schedules, "* * * * * *")
    variables = {"DATABASE_URL": database, "JOBS_TAKEOVER_SECONDS": "1"}
    first = await spawn("jobfn", "service", "--only", "scheduler", HOSTNAME="scheduler-1", **variables)
    await first.until('"job enqueued"', times=2)
    second = await spawn("jobfn", "service", "--only", "scheduler", HOSTNAME="scheduler-2", **variables)
    await second.until('"scheduler started"')
    first.send(signal.SIGKILL)
    await first.wait()
    await second.until("schedule taken over")
    await second.until('"job enqueued"', times=2)
    second.send(signal.SIGTERM)
    assert await second.wait() == 0

    async def seconds_with_two() -> int:
        found: int = await schedules.connection.fetchval(
            "select count(*) from (select from public.made group by date_trunc('second', at) having count(*) > 1) more"
        )
        return found

    assert await seconds_with_two() == 0
    free = "select locked_by is null from app_jobs.scheduled_jobs"
    await eventually(lambda: schedules.connection.fetchval(free))
