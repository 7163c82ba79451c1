"""Settings of tasks: ``add_job`` without explicit values takes those of the task's row."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from jobfn.database.migrate import migrate
from jobfn.sql.quoting import quote_identifier
from support.fixtures import Connect
from support.jobs import TENANT, Jobs

DEFAULTS: dict[str, Any] = {"queue_name": "syncs", "priority": 5, "max_attempts": 3}
COLUMNS = ("queue_name", "priority", "max_attempts")


async def configure(jobs: Jobs, task: str = "sync", **settings: object) -> None:
    names = ", ".join(settings)
    numbers = ", ".join(f"${number}" for number in range(2, len(settings) + 2))
    await jobs.connection.execute(
        f"insert into app_jobs.task_settings (task_identifier, {names}) values ($1, {numbers})",
        task,
        *settings.values(),
    )


async def call(jobs: Jobs, expression: str) -> tuple[object, ...]:
    """Add a job by an expression, and return its queue, priority and limit."""
    job_id = await jobs.connection.fetchval(f"select {expression}")
    return await jobs.values(job_id, *COLUMNS)


@pytest.mark.parametrize(
    "expression",
    [
        "(app_jobs.add_job('sync')).id",
        "(app_jobs.add_job('sync', '{}'::json, max_attempts => null, priority => null)).id",
        f"(app_jobs.add_job('{TENANT}'::uuid, 'sync', '{{}}'::json)).id",
        "(app_jobs.add_job('sync', '{}'::text, 'key')).id",
        "(app_jobs.add_job_after('sync', '{}')).id",
        "(app_jobs.add_debounced_job('sync', 'key', now(), '1 hour')).id",
        "(app_jobs.add_jobs('sync', array['{}', '{}']::json[]))[2]",
        "(app_jobs.add_jobs('sync', array['{}', '{}']::json[], array['a', null]))[1]",
        "(select job_id from app_jobs.add_unique_job('sync', unique_until => 'done'))",
    ],
)
async def test_job_takes_the_defaults(jobs: Jobs, expression: str) -> None:
    await configure(jobs, **DEFAULTS)
    assert await call(jobs, expression) == ("syncs", 5, 3)


@pytest.mark.parametrize(
    "expression",
    [
        "(app_jobs.add_job('sync', queue_name => 'own', priority => -1, max_attempts => 7)).id",
        "(app_jobs.add_jobs('sync', array['{}']::json[], null, array['own'], null, 7, -1))[1]",
    ],
)
async def test_explicit_values_and_overrides(jobs: Jobs, expression: str) -> None:
    await configure(jobs, **DEFAULTS)
    assert await call(jobs, expression) == ("own", -1, 7)
    await jobs.connection.execute(
        "update app_jobs.task_settings "
        "set override_queue_name = 'slow', override_priority = 9, override_max_attempts = 2"
    )
    assert await call(jobs, expression) == ("slow", 9, 2)


@pytest.mark.parametrize(
    "expression",
    [
        "(app_jobs.add_job('sync', max_attempts => 25, priority => 0)).id",
        f"(app_jobs.add_job('{TENANT}'::uuid, 'sync', max_attempts => 25, priority => 0)).id",
        "(app_jobs.add_job('sync', '{}'::text, max_attempts => 25, priority => 0)).id",
        "(app_jobs.add_job('sync', job_key => 'k', max_attempts => 25, priority => 0)).id",
        "(app_jobs.add_job_after('sync', '{}', max_attempts => 25, priority => 0)).id",
        "(app_jobs.add_debounced_job('sync', 'k', now(), '1 hour', max_attempts => 25, priority => 0)).id",
        "(app_jobs.add_jobs('sync', array['{}']::json[], max_attempts => 25, priority => 0))[1]",
        (
            "(select job_id from app_jobs.add_unique_job("
            "'sync', unique_until => 'done', max_attempts => 25, priority => 0))"
        ),
        (
            "(select job_id from app_jobs.add_unique_jobs("
            "'sync', array['{}']::json[], unique_until => 'done', max_attempts => 25, priority => 0))"
        ),
        (
            "(select job_ids[1] from app_jobs.add_batch("
            "'sync', array['{}']::json[], 'sync', max_attempts => 25, priority => 0))"
        ),
    ],
)
async def test_explicit_values_that_are_the_contract_s_defaults_count(jobs: Jobs, expression: str) -> None:
    await configure(jobs, **DEFAULTS)
    assert await call(jobs, expression) == ("syncs", 0, 25)


async def test_explicit_values_of_a_replacement_count(jobs: Jobs) -> None:
    await configure(jobs, **DEFAULTS)
    call_again = (
        "(select job_id from app_jobs.add_unique_job('sync', unique_until => 'done', on_conflict => 'replace'{}))"
    )
    assert await call(jobs, call_again.format("")) == ("syncs", 5, 3)
    assert await call(jobs, call_again.format(", max_attempts => 25, priority => 0")) == ("syncs", 0, 25)
    assert await call(jobs, call_again.format("")) == ("syncs", 5, 3)


async def test_schedule_without_own_values_takes_the_defaults(jobs: Jobs) -> None:
    await configure(jobs, **DEFAULTS)
    await jobs.connection.execute("select app_jobs.add_scheduled_job('sync', '@daily')")
    assert await call(jobs, "(app_jobs.run_schedule('sync')).id") == ("syncs", 5, 3)


async def test_other_tasks_keep_the_defaults_of_the_contract(jobs: Jobs) -> None:
    await configure(jobs, **DEFAULTS)
    assert await call(jobs, "(app_jobs.add_job('other')).id") == (None, 0, 25)
    assert await call(jobs, "(app_jobs.add_jobs('other', array['{}']::json[]))[1]") == (None, 0, 25)


async def test_only_some_values_are_set(jobs: Jobs) -> None:
    await configure(jobs, priority=4)
    assert await call(jobs, "(app_jobs.add_job('sync')).id") == (None, 4, 25)
    assert await call(jobs, "(app_jobs.add_jobs('sync', array['{}']::json[]))[1]") == (None, 4, 25)


async def test_jobs_are_unique(jobs: Jobs) -> None:
    await configure(jobs, unique_until="started", unique_by=["id"])
    first = await jobs.add("sync", {"id": 1, "n": 1})
    assert await jobs.add("sync", {"id": 1, "n": 2}) == first
    assert await jobs.add("sync", {"id": 2}) != first
    payloads = [json.dumps({"id": number}) for number in (3, 1, 3)]
    ids = await jobs.connection.fetchval("select app_jobs.add_jobs('sync', $1)", payloads)
    assert (ids[1], ids[2]) == (first, ids[0])
    assert await jobs.count() == 3


async def test_tenant_of_the_call_counts(jobs: Jobs) -> None:
    await configure(jobs, unique_until="done")
    first = await jobs.add("sync")
    by_tenant = f"select (app_jobs.add_job('{TENANT}'::uuid, 'sync', '{{}}'::json)).id"
    second = await jobs.connection.fetchval(by_tenant)
    assert second != first
    assert str((await jobs.row(second))["database_id"]) == TENANT
    assert await jobs.connection.fetchval(by_tenant) == second
    [third] = await jobs.connection.fetchval(
        "select app_jobs.add_jobs('sync', array['{}']::json[], db_id => $1)", TENANT
    )
    assert third == second
    assert await jobs.connection.fetchval("select current_setting('jwt.claims.database_id', true)") in {"", None}


async def test_ended_job_of_a_period_is_returned_by_its_id(jobs: Jobs) -> None:
    await configure(jobs, unique_for=timedelta(minutes=5))
    first = await jobs.add("sync")
    await jobs.claim()
    await jobs.complete(first)
    assert await jobs.add("sync") == first
    assert await jobs.count() == 0


async def test_key_excludes_the_default_of_unique(jobs: Jobs) -> None:
    await configure(jobs, unique_until="done")
    first = await jobs.add("sync", {"n": 1}, job_key="k")
    assert await jobs.add("sync", {"n": 2}, job_key="k") == first
    assert await jobs.values(first, "payload") == ('{"n": 2}',)
    assert await jobs.add("sync", {"n": 2}) != first


async def test_dependents_and_children_are_not_unique(jobs: Jobs) -> None:
    await configure(jobs, unique_until="done")
    add = "select (app_jobs.add_job_after('sync', array[]::bigint[])).id"
    assert await jobs.connection.fetchval(add) != await jobs.connection.fetchval(add)


async def test_replaced_job_keeps_the_settings(jobs: Jobs) -> None:
    await configure(jobs, unique_until="done", unique_by=[], on_conflict="replace", **DEFAULTS)
    first = await jobs.add("sync", {"n": 1})
    assert await jobs.add("sync", {"n": 2}) == first
    assert await jobs.values(first, *COLUMNS, "payload") == ("syncs", 5, 3, '{"n": 2}')


async def test_hand_written_trigger(jobs: Jobs) -> None:
    await configure(jobs, **DEFAULTS)
    await jobs.connection.execute(
        """
        create table things (id int);
        create trigger added after insert on things
            for each row execute function app_jobs.tg_add_job_with_row_id('sync');
        insert into things values (1)
        """
    )
    job_id = await jobs.connection.fetchval("select id from app_jobs.jobs")
    assert await jobs.values(job_id, *COLUMNS) == ("syncs", 5, 3)


@pytest.mark.parametrize(
    "settings",
    [
        {"queue_name": "q" * 127},
        {"override_queue_name": ""},
        {"max_attempts": 0},
        {"override_max_attempts": 0},
        {"unique_until": "later"},
        {"unique_until": "done", "unique_for": timedelta(1)},
        {"unique_for": timedelta(0)},
        {"unique_until": "done", "on_conflict": "ignore"},
        {"unique_until": "done", "unique_by": ["x"] * 33},
    ],
)
async def test_invalid_settings_are_refused(jobs: Jobs, settings: dict[str, Any]) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await configure(jobs, **settings)


async def test_sessions_that_have_added_jobs_notice_the_first_and_the_last_row(jobs: Jobs, connect: Connect) -> None:
    other = await connect()
    for remove in ("delete from app_jobs.task_settings", "truncate app_jobs.task_settings"):
        for _ in range(7):  # PostgreSQL keeps a generic plan after five
            assert await other.fetchval("select (app_jobs.add_job('sync')).queue_name") is None
            assert await other.fetchval("select app_jobs.add_jobs('sync', array['{}']::json[])")
        await configure(jobs, **DEFAULTS)
        assert await other.fetchval("select (app_jobs.add_job('sync')).queue_name") == "syncs"
        [job_id] = await other.fetchval("select app_jobs.add_jobs('sync', array['{}']::json[])")
        assert await jobs.values(job_id, *COLUMNS) == ("syncs", 5, 3)
        await jobs.connection.execute(remove)
    assert await other.fetchval("select (app_jobs.add_job('sync')).queue_name") is None


async def test_rolled_back_settings_leave_nothing(jobs: Jobs) -> None:
    transaction = jobs.connection.transaction()
    await transaction.start()
    await configure(jobs, **DEFAULTS)
    assert await call(jobs, "(app_jobs.add_job('sync')).id") == ("syncs", 5, 3)
    await transaction.rollback()
    assert await jobs.connection.fetchval("select app_jobs.has_task_settings()") is False


async def test_concurrent_first_rows(jobs: Jobs, connect: Connect) -> None:
    first, second = await connect(), await connect()
    insert = "insert into app_jobs.task_settings (task_identifier, priority) values ($1, 1)"
    transaction = first.transaction()
    await transaction.start()
    await first.execute(insert, "a")
    waiting = asyncio.create_task(second.execute(insert, "b"))
    while not await jobs.connection.fetchval("select cardinality(pg_blocking_pids($1)) > 0", second.get_server_pid()):
        assert not waiting.done()
    await transaction.commit()
    await waiting
    assert await jobs.connection.fetchval("select app_jobs.has_task_settings()") is True


async def test_replaced_job_has_the_expiry_of_its_replacement(jobs: Jobs) -> None:
    later = datetime(2040, 1, 1, tzinfo=UTC)
    await configure(jobs, task="unique", unique_until="done", unique_by=[], on_conflict="replace")
    first = [await jobs.add("x", job_key="k"), await jobs.add("unique")]
    await jobs.connection.execute("select set_config('jobfn.expires_at', $1, false)", later.isoformat())
    assert [await jobs.add("x", job_key="k"), await jobs.add("unique")] == first
    assert [(await jobs.row(job_id))["expires_at"] for job_id in first] == [later, later]
    await jobs.connection.execute("select set_config('jobfn.expires_at', '', false)")
    await jobs.connection.execute("select app_jobs.add_jobs('x', array['{}']::json[], array['k'])")
    assert (await jobs.row(first[0]))["expires_at"] is None


async def test_schema_with_a_quote_in_its_name(connection: asyncpg.Connection) -> None:
    schema = 'it\'s "jobs"'
    await migrate(connection, schema)
    quoted = quote_identifier(schema)
    await connection.execute(f"insert into {quoted}.task_settings (task_identifier, priority) values ('x', 5)")
    assert await connection.fetchval(f"select ({quoted}.add_job('x')).priority") == 5
