"""Migrations add columns to the jobs table while sessions use it: no call fails, whether it began before or after."""

import asyncio

import asyncpg
import pytest

from support.fixtures import Connect
from support.network import eventually

IS_WAITING = "select cardinality(pg_blocking_pids($1)) > 0"
#: A call of each function that returns or changes jobs. The worker has locked one job; another has the key ``idle``.
CALLS = {
    "add_job": "select id from app_jobs.add_job('x')",
    "add_job_after": "select id from app_jobs.add_job_after('x', '{}')",
    "add_job with key": "select id from app_jobs.add_job('x', job_key := 'idle')",
    "add_job for tenant": "select id from app_jobs.add_job('5b720132-17d5-424d-9bcb-ee7b17c13d43'::uuid, 'x', '{}')",
    "add_debounced_job": "select id from app_jobs.add_debounced_job('x', 'idle', now(), '1 hour')",
    "add_jobs": "select unnest(app_jobs.add_jobs('x', array['{}', '{}']::json[], array[null, 'idle']))",
    "run_scheduled_job": "select id from app_jobs.run_scheduled_job(1)",
    "run_schedule": "select id from app_jobs.run_schedule(1)",
    "get_job": "select id from app_jobs.get_job('worker-2')",
    "claim_jobs": "select id from app_jobs.claim_jobs('worker-2', null, '1 hour', 5)",
    "claim_jobs_of_queues": "select id from app_jobs.claim_jobs_of_queues('worker-2', '{q}', null, '1 hour', 5)",
    "complete_job": "select id from app_jobs.complete_job('worker', (@locked@)[1])",
    "fail_job": "select id from app_jobs.fail_job('worker', (@locked@)[1], 'failed')",
    "settle_jobs": "select id from app_jobs.settle_jobs('{worker}', @locked@, '{1}', '{completed}', '{x}', '{null}')",
    "settle_jobs of a failure": (
        "select id from app_jobs.settle_jobs('{worker}', @locked@, '{1}', '{failed}', '{x}', '{null}')"
    ),
    "settle_jobs_with_results": (
        "select id from app_jobs.settle_jobs_with_results("
        "'{worker}', @locked@, '{1}', '{completed}', '{x}', '{null}', array['1'::json], '{null}', '{60}')"
    ),
    "settle_jobs_with_tracebacks": (
        "select id from app_jobs.settle_jobs_with_tracebacks("
        "'{worker}', @locked@, '{1}', '{failed}', '{x}', '{null}', null, null, null, '{t}')"
    ),
    "snooze_jobs": "select id from app_jobs.snooze_jobs('{worker}', @locked@, '{1}', '{x}', '{1 min}', '{1 day}')",
    "renew_leases": "select app_jobs.renew_leases('worker', @locked@, '{1}', '1 hour')",
    "heartbeat_job": "select app_jobs.heartbeat_job('worker', (@locked@)[1], 1, '1 hour', 0.5, null)",
    "release_jobs": "select app_jobs.release_jobs('worker')",
    "force_unlock_workers": "select app_jobs.force_unlock_workers('{worker}')",
    "reclaim_jobs": "select id from app_jobs.reclaim_jobs('worker')",
    "reap_expired_jobs": "select id from app_jobs.reap_expired_jobs('0')",
    "complete_jobs": "select id from app_jobs.complete_jobs(@idle@)",
    "permanently_fail_jobs": "select id from app_jobs.permanently_fail_jobs(@idle@)",
    "cancel_jobs": "select job_id from app_jobs.cancel_jobs(@idle@, 'by hand', true)",
    "reschedule_jobs": "select id from app_jobs.reschedule_jobs(@idle@, priority := 3)",
    "remove_job": "select id from app_jobs.remove_job('idle')",
}


def statement_of(call: str) -> str:
    """Return the SQL of a call."""
    locked, idle = (
        f"array(select id from app_jobs.jobs where {condition})" for condition in ("attempts = 1", "key = 'idle'")
    )
    return CALLS[call].replace("@locked@", locked).replace("@idle@", idle)


@pytest.fixture
async def user(connection: asyncpg.Connection, connect: Connect) -> asyncpg.Connection:
    """Another session, which makes the calls."""
    await connection.execute("select app_jobs.add_scheduled_job('x', '0 9 * * *')")
    return await connect()


async def add_jobs(connection: asyncpg.Connection) -> None:
    """Make the jobs that ``CALLS`` need."""
    await connection.execute("delete from app_jobs.jobs")
    await connection.execute("select app_jobs.add_job('x', run_at := '-infinity'), app_jobs.get_job('worker')")
    await connection.execute("update app_jobs.jobs set max_attempts = 1, locked_at = '2020-01-01'")
    await connection.execute(
        "select app_jobs.add_job('x', job_key := 'idle'), app_jobs.add_job('x', queue_name := 'q')"
    )


@pytest.mark.parametrize("call", CALLS)
async def test_calls_before_during_and_after_an_added_column(
    connection: asyncpg.Connection, user: asyncpg.Connection, call: str
) -> None:
    statement = statement_of(call)
    for _ in range(6):  # with the sixth, PostgreSQL may keep a generic plan
        await add_jobs(connection)
        expected = len(await user.fetch(statement))
    assert expected > 0
    await add_jobs(connection)
    async with connection.transaction():
        await connection.execute("alter table app_jobs.jobs add column added text")
        waiting = asyncio.create_task(user.fetch(statement))
        await eventually(lambda: connection.fetchval(IS_WAITING, user.get_server_pid()))
    assert len(await waiting) == expected
    await add_jobs(connection)
    assert len(await user.fetch(statement)) == expected


async def test_no_function_returns_the_row_type_of_the_table(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        "select proname from pg_proc"
        " where pronamespace = 'app_jobs'::regnamespace and prorettype = 'app_jobs.jobs'::regtype"
    )
    assert [row["proname"] for row in rows] == []


async def test_calls_cover_all_functions_that_return_jobs(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        "select distinct proname from pg_proc"
        " where pronamespace = 'app_jobs'::regnamespace and prorettype = 'app_jobs.job_row'::regtype"
    )
    inner = {"enqueue_schedule", "insert_job", "insert_unique_by_settings", "settle_mixed_jobs", "to_job_row"}
    functions = {row["proname"].removesuffix("_unrecorded") for row in rows}
    assert functions - inner <= {call.split()[0] for call in CALLS}
