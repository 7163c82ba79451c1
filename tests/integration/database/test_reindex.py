"""REINDEX of a table of the schema does not deadlock with jobfn's statements.

REINDEX takes a share lock of the table, then an exclusive lock of each index. A transaction that has read the table,
and so locked its indexes, and then writes it, would wait for the first lock while REINDEX waits for the second.
"""

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from support.fixtures import Connect
from support.jobs import Jobs
from support.network import eventually

ADD_WAITING = """
    insert into app_jobs.scheduled_jobs (task_identifier, schedule_info) values ('s', '{"rule": "* * * * *"}');
    select app_jobs.add_job('held', '{}'::json, 'key-' || n, 'queue-' || n % 3) from generate_series(1, 4) n;
    select app_jobs.claim_jobs('work', array['held'], '4 hours', 4, '1 minute');
    select app_jobs.record_steps(
        array['work'], array[1::bigint], array[1], interval '1 minute', array[1], array['one'], array['step'],
        array['completed'], array[null::int], array['1'::json], array[null], array[0.1::float8], array[null::json]
    );
    select app_jobs.add_unique_job('unique', '{}'::json, unique_until := 'done');
    select app_jobs.add_job('waiting', '{}'::json, 'waiting', run_at := now() + interval '1 hour');
    select app_jobs.add_job('ready', '{}'::json, queue_name := q) from unnest(array[null, null, 'q']) q;
    select app_jobs.add_job_after('after', array[2::bigint]);
"""
SETTLE = "array['work'], array[1::bigint], array[1]"
STATEMENTS = {
    "claim": "select id from app_jobs.claim_jobs('work', null, '4 hours', 10, '1 minute', '{}', null, null)",
    "claim of queues": "select id from app_jobs.claim_jobs('work', null, '4 hours', 10, '1 minute', '{}', null, '{q}')",
    "get_job": "select app_jobs.get_job('work')",
    "add_job": "select app_jobs.add_job('t', '{}'::json)",
    "add_job with a key": "select app_jobs.add_job('t', '{}'::json, 'waiting')",
    "add_jobs": "select app_jobs.add_jobs('t', array['{}'::json, '{}'::json])",
    "add_unique_job": "select app_jobs.add_unique_job('unique', '{}'::json, unique_until := 'done')",
    "complete": f"select app_jobs.settle_jobs({SETTLE}, array['completed'], array[null], array[null::interval])",
    "fail": f"select id from app_jobs.settle_jobs({SETTLE}, array['failed'], array['no'], array[null::interval])",
    "complete with a result": f"""
        select id from app_jobs.settle_jobs_with_results({SETTLE}, array['completed'], array[null],
            array[null::interval], array['1'::json], array[null], array[60.0::float8])
    """,
    "fail with a traceback": f"""
        select id from app_jobs.settle_jobs_with_tracebacks({SETTLE}, array['failed'], array['no'],
            array[null::interval], null, null, null, array['line 1'])
    """,
    "snooze": f"""
        select app_jobs.snooze_jobs({SETTLE}, array['later'], array['1 s'::interval], array['1 h'::interval])
    """,
    "park": f"select id from app_jobs.park_jobs({SETTLE}, array['[1]'::json])",
    "complete_job": "select app_jobs.complete_job('work', 2)",
    "fail_job": "select app_jobs.fail_job('work', 2, 'no')",
    "renew": "select app_jobs.renew_leases('work', array[1::bigint, 2], array[1, 1], '1 minute')",
    "heartbeat": "select app_jobs.heartbeat_job('work', 1, 1, '1 minute', 0.5, 'half')",
    "record steps": """
        select app_jobs.record_steps(array['work'], array[1::bigint], array[1], interval '1 minute', array[2],
            array['two'], array['step'], array['completed'], array[null::int], array['1'::json], array[null],
            array[0.1::float8], array[null::json])
    """,
    "signal": "select app_jobs.signal(1::bigint, 'go', '1'::json)",
    "expire": "select app_jobs.expire_jobs()",
    "reap": "select app_jobs.reap_expired_jobs('4 hours')",
    "reclaim": "select app_jobs.reclaim_jobs('work')",
    "release": "select app_jobs.release_jobs('work')",
    "schedule": "select app_jobs.run_scheduled_job(1)",
    "heartbeat of the worker": "select app_jobs.heartbeat_worker('work', 'h', 1, '1', '{worker}', 1, 1, '1 minute')",
    "prune history": "select app_jobs.prune_job_runs(10)",
    "prune tracebacks": "select app_jobs.prune_job_tracebacks(10)",
    "prune unique": "select app_jobs.prune_unique_jobs(10)",
    "prune completed": "select app_jobs.prune_completed_jobs(10)",
    "prune failed": "select app_jobs.prune_failed_jobs('1 day', 0, 10)",
    "sweep limits": "select app_jobs.sweep_limits()",
}
TABLES = """
    select c.oid::regclass::text from pg_class c
    where c.relnamespace = 'app_jobs'::regnamespace and c.relkind = 'r' order by 1
"""
WAITS = "select exists (select from pg_locks where pid = $1 and not granted)"
INDEXES_LOCKED = """
    select l.relation::regclass::text from pg_locks l join pg_index i on i.indexrelid = l.relation
    where l.pid = $1 and l.granted and i.indrelid = $2::text::regclass
"""


async def indexes_locked_before_their_table(
    statement: str, table: str, blocker: asyncpg.Connection, session: asyncpg.Connection, admin: asyncpg.Connection
) -> Sequence[str]:
    """Return the indexes that a statement has locked when it waits for the lock that it needs to write the table."""
    async with blocker.transaction():
        await blocker.execute(f"lock table {table} in share mode")
        transaction = session.transaction()
        await transaction.start()
        running = asyncio.ensure_future(session.execute(statement))
        pid = session.get_server_pid()

        async def ends_or_waits() -> bool:
            return running.done() or bool(await admin.fetchval(WAITS, pid))

        await eventually(ends_or_waits)
        locked = [] if running.done() else [row[0] for row in await admin.fetch(INDEXES_LOCKED, pid, table)]
    await running
    await transaction.rollback()
    return locked


@pytest.mark.parametrize("name", STATEMENTS)
async def test_statements_lock_a_table_that_they_write_before_they_read_it(
    name: str, jobs: Jobs, connect: Connect
) -> None:
    blocker, session = await connect(), await connect()
    await jobs.connection.execute(ADD_WAITING)
    found = {}
    for table in [row[0] for row in await jobs.connection.fetch(TABLES)]:
        locked = await indexes_locked_before_their_table(STATEMENTS[name], table, blocker, session, jobs.connection)
        if locked:
            found[table] = locked
    assert found == {}
