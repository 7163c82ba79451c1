"""Pause, resume and run a schedule, by id and by name."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from jobfn.database.schedules import NewSchedule, ScheduleTable
from jobfn.errors import ConfigurationError, DatabaseError
from jobfn.scheduler.sync import Change, CodeTask, sync
from support.schedules import EVERY_HOUR, OpenPoller, Schedules, at


async def call(schedules: Schedules, function: str) -> Any:
    return await schedules.connection.fetchval(f"select app_jobs.{function}")


async def test_paused_schedule_makes_no_job_and_catches_up_nothing(
    schedules: Schedules, open_poller: OpenPoller
) -> None:
    await schedules.complete_jobs_immediately()
    schedule = await schedules.add()
    poller = await open_poller()
    await poller.poll("08:30")
    assert await call(schedules, f"pause_schedule({schedule}, 'no paper')") is True
    row = await schedules.row(schedule)
    assert (row["paused_at"] is not None, row["pause_reason"]) == (True, "no paper")
    assert await poller.poll("12:30") is None
    assert await schedules.completed_jobs() == 0

    assert await call(schedules, f"resume_schedule({schedule})") is True
    await schedules.update(schedule, rule_changed_at=at("12:30"))
    assert await poller.poll() == 1800.0
    await poller.poll("13:00")
    row = await schedules.row(schedule)
    assert (await schedules.completed_jobs(), row["skipped"]) == (1, 0)
    assert (row["paused_at"], row["pause_reason"]) == (None, None)


async def test_pause_ends_by_itself_and_due_times_after_its_end_count(
    schedules: Schedules, open_poller: OpenPoller
) -> None:
    await schedules.complete_jobs_immediately()
    schedule = await schedules.add()
    poller = await open_poller()
    await poller.poll("08:30")
    assert await call(schedules, f"pause_schedule('{schedule}', 'no paper', 'tomorrow'::timestamptz)") is True
    await schedules.update(schedule, paused_until=at("10:30"))
    assert await poller.poll("09:30") == 3600.0
    assert await schedules.completed_jobs() == 0
    assert await poller.poll("11:30") == 1800.0  # the scheduler is an hour late: 11:00 counts, 10:00 does not
    row = await schedules.row(schedule)
    assert (await schedules.completed_jobs(), row["skipped"]) == (1, 0)
    assert (row["paused_at"], row["pause_reason"], row["paused_until"]) == (None, None, None)


async def test_pausing_again_changes_the_end_and_resuming_clears_it(schedules: Schedules) -> None:
    schedule = await schedules.add()
    table = ScheduleTable(schedules.connection, "app_jobs")
    assert await table.pause(schedule, seconds=3600)
    row = await schedules.row(schedule)
    assert row["paused_until"] - row["paused_at"] == timedelta(hours=1)
    await table.pause(schedule, until=datetime(2100, 1, 1, tzinfo=UTC))
    assert (await table.all())[0].paused_until == datetime(2100, 1, 1, tzinfo=UTC)
    await table.pause(schedule)
    assert (await schedules.row(schedule))["paused_until"] is None
    await table.pause(schedule, seconds=3600)
    await table.resume(schedule)
    row = await schedules.row(schedule)
    assert (row["paused_at"], row["paused_until"]) == (None, None)
    with pytest.raises(DatabaseError, match="the pause would have ended before now"):
        await table.pause(schedule, until=datetime(2020, 1, 1, tzinfo=UTC))


async def test_platform_s_scheduler_takes_a_schedule_whose_pause_has_ended(schedules: Schedules) -> None:
    schedule = await schedules.add()
    await call(schedules, f"pause_schedule({schedule}, null, 'tomorrow')")
    assert (await call(schedules, "get_scheduled_job('node-1')"))["id"] is None
    await schedules.update(schedule, paused_until=at("08:30"))
    assert (await call(schedules, "get_scheduled_job('node-1')"))["id"] == schedule
    await call(schedules, f"run_scheduled_job({schedule})")
    assert await schedules.job_count() == 1


async def test_schedule_is_named_by_id_key_or_task(schedules: Schedules) -> None:
    first = await schedules.add(key="k")
    second = await schedules.add(task_identifier="report")
    for name in (str(first), "k", "sweep"):
        assert await call(schedules, f"pause_schedule('{name}')") is True
        assert await call(schedules, f"resume_schedule('{name}')") is True
    job = await call(schedules, "run_schedule('report')")
    assert (await schedules.row(second))["last_scheduled_id"] == job["id"]
    with pytest.raises(asyncpg.PostgresError, match="no schedule has the id, the key or the task nothing"):
        await call(schedules, "run_schedule('nothing')")
    third = await schedules.add()
    with pytest.raises(asyncpg.PostgresError, match="the task sweep has 2 schedules") as raised:
        await call(schedules, "pause_schedule('sweep')")
    assert raised.value.as_dict()["hint"] == f"Name one by its id: {first}, {third}."


async def test_long_reason_is_cut_off(schedules: Schedules) -> None:
    schedule = await schedules.add()
    await call(schedules, f"pause_schedule({schedule}, repeat('x', 1001))")
    assert (await schedules.row(schedule))["pause_reason"] == "x" * 1000
    await call(schedules, f"pause_schedule({schedule})")
    assert (await schedules.row(schedule))["pause_reason"] == "x" * 1000


async def test_unknown_ids_change_nothing(schedules: Schedules) -> None:
    assert await call(schedules, "pause_schedule(7)") is False
    assert await call(schedules, "resume_schedule(7)") is False
    assert await schedules.connection.fetchval("select id from app_jobs.run_schedule(7)") is None
    schedule = await schedules.add()
    assert await call(schedules, f"resume_schedule({schedule})") is True
    assert (await schedules.row(schedule))["rule_changed_at"] == at("08:30")


async def test_paused_schedule_runs_by_hand_once(schedules: Schedules, open_poller: OpenPoller) -> None:
    schedule = await schedules.add(payload='{"days": 7}')
    await call(schedules, f"pause_schedule({schedule})")
    job = await call(schedules, f"run_schedule({schedule})")
    assert (job["payload"], await schedules.job_count()) == ('{"days": 7}', 1)
    with pytest.raises(asyncpg.PostgresError, match="ALREADY_SCHEDULED"):
        await call(schedules, f"run_schedule({schedule})")
    await schedules.delete_jobs()
    await (await open_poller()).poll("12:30")
    assert (await schedules.job_count(), (await schedules.row(schedule))["paused_at"] is not None) == (0, True)


async def test_platform_s_scheduler_does_not_run_a_paused_schedule(schedules: Schedules) -> None:
    schedule = await schedules.add()
    await call(schedules, "get_scheduled_job('node-1')")
    await call(schedules, f"pause_schedule({schedule})")
    with pytest.raises(asyncpg.PostgresError, match="SCHEDULE_PAUSED"):
        await call(schedules, f"run_scheduled_job({schedule})")
    assert (await call(schedules, "get_scheduled_job('node-1')"))["id"] is None
    await call(schedules, f"resume_schedule({schedule})")
    assert (await call(schedules, "get_scheduled_job('node-1')"))["id"] == schedule
    await call(schedules, f"run_scheduled_job({schedule})")
    assert await schedules.job_count() == 1


async def test_changed_schedule_stays_paused(schedules: Schedules, open_poller: OpenPoller) -> None:
    tasks = [CodeTask("report", "functions.py:7", EVERY_HOUR)]
    await sync(schedules.connection, "app_jobs", tasks)
    await call(schedules, "pause_schedule('report')")
    changed = [CodeTask("report", "functions.py:7", {"rule": "*/5 * * * *"})]
    assert await sync(schedules.connection, "app_jobs", changed) == [(Change.CHANGED, "report")]
    await schedules.connection.execute("update app_jobs.scheduled_jobs set last_error = 'broken'")
    again = [CodeTask("report", "functions.py:7", {"rule": "*/5 * * * *"}, '{"days": 7}')]
    assert await sync(schedules.connection, "app_jobs", again) == [(Change.CHANGED, "report")]
    assert await (await open_poller()).poll("12:30") is None
    assert await schedules.job_count() == 0


@pytest.mark.parametrize("schema", ["platform"])
async def test_platform_schema_runs_by_hand_and_has_no_pauses(schedules: Schedules) -> None:
    table = ScheduleTable(schedules.connection, "app_jobs")
    schedule = await table.add(NewSchedule("report", EVERY_HOUR))
    for action in (table.pause(schedule), table.resume(schedule)):
        with pytest.raises(ConfigurationError, match="the platform's own, which has no pauses: remove the schedule"):
            await action
    assert await table.run(schedule) is not None
