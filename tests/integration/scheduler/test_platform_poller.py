"""The poller on the platform's schema: locks that outlive transactions, and takeovers."""

import asyncio
import signal
from typing import Any

import pytest

from support.commands import Spawn
from support.network import eventually
from support.schedules import OpenPoller, Schedules, at

pytestmark = pytest.mark.parametrize("schema", ["platform"])


async def test_poller_locks_schedules_until_it_stops(schedules: Schedules, open_poller: OpenPoller) -> None:
    schedule = await schedules.add()
    timed = await open_poller()
    await timed.poll()
    assert (await schedules.row(schedule))["locked_by"] == "scheduler-a"
    await timed.poller.stop()
    assert (await schedules.row(schedule))["locked_by"] is None


async def test_pollers_with_the_same_id_enqueue_one_job(schedules: Schedules, open_poller: OpenPoller) -> None:
    """Each of them believes that it holds the schedule."""
    await schedules.complete_jobs_immediately()
    await schedules.add()
    first, second = await open_poller(), await open_poller()
    await first.poll()
    await second.poll()
    await schedules.set_time("09:00")
    await asyncio.gather(first.poll(), second.poll())
    assert await schedules.completed_jobs() == 1
    assert [await first.poll(), await second.poll()] == [3600.0, 3600.0]


async def test_lock_is_renewed_when_a_run_is_skipped(schedules: Schedules, open_poller: OpenPoller) -> None:
    """The age of the lock shows other schedulers that its holder is alive."""
    schedule = await schedules.add()
    poller = await open_poller()
    await poller.poll()
    await poller.poll("09:00")
    locked_at = (await schedules.row(schedule))["locked_at"]
    await poller.poll("10:00")
    assert (await schedules.row(schedule))["locked_at"] > locked_at


@pytest.mark.parametrize(("catch_up", "polls", "jobs"), [("one", 1, 1), ("all", 3, 3)])
async def test_runs_since_the_last_job_are_caught_up(
    catch_up: str, polls: int, jobs: int, schedules: Schedules, open_poller: OpenPoller
) -> None:
    await schedules.complete_jobs_immediately()
    await schedules.add({"rule": "0 * * * *", "catch_up": catch_up}, last_scheduled=at("05:00"))
    poller = await open_poller()
    for _ in range(polls):
        seconds = await poller.poll()
    assert (await schedules.completed_jobs(), seconds) == (jobs, 1800.0)


async def test_schedule_of_a_dead_scheduler_is_taken_over(schedules: Schedules, open_poller: OpenPoller) -> None:
    await schedules.complete_jobs_immediately()
    lock: dict[str, Any] = {"locked_by": "dead-scheduler", "locked_at": at("07:30"), "last_scheduled": at("08:00")}
    schedule = await schedules.add(**lock)
    poller = await open_poller()
    assert await poller.poll() == 1860.0
    assert await poller.poll("09:00:59") == 1.0
    assert await schedules.completed_jobs() == 0
    await poller.poll("09:01")
    assert await schedules.completed_jobs() == 1
    await poller.poll()
    assert (await schedules.row(schedule))["locked_by"] == "scheduler-a"
    await poller.poll("10:00")
    assert await schedules.completed_jobs() == 2


async def test_two_schedulers_that_take_over_enqueue_one_job(schedules: Schedules, open_poller: OpenPoller) -> None:
    await schedules.complete_jobs_immediately()
    await schedules.add(locked_by="dead-scheduler", locked_at=at("07:30"))
    first, second = await open_poller("scheduler-a"), await open_poller("scheduler-b")
    await schedules.set_time("09:30")
    await asyncio.gather(first.poll(), second.poll())
    assert await schedules.completed_jobs() == 1


async def test_schedule_is_not_taken_over_while_its_previous_job_runs(
    schedules: Schedules, open_poller: OpenPoller
) -> None:
    job = await schedules.connection.fetchval(
        "insert into app_jobs.jobs (task_identifier, locked_at, locked_by) values ('sweep', $1, 'w-01') returning id",
        at("05:45"),
    )
    lock: dict[str, Any] = {"locked_by": "other-scheduler", "locked_at": at("07:30"), "last_scheduled": at("08:00")}
    schedule = await schedules.add(last_scheduled_id=job, **lock)
    assert await (await open_poller()).poll("09:30") is None
    assert (await schedules.row(schedule))["locked_by"] == "other-scheduler"
    assert await schedules.job_count() == 1


@pytest.mark.parametrize("info", [{"rule": "0 25 * * *"}, {"rule": "0 * * * *", "end": "2026-03-01"}])
async def test_schedule_that_is_never_due_is_not_taken_over(
    info: dict[str, str], schedules: Schedules, open_poller: OpenPoller
) -> None:
    await schedules.add(info, locked_by="dead-scheduler", locked_at=at("07:30"))
    assert await (await open_poller()).poll("09:30") is None


async def test_manual_run_does_not_replace_the_next_due_time(schedules: Schedules, open_poller: OpenPoller) -> None:
    await schedules.complete_jobs_immediately()
    schedule = await schedules.add()
    poller = await open_poller()
    await poller.poll()
    await schedules.connection.execute("select app_jobs.run_scheduled_job($1)", schedule)
    await poller.poll("09:00")
    assert await schedules.completed_jobs() == 2


async def test_process_takes_over_the_schedule_of_a_killed_process(
    schedules: Schedules, spawn: Spawn, database: str
) -> None:
    await schedules.complete_jobs_immediately()
    await schedules.connection.execute("delete from app_jobs.clock")
    await schedules.add({"rule": "* * * * * *"})
    variables = {"DATABASE_URL": database, "JOBS_TAKEOVER_SECONDS": "1"}
    first = await spawn("jobfn", "service", "--only", "scheduler", HOSTNAME="scheduler-1", **variables)
    await first.until('"job enqueued"')
    second = await spawn("jobfn", "service", "--only", "scheduler", HOSTNAME="scheduler-2", **variables)
    await second.until('"scheduler started"')
    first.send(signal.SIGKILL)
    await first.wait()
    await second.until("schedule taken over")
    await second.until('"job enqueued"')
    second.send(signal.SIGTERM)
    assert await second.wait() == 0
    doubled = "select exists (select from public.completed group by date_trunc('second', at) having count(*) > 1)"
    assert not await schedules.connection.fetchval(doubled)
    unlocked = "select locked_by is null from app_jobs.scheduled_jobs"
    await eventually(lambda: schedules.connection.fetchval(unlocked))
