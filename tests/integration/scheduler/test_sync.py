"""What code says, brought into the table: on jobfn's own schema and on one of the platform's."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from jobfn.database.migrate import migrate
from jobfn.database.schedules import NewSchedule, ScheduleTable
from jobfn.errors import ConfigurationError, DatabaseError, InvalidSchedule, SchemaError
from jobfn.scheduler.sync import Change, CodeTask, sync
from support.jobs import TENANT

NINE = {"rule": "0 9 * * *", "tz": "Europe/Paris"}
TEN = {"rule": "0 10 * * *"}


@pytest.fixture(params=["jobfn", "platform"])
async def connection(request: pytest.FixtureRequest, empty_database: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """A database with one schema or the other."""
    opened = await asyncpg.connect(empty_database)
    if request.param == "jobfn":
        await migrate(opened, "app_jobs")
    else:
        await opened.execute((Path(__file__).parent / "platform.sql").read_text())
    yield opened
    await opened.close()


@pytest.fixture
def table(connection: "asyncpg.Connection[Any]") -> ScheduleTable:
    return ScheduleTable(connection, "app_jobs")


def code(task: str, info: dict[str, Any] | None = None) -> CodeTask:
    return CodeTask(task, f"functions.py:{len(task)}", info)


async def test_sync_adds_changes_and_removes(connection: "asyncpg.Connection[Any]", table: ScheduleTable) -> None:
    """Each time the table ends up saying what the code says; a second time changes nothing."""
    first = [code("report", NINE), code("sweep", TEN), code("plain")]
    assert await sync(connection, "app_jobs", first) == [(Change.ADDED, "report"), (Change.ADDED, "sweep")]
    before = {row.task: row.id for row in await table.all()}
    assert await sync(connection, "app_jobs", first) == [(Change.UNCHANGED, "report"), (Change.UNCHANGED, "sweep")]
    assert {row.task: row.id for row in await table.all()} == before

    second = [code("report", TEN), code("sweep"), code("plain", NINE)]
    assert await sync(connection, "app_jobs", second) == [
        (Change.ADDED, "plain"),
        (Change.CHANGED, "report"),
        (Change.REMOVED, "sweep"),
    ]
    assert {row.key: row.schedule_info for row in await table.all()} == {"jobfn:plain": NINE, "jobfn:report": TEN}


async def test_sync_leaves_what_others_made_alone(connection: "asyncpg.Connection[Any]", table: ScheduleTable) -> None:
    """Schedules without jobfn's keys stay, even of the same task."""
    await table.add(NewSchedule("report", TEN))
    await table.add(NewSchedule("report", TEN, key="mine"))
    await sync(connection, "app_jobs", [code("report")], prune=True)
    assert sorted(str(row.key) for row in await table.all()) == ["None", "mine"]


async def test_tasks_of_other_files_are_removed_only_when_asked(
    connection: "asyncpg.Connection[Any]", table: ScheduleTable
) -> None:
    """Another image's functions may have schedules too; with prune these files are all there is."""
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


async def test_a_broken_schedule_in_the_code_changes_nothing(
    connection: "asyncpg.Connection[Any]", table: ScheduleTable
) -> None:
    """Refused by file, line, task and field, before anything was written."""
    with pytest.raises(InvalidSchedule) as refusal:
        await sync(connection, "app_jobs", [code("report", NINE), code("sweep", {"rule": "0 25 * * *"})])
    message = "functions.py:5: @task('sweep'): the rule '0 25 * * *' is not valid: hour (field 2 of 5)"
    assert message in str(refusal.value)
    assert await table.all() == []


