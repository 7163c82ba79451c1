"""Schedules as people list, add, run and remove them: on jobfn's schema, and on the platform's."""

from typing import Any

import asyncpg
import pytest

from jobfn.database.schedules import NewSchedule, ScheduleTable
from jobfn.errors import ConfigurationError, DatabaseError, SchemaError
from support.jobs import TENANT

NINE = {"rule": "0 9 * * *"}
TEN = {"rule": "0 10 * * *"}

pytestmark = pytest.mark.parametrize("schema", ["native", "platform"])


@pytest.fixture
def table(connection: "asyncpg.Connection[Any]") -> ScheduleTable:
    return ScheduleTable(connection, "app_jobs")


async def test_schedule_is_found_by_id_key_or_unique_task(table: ScheduleTable) -> None:
    first = await table.add(NewSchedule("report", NINE, payload='{"a": 1}', queue="q", priority=2, max_attempts=3))
    second = await table.add(NewSchedule("sweep", TEN, key="k", database_id=TENANT))
    third = await table.add(NewSchedule("sweep", NINE))
    assert (await table.find(str(first))).task == "report"
    assert (await table.find("k")).id == second
    row = await table.find("report")
    assert (row.payload, row.queue, row.priority, row.max_attempts) == ({"a": 1}, "q", 2, 3)
    with pytest.raises(ConfigurationError, match=rf"sweep has 2 schedules: name one by its id \({second}, {third}\)"):
        await table.find("sweep")
    with pytest.raises(ConfigurationError, match="no schedule has the id, the key or the task 'nothing'"):
        await table.find("nothing")


async def test_schedule_with_the_same_key_is_replaced(table: ScheduleTable) -> None:
    await table.add(NewSchedule("report", NINE, key="k"))
    await table.add(NewSchedule("report", TEN, key="k"))
    assert [(row.key, row.schedule_info) for row in await table.all()] == [("k", TEN)]


async def test_schedule_has_the_outcome_of_its_last_job(
    connection: "asyncpg.Connection[Any]", table: ScheduleTable
) -> None:
    schedule = await table.add(NewSchedule("report", NINE, max_attempts=2))
    assert (await table.find("report")).outcome is None
    job = await table.run(schedule)
    for assignment, outcome in (
        ("priority = 0", "waiting"),
        ("locked_at = now(), locked_by = 'worker-1', attempts = 1", "running, attempt 1"),
        ("locked_at = null, locked_by = null, last_error = 'no paper'", "to be tried again: no paper"),
        ("attempts = 2", "failed: no paper"),
    ):
        await connection.execute(f"update app_jobs.jobs set {assignment} where id = $1", job)
        assert (await table.find("report")).outcome == outcome
    await connection.execute("delete from app_jobs.jobs")
    row = await table.find("report")
    assert (row.outcome, row.last_job, row.last_scheduled is not None) == ("done", job, True)


async def test_run_is_rejected_while_the_last_job_waits(table: ScheduleTable) -> None:
    schedule = await table.add(NewSchedule("report", NINE))
    await table.run(schedule)
    with pytest.raises(DatabaseError, match="no job was enqueued: the schedule's last job still waits or runs"):
        await table.run(schedule)


async def test_schedule_rejected_by_postgresql_raises_its_message(
    connection: "asyncpg.Connection[Any]", table: ScheduleTable
) -> None:
    await connection.execute("alter table app_jobs.scheduled_jobs alter database_id set not null")
    with pytest.raises(DatabaseError, match=r"requires the tenant \(--database-id\)"):
        await table.add(NewSchedule("report", NINE))
    await connection.execute("alter table app_jobs.scheduled_jobs add constraint no_x check (task_identifier <> 'x')")
    with pytest.raises(DatabaseError, match="no_x"):
        await table.add(NewSchedule("x", NINE, database_id=TENANT))
    with pytest.raises(SchemaError, match="schema elsewhere has no schedules"):
        await ScheduleTable(connection, "elsewhere").all()
    assert await table.remove(7) is False
    assert await table.run(7) is None
