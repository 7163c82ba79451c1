"""What the statements of a busy worker look at: the jobs that they are about, and no others.

Counted in pages, not in seconds: a statement that reads past the jobs that are not ready reads hundreds of them.
"""

import json
from typing import Any

import asyncpg
import pytest

from support.fixtures import Connect
from support.jobs import settle

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


async def test_a_batch_is_settled_by_key_where_statistics_call_the_table_empty(connect: Connect) -> None:
    """A vacuum found no job, and then thousands came: the end of sixteen is no look at all of them."""
    connection = await connect()
    await connection.execute("insert into app_jobs.jobs (task_identifier) select 'x' from generate_series(1, 1000)")
    await connection.execute("delete from app_jobs.jobs")
    await connection.execute("vacuum (truncate false) app_jobs.jobs")
    await connection.execute("alter table app_jobs.jobs set (autovacuum_enabled = false)")
    assert await connection.fetchval("select reltuples from pg_class where oid = 'app_jobs.jobs'::regclass") == 0
    await connection.execute(
        f"insert into app_jobs.jobs (task_identifier) select 'x' from generate_series(1, {NOT_READY})"
    )
    ids = [row["id"] for row in await connection.fetch(CLAIM)]
    settle_all = (
        f"select app_jobs.settle_jobs(array_fill('worker'::text, '{{16}}'), array{ids}, array_fill(1, '{{16}}'),"
        " array_fill('completed'::text, '{16}'), array_fill(null::text, '{16}'), array_fill(null::interval, '{16}'))"
    )
    assert await pages(connection, settle_all) < 4 * FEW_PAGES
    assert await connection.fetchval("select count(*) from app_jobs.jobs") == NOT_READY - 16


async def test_the_next_delayed_job_is_found_at_once(busy: "asyncpg.Connection[Any]") -> None:
    """When to wake is a look at the front of an index for each priority, with queues and without."""
    assert await pages(busy, "select app_jobs.next_run_at('2 seconds')") < FEW_PAGES
    assert await busy.fetchval("select app_jobs.next_run_at('2 seconds') between now() and now() + interval '1 day'")


async def test_who_died_in_a_last_attempt_is_found_at_once(busy: "asyncpg.Connection[Any]") -> None:
    """Among those that have failed for good, of which none is held; all of them are read nowhere."""
    await busy.execute("insert into app_jobs.jobs (task_identifier, max_attempts) values ('x', 1)")
    await busy.execute("select from app_jobs.claim_jobs('worker', null, '4 hours', 1, '-1 second')")
    assert await pages(busy, "select app_jobs.reap_expired_jobs('4 hours')") < FEW_PAGES
    assert await busy.fetchval("select last_error from app_jobs.jobs where task_identifier = 'x'") is not None


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


async def test_a_page_has_room_for_the_claims_of_all_its_jobs(connect: Connect) -> None:
    """Jobs that were added together and are claimed together: nearly all is HOT, with a pod's name and a payload."""
    connection = await connect()
    await connection.execute(
        "insert into app_jobs.jobs (task_identifier, payload)"
        " select 'send_invoice', json_build_object('id', gen_random_uuid()) from generate_series(1, 2000)"
    )
    async with connection.transaction():
        await connection.execute(
            "select from app_jobs.claim_jobs('jobs-worker-7c9d8f6b5-x2k4q', null, '4 h', 2000, '30 s')"
        )
        row = await connection.fetchrow(
            "select n_tup_upd, n_tup_hot_upd from pg_stat_xact_user_tables where relid = 'app_jobs.jobs'::regclass"
        )
    assert row is not None
    assert row["n_tup_upd"] >= 2000
    assert row["n_tup_hot_upd"] > 0.9 * row["n_tup_upd"], dict(row)


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


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("null, '4 hours', 16, null, '{other}'", {"rare", "rarer"}),
        ("'{rare}', '4 hours', 16, null, '{}'", {"rare"}),
        ("'{rare,rarer,none}', '4 hours', 16, null, '{rare}'", {"rarer"}),
        ("null, '4 hours', 16, null, '{other,rare,rarer}'", set()),
    ],
)
async def test_a_claim_for_some_tasks_does_not_read_the_others(
    busy: "asyncpg.Connection[Any]", wanted: str, found: set[str]
) -> None:
    """Thousands of ready jobs of a task that is not wanted, before those of two that are."""
    await busy.execute(
        f"insert into app_jobs.jobs (task_identifier, priority) select 'other', -1 from generate_series(1, {NOT_READY})"
    )
    await busy.execute("insert into app_jobs.jobs (task_identifier) values ('rare'), ('rarer')")
    claim = f"select * from app_jobs.claim_jobs('worker', {wanted})"
    assert await pages(busy, claim) < 2 * FEW_PAGES
    held = await busy.fetch("select task_identifier from app_jobs.jobs where locked_by is not null")
    assert {row["task_identifier"] for row in held} == found


async def test_a_claim_for_some_tasks_is_in_their_common_order(connect: Connect) -> None:
    """Priority first, then time, then id, across tasks; and no more than were asked for."""
    connection = await connect()
    for name, priority in (("a", 2), ("b", 1), ("a", 1), ("c", 0), ("b", 0)):
        await connection.execute("select app_jobs.add_job($1, priority := $2)", name, priority)
    claim = "select id from app_jobs.claim_jobs('worker', '{a,b}', '4 hours', 2, null, '{}')"
    claimed = [[row["id"] for row in await connection.fetch(claim)] for _ in range(3)]
    assert claimed == [[5, 2], [3, 1], []]


async def test_more_tasks_than_are_asked_one_by_one(connect: Connect) -> None:
    """Then they are found on one walk past all of them."""
    connection = await connect()
    await connection.execute("select app_jobs.add_job('t' || n) from generate_series(1, 150) n")
    claim = "select task_identifier from app_jobs.claim_jobs('worker', null, '4 hours', 500, null, '{t7}')"
    rows = await connection.fetch(claim)
    assert len(rows) == 149
    assert "t7" not in {row["task_identifier"] for row in rows}