async def test_a_held_schedule_keeps_its_key_when_it_changes(
    connection: "asyncpg.Connection[Any]", table: ScheduleTable
) -> None:
    """While a scheduler has it locked: the platform's own add_scheduled_job would drop the key."""
    await sync(connection, "app_jobs", [code("report", NINE)], database_id=TENANT)
    await connection.execute("select app_jobs.get_scheduled_job('node-scheduler')")
    await sync(connection, "app_jobs", [code("report", TEN)])
    (row,) = await table.all()
    assert (row.key, row.schedule_info, row.database_id) == ("jobfn:report", TEN, TENANT)


async def test_a_schedule_is_found_by_id_key_or_task(table: ScheduleTable) -> None:
    """And where the name means more than one, the ids to choose from are told."""
    first = await table.add(NewSchedule("report", NINE, payload='{"a": 1}', queue="q", priority=2, max_attempts=3))
    second = await table.add(NewSchedule("sweep", TEN, key="k", database_id=TENANT))
    third = await table.add(NewSchedule("sweep", NINE))
    assert (await table.find(str(first))).task == "report"
    assert (await table.find("k")).id == second
    found = await table.find("report")
    assert (found.payload, found.queue, found.priority, found.max_attempts) == ({"a": 1}, "q", 2, 3)
    with pytest.raises(ConfigurationError, match=rf"sweep has 2 schedules: name one by its id \({second}, {third}\)"):
        await table.find("sweep")
    with pytest.raises(ConfigurationError, match="no schedule has the id, the key or the task 'nothing'"):
        await table.find("nothing")


async def test_a_keyed_schedule_is_replaced(table: ScheduleTable) -> None:
    """One schedule of one key."""
    await table.add(NewSchedule("report", NINE, key="k"))
    await table.add(NewSchedule("report", TEN, key="k"))
    assert [(row.key, row.schedule_info) for row in await table.all()] == [("k", TEN)]


async def test_what_became_of_the_last_job_is_told(connection: "asyncpg.Connection[Any]", table: ScheduleTable) -> None:
    """From the moment it is made until it is done or has failed for good."""
    schedule = await table.add(NewSchedule("report", NINE, max_attempts=2))
    assert (await table.find("report")).outcome is None
    job = await table.run(schedule)
    states = [
        ("priority = 0", "waiting"),
        ("locked_at = now(), locked_by = 'worker-1', attempts = 1", "running, attempt 1"),
        ("locked_at = null, locked_by = null, last_error = 'no paper'", "to be tried again: no paper"),
        ("attempts = 2", "failed: no paper"),
    ]
    for change, outcome in states:
        await connection.execute(f"update app_jobs.jobs set {change} where id = $1", job)
        assert (await table.find("report")).outcome == outcome
    await connection.execute("delete from app_jobs.jobs")
    row = await table.find("report")
    assert (row.outcome, row.last_job, row.last_scheduled is not None) == ("done", job, True)


async def test_a_second_job_beside_the_last_one_is_refused(table: ScheduleTable) -> None:
    """In words rather than in ALREADY_SCHEDULED."""
    schedule = await table.add(NewSchedule("report", NINE))
    await table.run(schedule)
    with pytest.raises(DatabaseError, match="no job was made: the schedule's last one is still waiting or running"):
        await table.run(schedule)


async def test_what_postgresql_refuses_is_told(connection: "asyncpg.Connection[Any]", table: ScheduleTable) -> None:
    """A name that is too long, a missing tenant, a missing schema: each says what is wrong."""
    await connection.execute("alter table app_jobs.scheduled_jobs alter database_id set not null")
    with pytest.raises(DatabaseError, match=r"wants the tenant \(--database-id\)"):
        await table.add(NewSchedule("report", NINE))
    await connection.execute("alter table app_jobs.scheduled_jobs add constraint no_x check (task_identifier <> 'x')")
    with pytest.raises(DatabaseError, match="no_x"):
        await table.add(NewSchedule("x", NINE, database_id=TENANT))
    with pytest.raises(SchemaError, match="schema elsewhere has no schedules"):
        await ScheduleTable(connection, "elsewhere").all()
    assert await table.remove(7) is False
    assert await table.run(7) is None
