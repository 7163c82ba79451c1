"""Schedules with their next times, and triggers with their tables."""

from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from jobfn.errors import ConfigurationError, DatabaseError
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


async def test_next_times_have_the_jitter_and_end_with_a_pause(
    operations: Operations, jobs: Jobs, pool: "asyncpg.Pool[Any]"
) -> None:
    info = '{"rule": "0 9 * * *", "jitter_seconds": 3600}'
    await jobs.connection.execute("select app_jobs.add_scheduled_job('t', '{}'::json, $1::text::json)", info)
    now = datetime(2030, 1, 1, 9, 10, tzinfo=UTC)
    database = Database(pool, "app_jobs", operations.capabilities)
    (view,) = await list_schedules(database, limit=2, now=now)
    first = datetime(2030, 1, 2, 9, 4, 19, 887998, tzinfo=UTC)
    assert view.next_times == (first, datetime(2030, 1, 3, 9, 45, 13, 346290, tzinfo=UTC))
    due_at = datetime(2030, 1, 1, 9, 50, tzinfo=UTC)
    await jobs.connection.execute("update app_jobs.scheduled_jobs set due_at = $1", due_at)
    (view,) = await list_schedules(database, limit=2, now=now)
    assert view.next_times == (due_at, first)
    paused = await operations.pause_schedule("t", reason="no paper")
    assert paused.task == "t"
    (view,) = await operations.schedules()
    assert (view.next_times, view.row.pause_reason) == ((), "no paper")


async def test_schedule_is_run_resumed_and_removed(operations: Operations, jobs: Jobs) -> None:
    await jobs.connection.execute("select app_jobs.add_scheduled_job('t', '@daily', job_key := 'k')")
    await operations.pause_schedule("k")
    job = await operations.run_schedule(1)
    assert (await jobs.row(job))["task_identifier"] == "t"
    with pytest.raises(DatabaseError, match="the schedule's last job still waits or runs"):
        await operations.run_schedule("k")
    await operations.resume_schedule(1)
    (view,) = await operations.schedules()
    assert (view.row.paused_at, len(view.next_times)) == (None, 3)
    await operations.remove_schedule("t")
    assert await operations.schedules() == ()
    with pytest.raises(ConfigurationError, match="no schedule has the id, the key or the task 't'"):
        await operations.resume_schedule("t")


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
