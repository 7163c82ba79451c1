"""Jobs of schedules that expire: not started later than a time after their due time."""

from typing import Any

import pytest

from jobfn.scheduler.sync import Change, CodeTask, sync
from support.schedules import EVERY_HOUR, OpenPoller, Schedules, at

EXPIRING = EVERY_HOUR | {"expires_in_seconds": 1800}


async def expiries(schedules: Schedules) -> list[Any]:
    """Return when the jobs expire."""
    rows = await schedules.connection.fetch("select expires_at from app_jobs.jobs order by id")
    return [row["expires_at"] for row in rows]


async def test_expiry_counts_from_the_due_time(schedules: Schedules, open_poller: OpenPoller) -> None:
    await schedules.add(EXPIRING)
    await schedules.add(task_identifier="other")
    poller = await open_poller()
    await poller.poll("08:30")
    await poller.poll("09:20")
    assert await expiries(schedules) == [at("09:30"), None]


async def test_job_of_a_schedule_ends_as_expired(schedules: Schedules, open_poller: OpenPoller) -> None:
    await schedules.add(EXPIRING)
    poller = await open_poller()
    await poller.poll("08:30")
    await poller.poll("09:00")
    claimed = await schedules.connection.fetchval("select app_jobs.get_job('worker-under-test')")
    assert claimed["id"] is None
    assert await schedules.connection.fetchval("select ended_as from app_jobs.jobs") == "expired"
    await poller.poll("10:00")
    assert await expiries(schedules) == [at("09:30"), at("10:30")]


@pytest.mark.parametrize("function", ["run_schedule", "run_scheduled_job"])
async def test_expiry_counts_from_now_by_hand(schedules: Schedules, function: str) -> None:
    schedule = await schedules.add(EXPIRING)
    async with schedules.connection.transaction():
        await schedules.connection.execute(f"select app_jobs.{function}({schedule}::bigint)")
        await schedules.connection.execute("select app_jobs.add_job('after')")
        rows = await schedules.connection.fetch(
            "select extract(epoch from expires_at - now())::int as seconds from app_jobs.jobs order by id"
        )
    assert [row["seconds"] for row in rows] == [1800, None]


@pytest.mark.parametrize("info", ['{"rule": "0 * * * *", "expires_in_seconds": "soon"}', '"0 * * * *"', "[]", "null"])
async def test_other_schedules_by_hand_do_not_expire(schedules: Schedules, info: str) -> None:
    schedule = await schedules.add()
    await schedules.connection.execute("update app_jobs.scheduled_jobs set schedule_info = $1", info)
    await schedules.connection.execute(f"select app_jobs.run_schedule({schedule}::bigint)")
    assert await expiries(schedules) == [None]


async def test_expiry_in_code_is_synced(schedules: Schedules) -> None:
    tasks = [CodeTask("report", "functions.py:7", EXPIRING)]
    assert await sync(schedules.connection, "app_jobs", tasks) == [(Change.ADDED, "report")]
    await schedules.connection.execute("select app_jobs.run_schedule('report')")
    assert len([time for time in await expiries(schedules) if time is not None]) == 1
