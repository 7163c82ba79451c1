"""What the statements of a busy worker look at: the jobs that they are about, and no others.

Counted in pages, not in seconds: a statement that reads past the jobs that are not ready reads hundreds of them.
"""

import json
from typing import Any

import asyncpg
import pytest

from support import Connect, settle

#: Each kind of job that is not ready, of which a claim must not read more than a few.
NOT_READY = 40_000
#: A statement on few jobs: some index descents and rows, catalog pages included.
FEW_PAGES = 150


@pytest.fixture
async def busy(connect: Connect) -> "asyncpg.Connection[Any]":
    """Thousands of delayed and exhausted jobs, with and without queues.

    The session has planned all its statements while the table was small, and the statistics still call it so.
    """
    connection = await connect()
    await connection.execute("alter table app_jobs.jobs set (autovacuum_enabled = false)")
    for number in range(12):
        await connection.execute("select app_jobs.add_job('x', queue_name := $1)", "q" if number % 2 else None)
        if number == 6:
            await connection.execute("analyze app_jobs.jobs")
        rows = await connection.fetch("select id, locked_by from app_jobs.claim_jobs('worker', null, '4 hours', 16)")
        await settle(connection, *((row["locked_by"], row["id"], None, None) for row in rows))
    await connection.execute(
        f"""
        insert into app_jobs.jobs (task_identifier, run_at, priority, queue_name)
        select 'delayed', now() + interval '1 day', n % 3 - 1, case when n % 2 = 0 then 'd' || n % 20 end
        from generate_series(1, {NOT_READY}) n
        """
    )
    await connection.execute(
        f"""
        insert into app_jobs.jobs (task_identifier, attempts, queue_name)
        select 'exhausted', 25, case when n % 2 = 0 then 'e' || n % 20 end from generate_series(1, {NOT_READY}) n
        """
    )
    return connection


async def pages(connection: "asyncpg.Connection[Any]", statement: str) -> int:
    """How many pages a statement and the functions that it calls look at."""
    text = await connection.fetchval(f"explain (analyze, buffers, timing off, format json) {statement}")
    plan = json.loads(text)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


CLAIM = "select * from app_jobs.claim_jobs('worker', null, '4 hours', 16)"


@pytest.mark.parametrize("ready", ["select 1", "insert into app_jobs.jobs (task_identifier) values ('x')"])
async def test_a_claim_does_not_read_what_is_not_ready(busy: "asyncpg.Connection[Any]", ready: str) -> None:
    """With nothing ready, or one job, a claim among eighty thousand others reads a few pages."""
    await busy.execute(ready)
    assert await pages(busy, CLAIM) < FEW_PAGES


async def test_a_claim_behind_a_long_queue_does_not_read_it(busy: "asyncpg.Connection[Any]") -> None:
    """A held queue with thousands of ready jobs in front costs the next claim no more than a glance."""
    await busy.execute(
        f"""
        insert into app_jobs.jobs (task_identifier, queue_name, priority)
        select 'x', 'long', -9 from generate_series(1, {NOT_READY})
        """
    )
    assert await busy.fetchval("select (app_jobs.get_job('worker')).queue_name") == "long"
    await busy.execute("select app_jobs.add_job('x', queue_name := 'short')")
    assert await pages(busy, CLAIM) < 4 * FEW_PAGES
    assert await busy.fetchval("select count(*) from app_jobs.jobs where locked_by is not null") == 2


async def test_a_settlement_reads_the_jobs_that_it_is_about(busy: "asyncpg.Connection[Any]") -> None:
    """Ending one job of many reads a few pages."""
    job = await busy.fetchval("insert into app_jobs.jobs (task_identifier) values ('x') returning id")
    assert await busy.fetchval("select (app_jobs.get_job('worker')).id") == job
    assert await pages(busy, f"select app_jobs.complete_job('worker', {job})") < FEW_PAGES


async def test_the_next_delayed_job_is_found_at_once(busy: "asyncpg.Connection[Any]") -> None:
    """When to wake is one look at the front of an index."""
    statement = "select min(run_at) from app_jobs.jobs where not exhausted and run_at > now()"
    assert await pages(busy, statement) < FEW_PAGES


async def test_counting_an_attempt_moves_no_index_entry(busy: "asyncpg.Connection[Any]") -> None:
    """A claim changes no indexed value, so its new row version stays on the page of the old one (HOT)."""
    await busy.execute("insert into app_jobs.jobs (task_identifier) select 'x' from generate_series(1, 8)")
    counted = "select n_tup_upd, n_tup_hot_upd from pg_stat_xact_user_tables where relid = 'app_jobs.jobs'::regclass"
    async with busy.transaction():
        before = await busy.fetchrow(counted)
        await busy.execute(CLAIM)
        after = await busy.fetchrow(counted)
    assert before is not None
    assert after is not None
    assert [after[number] - before[number] for number in (0, 1)] == [8, 8]


async def test_no_statement_of_a_busy_worker_is_compiled(connect: Connect) -> None:
    """Where a scan of a table is forbidden, its cost is enormous: PostgreSQL would compile the plan at each call."""
    connection = await connect()
    unguarded = await connection.fetch(
        """
        select proname from pg_proc
        where pronamespace = 'app_jobs'::regnamespace
            and 'enable_seqscan=off' = any (proconfig) and not 'jit=off' = any (proconfig)
        """
    )
    guarded = await connection.fetchval(
        "select count(*) from pg_proc where pronamespace = 'app_jobs'::regnamespace and 'jit=off' = any (proconfig)"
    )
    assert (unguarded, guarded > 0) == ([], True)
