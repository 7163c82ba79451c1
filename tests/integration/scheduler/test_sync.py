"""Schedules from code, synced to the database: on jobfn's schema, and on the platform's."""

from typing import Any

import asyncpg
import pytest

from jobfn.database.schedules import NewSchedule, ScheduleTable
from jobfn.errors import InvalidSchedule
from jobfn.scheduler.sync import Change, CodeTask, sync
from support.jobs import TENANT

NINE = {"rule": "0 9 * * *", "tz": "Europe/Paris"}
TEN = {"rule": "0 10 * * *"}

pytestmark = pytest.mark.parametrize("schema", ["native", "platform"])


@pytest.fixture
def table(connection: "asyncpg.Connection[Any]") -> ScheduleTable:
    return ScheduleTable(connection, "app_jobs")


def code(task: str, info: dict[str, Any] | None = None) -> CodeTask:
    return CodeTask(task, f"functions.py:{len(task)}", info)


async def test_sync_adds_changes_and_removes_schedules(
    connection: "asyncpg.Connection[Any]", table: ScheduleTable
) -> None:
    first = [code("report", NINE), code("sweep", TEN), code("plain")]
    assert await sync(connection, "app_jobs", first) == [(Change.ADDED, "report"), (Change.ADDED, "sweep")]
    ids = {row.task: row.id for row in await table.all()}
    assert await sync(connection, "app_jobs", first) == [(Change.UNCHANGED, "report"), (Change.UNCHANGED, "sweep")]
    assert {row.task: row.id for row in await table.all()} == ids

    second = [code("report", TEN), code("sweep"), code("plain", NINE)]
    assert await sync(connection, "app_jobs", second) == [
        (Change.ADDED, "plain"),
        (Change.CHANGED, "report"),
        (Change.REMOVED, "sweep"),
    ]
    assert {row.key: row.schedule_info for row in await table.all()} == {"jobfn:plain": NINE, "jobfn:report": TEN}


async def test_sync_writes_the_payload_and_changes_it(
    connection: "asyncpg.Connection[Any]", table: ScheduleTable
) -> None:
    tasks = [CodeTask("report", "functions.py:7", NINE, '{"days": 7}')]
    assert await sync(connection, "app_jobs", tasks) == [(Change.ADDED, "report")]
    assert [row.payload for row in await table.all()] == [{"days": 7}]
    assert await sync(connection, "app_jobs", tasks) == [(Change.UNCHANGED, "report")]
    assert await sync(connection, "app_jobs", [code("report", NINE)]) == [(Change.CHANGED, "report")]
    assert [row.payload for row in await table.all()] == [{}]


async def test_sync_does_not_touch_other_schedules(connection: "asyncpg.Connection[Any]", table: ScheduleTable) -> None:
    await table.add(NewSchedule("report", TEN))
    await table.add(NewSchedule("report", TEN, key="mine"))
    await sync(connection, "app_jobs", [code("report")], prune=True)
    assert sorted(str(row.key) for row in await table.all()) == ["None", "mine"]


async def test_schedule_of_an_absent_task_is_removed_with_prune_only(
    connection: "asyncpg.Connection[Any]", table: ScheduleTable
) -> None:
    await sync(connection, "app_jobs", [code("report", NINE)])
    assert await sync(connection, "app_jobs", [code("sweep", TEN)]) == [
        (Change.KEPT, "report"),
        (Change.ADDED, "sweep"),
    ]
    assert await sync(connection, "app_jobs", [code("sweep", TEN)], prune=True) == [
        (Change.REMOVED, "report"),
        (Change.UNCHANGED, "sweep"),
    ]
    assert [row.task for row in await table.all()] == ["sweep"]


async def test_invalid_schedule_in_code_changes_nothing(
    connection: "asyncpg.Connection[Any]", table: ScheduleTable
) -> None:
    with pytest.raises(InvalidSchedule) as raised:
        await sync(connection, "app_jobs", [code("report", NINE), code("sweep", {"rule": "0 25 * * *"})])
    message = "functions.py:5: @task('sweep'): the rule '0 25 * * *' is not valid: hour (field 2 of 5)"
    assert message in str(raised.value)
    assert await table.all() == []


async def test_locked_schedule_keeps_its_key_when_it_changes(
    connection: "asyncpg.Connection[Any]", table: ScheduleTable
) -> None:
    """The platform's own add_scheduled_job drops the key of a locked schedule."""
    await sync(connection, "app_jobs", [code("report", NINE)], database_id=TENANT)
    await connection.execute("select app_jobs.get_scheduled_job('node-scheduler')")
    await sync(connection, "app_jobs", [code("report", TEN)])
    (row,) = await table.all()
    assert (row.key, row.schedule_info, row.database_id) == ("jobfn:report", TEN, TENANT)
