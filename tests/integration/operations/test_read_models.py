"""Schedules with their next times, and triggers with their tables."""

from datetime import UTC, datetime
from typing import Any

import asyncpg

from jobfn.operations import Operations
from jobfn.operations.read_models import list_schedules
from jobfn.operations.statements import Database
from jobfn.triggers import DataJobTrigger, TableTriggers, apply_triggers
from support.jobs import Jobs


async def test_schedules_have_next_times_and_problems(
    operations: Operations, jobs: Jobs, pool: "asyncpg.Pool[Any]"
) -> None:
    add = "select app_jobs.add_scheduled_job($1, '{}'::json, $2::text::json)"
    await jobs.connection.execute(add, "report", '{"rule": "0 9 * * *", "tz": "Europe/Paris"}')
    await jobs.connection.execute(add, "broken", '{"rule": "0 99 * * *"}')
    now = datetime(2030, 1, 1, tzinfo=UTC)
    database = Database(pool, "app_jobs", operations.capabilities)
    broken, report = await list_schedules(database, limit=2, now=now)
    assert (report.row.task, report.rule, report.problem) == ("report", "0 9 * * *", None)
    assert report.words
    assert report.next_times == (datetime(2030, 1, 1, 8, tzinfo=UTC), datetime(2030, 1, 2, 8, tzinfo=UTC))
    assert (broken.row.task, broken.next_times, broken.words) == ("broken", (), "")
    assert broken.problem is not None
    assert "99" in broken.problem
    assert [len(view.next_times) for view in await operations.schedules()] == [0, 3]


async def test_triggers_of_jobfn_are_listed_with_their_state(operations: Operations, jobs: Jobs) -> None:
    assert await operations.triggers() == ()
    await jobs.connection.execute("create table invoices (id int primary key, status text)")
    node = DataJobTrigger(task_identifier="process_invoice", events=("INSERT", "UPDATE"), watch_fields=("status",))
    await apply_triggers(jobs.connection, [TableTriggers("invoices", [node])])
    await jobs.connection.execute("create function f() returns trigger language plpgsql as 'begin return null; end'")
    await jobs.connection.execute("create trigger foreign_one after delete on invoices execute function f()")
    triggers = await operations.triggers()
    assert {(trigger.schema, trigger.table, trigger.event, trigger.task, trigger.state) for trigger in triggers} == {
        ("public", "invoices", "INSERT", "process_invoice", None),
        ("public", "invoices", "UPDATE", "process_invoice", None),
    }
    assert all(trigger.parameters.get("watch_fields") == ["status"] for trigger in triggers)
    await jobs.connection.execute(f'alter table invoices disable trigger "{triggers[0].name}"')
    assert [trigger.state for trigger in await operations.triggers()] == ["disable", None]
