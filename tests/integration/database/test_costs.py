"""How many pages the statements of a busy worker read among many jobs that they do not need.

Pages do not depend on the machine's speed. A statement that reads jobs that are not ready reads hundreds of pages.
"""

import json
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from support.fixtures import Connect
from support.jobs import TENANT, settle_jobs

#: Number of jobs of each kind that is not ready.
NOT_READY = 40_000
#: Maximum number of pages of a statement about a few jobs: index descents, rows and catalog. PostgreSQL 14 reads 305.
FEW_PAGES = 350
CLAIM = "select * from app_jobs.claim_jobs('worker', null, '4 hours', 16)"
UPDATE_STATS = "select n_tup_upd, n_tup_hot_upd from pg_stat_xact_user_tables where relid = 'app_jobs.jobs'::regclass"


@pytest.fixture
async def busy(connect: Connect) -> asyncpg.Connection:
    """A database with thousands of delayed and permanently failed jobs, with and without queues.

    The session planned its statements when the table was small, and the table's statistics are from that time, too.
    """
    connection = await connect()
    await connection.execute("alter table app_jobs.jobs set (autovacuum_enabled = false)")
    for number in range(12):
        await connection.execute("select app_jobs.add_job('x', queue_name := $1)", "q" if number % 2 else None)
        if number == 6:
            await connection.execute("analyze app_jobs.jobs")
        rows = await connection.fetch(CLAIM)
        await settle_jobs(connection, *(("worker", row["id"], None, None) for row in rows))
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


async def pages(connection: asyncpg.Connection, statement: str) -> int:
    """Return the number of pages that a statement reads, including the functions that it calls.

    It runs three times and is rolled back twice, because sessions read the catalog again now and then: when those of
    other tests on the same server have changed much of it.
    """
    counts = []
    for is_last in (False, False, True):
        transaction = connection.transaction()
        await transaction.start()
        text = await connection.fetchval(f"explain (analyze, buffers, timing off, format json) {statement}")
        await (transaction.commit() if is_last else transaction.rollback())
        plan = json.loads(text)[0]["Plan"]
        counts.append(int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]))
    return min(counts)


@pytest.mark.parametrize("setup", ["select 1", "insert into app_jobs.jobs (task_identifier) values ('x')"])
async def test_claim_skips_jobs_that_are_not_ready(busy: asyncpg.Connection, setup: str) -> None:
    await busy.execute(setup)
    assert await pages(busy, CLAIM) < FEW_PAGES


async def test_claim_skips_a_long_locked_queue(busy: asyncpg.Connection) -> None:
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


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("null, '4 hours', 16, null, '{other}'", {"rare", "rarer"}),
        ("'{rare}', '4 hours', 16, null, '{}'", {"rare"}),
        ("'{rare,rarer,none}', '4 hours', 16, null, '{rare}'", {"rarer"}),
        ("null, '4 hours', 16, null, '{other,rare,rarer}'", set()),
    ],
)
async def test_claim_skips_ready_jobs_of_other_tasks(
    busy: asyncpg.Connection, arguments: str, expected: set[str]
) -> None:
    await busy.execute(
        f"insert into app_jobs.jobs (task_identifier, priority) select 'other', -1 from generate_series(1, {NOT_READY})"
    )
    await busy.execute("insert into app_jobs.jobs (task_identifier) values ('rare'), ('rarer')")
    assert await pages(busy, f"select * from app_jobs.claim_jobs('worker', {arguments})") < 2 * FEW_PAGES
    rows = await busy.fetch("select task_identifier from app_jobs.jobs where locked_by is not null")
    assert {row["task_identifier"] for row in rows} == expected


async def test_claim_of_some_tasks_orders_jobs_across_tasks(connect: Connect) -> None:
    connection = await connect()
    for task, priority in (("a", 2), ("b", 1), ("a", 1), ("c", 0), ("b", 0)):
        await connection.execute("select app_jobs.add_job($1, priority := $2)", task, priority)
    claim = "select id from app_jobs.claim_jobs('worker', '{a,b}', '4 hours', 2, null, '{}')"
    claimed = [[row["id"] for row in await connection.fetch(claim)] for _ in range(3)]
    assert claimed == [[5, 2], [3, 1], []]


async def test_claim_with_an_excluded_task_finds_jobs_of_many_tasks(connect: Connect) -> None:
    connection = await connect()
    await connection.execute("select app_jobs.add_job('t' || n) from generate_series(1, 150) n")
    claim = "select task_identifier from app_jobs.claim_jobs('worker', null, '4 hours', 500, null, '{t7}')"
    rows = await connection.fetch(claim)
    assert {row["task_identifier"] for row in rows} == {f"t{number}" for number in range(1, 151) if number != 7}
    assert len(rows) == 149


async def test_completion_reads_only_its_job(busy: asyncpg.Connection) -> None:
    job = await busy.fetchval("insert into app_jobs.jobs (task_identifier) values ('x') returning id")
    assert await busy.fetchval("select (app_jobs.get_job('worker')).id") == job
    assert await pages(busy, f"select app_jobs.complete_job('worker', {job})") < FEW_PAGES


async def test_settlement_uses_the_key_if_statistics_say_the_table_is_empty(connect: Connect) -> None:
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
    settle = (
        f"select app_jobs.settle_jobs(array_fill('worker'::text, '{{16}}'), array{ids}, array_fill(1, '{{16}}'),"
        " array_fill('completed'::text, '{16}'), array_fill(null::text, '{16}'), array_fill(null::interval, '{16}'))"
    )
    assert await pages(connection, settle) < 4 * FEW_PAGES
    assert await connection.fetchval("select count(*) from app_jobs.jobs") == NOT_READY - 16


async def test_next_run_at_skips_jobs_that_are_not_delayed(busy: asyncpg.Connection) -> None:
    assert await pages(busy, "select app_jobs.next_run_at('2 seconds')") < FEW_PAGES
    assert await busy.fetchval("select app_jobs.next_run_at('2 seconds') between now() and now() + interval '1 day'")


async def test_next_run_at_reads_a_limited_number_of_priorities(connect: Connect) -> None:
    connection = await connect()
    await connection.execute(
        "select app_jobs.add_job('x', run_at := now() + interval '1 h', priority := n) from generate_series(1, 31) n"
    )
    minutes = "select round(extract(epoch from app_jobs.next_run_at('0') - now()) / 60)"
    assert await connection.fetchval(minutes) == 60
    await connection.execute(
        "select app_jobs.add_job('x', run_at := now() + interval '1 h', priority := n, queue_name := q)"
        " from generate_series(1, 3000) n, unnest(array[null, 'q']) q"
    )
    await connection.execute("analyze app_jobs.jobs")
    assert await pages(connection, "select app_jobs.next_run_at('0')") < 10 * FEW_PAGES
    seconds = "select extract(epoch from app_jobs.next_run_at('0') - now())"
    assert await connection.fetchval(seconds) == 1, "a worker polls again after a second"


async def test_reaper_skips_permanently_failed_jobs(busy: asyncpg.Connection) -> None:
    await busy.execute("insert into app_jobs.jobs (task_identifier, max_attempts) values ('x', 1)")
    await busy.execute("select from app_jobs.claim_jobs('worker', null, '4 hours', 1, '-1 second')")
    assert await pages(busy, "select app_jobs.reap_expired_jobs('4 hours')") < FEW_PAGES
    assert await busy.fetchval("select last_error from app_jobs.jobs where task_identifier = 'x'") is not None


@pytest.fixture
async def holder(connect: Connect) -> AsyncIterator[asyncpg.Connection]:
    """A connection with an open transaction, which keeps vacuum from removing ended jobs."""
    connection = await connect()
    await connection.execute("begin isolation level repeatable read")
    await connection.execute("select 1 from pg_class limit 1")
    yield connection
    await connection.execute("rollback")


@pytest.mark.parametrize(
    ("pause", "queue", "tenant"),
    [
        ("task := 'paused'", "null", "null"),
        ("queue := 'paused'", "'paused'", "null"),
        (f"tenant := '{TENANT}'", "null", f"'{TENANT}'::uuid"),
        ("task := 'paused'", "null", f"'{TENANT}'::uuid"),
    ],
)
async def test_claim_skips_paused_jobs(busy: asyncpg.Connection, pause: str, queue: str, tenant: str) -> None:
    await busy.execute(
        "insert into app_jobs.jobs (task_identifier, queue_name, priority, database_id)"
        f" select 'paused', {queue}, -9, {tenant} from generate_series(1, {NOT_READY})"
    )
    await busy.execute(f"select app_jobs.pause({pause})")
    await busy.execute("select app_jobs.add_job('x'), app_jobs.add_job('x', queue_name := 'free')")
    assert await pages(busy, CLAIM) < 4 * FEW_PAGES
    assert await busy.fetchval("select count(*) from app_jobs.jobs where locked_by is not null") == 2


async def claim_of_tenants(connection: asyncpg.Connection, exclude: str) -> None:
    """Let the session plan the statements of a claim where jobs have tenants: that reads the catalog."""
    await connection.execute(
        "insert into app_jobs.jobs (task_identifier, database_id, priority)"
        " select 'x', gen_random_uuid(), -9 from generate_series(1, 2)"
    )
    claim = "select * from app_jobs.claim_jobs('worker', null, '4 hours', 16, null, $1)"
    rows = await connection.fetch(claim, [] if exclude == "{}" else ["other"])
    await settle_jobs(connection, *(("worker", row["id"], None, None) for row in rows))


#: Tenants whose jobs are before and after those of ``TENANT`` in an index.
FIRST_TENANT, LAST_TENANT = "00000000-0000-4000-8000-000000000000", "ffffffff-ffff-4fff-bfff-ffffffffffff"
EXCLUDED, STATISTICS = ("{}", "{other}"), ("select 1", "analyze app_jobs.jobs")


@pytest.mark.parametrize("delayed", [0, NOT_READY])
@pytest.mark.parametrize("small", [FIRST_TENANT, LAST_TENANT])
@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("exclude", EXCLUDED)
async def test_claim_reads_little_of_a_flood_of_one_tenant(
    busy: asyncpg.Connection, exclude: str, statistics: str, small: str, delayed: int
) -> None:
    """Also if the tenant of the flood has delayed jobs."""
    await claim_of_tenants(busy, exclude)
    await busy.execute(
        "insert into app_jobs.jobs (task_identifier, database_id, run_at)"
        f" select 'x', '{TENANT}'::uuid, now() + case when n > {NOT_READY} then '1 day' else '0' end::interval"
        f" from generate_series(1, {NOT_READY + delayed}) n"
    )
    await busy.execute("insert into app_jobs.jobs (task_identifier, database_id) values ('x', $1)", small)
    await busy.execute(statistics)
    claim = f"select * from app_jobs.claim_jobs('worker', null, '4 hours', 16, null, '{exclude}')"
    assert await pages(busy, claim) < 500
    claimed = "select count(*), count(distinct database_id) from app_jobs.jobs where locked_by is not null"
    assert tuple(await busy.fetchrow(claimed)) == (16, 2)


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("exclude", EXCLUDED)
async def test_claim_visits_few_of_many_tenants(busy: asyncpg.Connection, exclude: str, statistics: str) -> None:
    await claim_of_tenants(busy, exclude)
    await busy.execute(
        "insert into app_jobs.jobs (task_identifier, database_id, run_at)"
        f" select 'x', gen_random_uuid(), now() + interval '1 day' from generate_series(1, {NOT_READY})"
    )
    await busy.execute("insert into app_jobs.jobs (task_identifier, database_id) values ('x', gen_random_uuid())")
    await busy.execute(statistics)
    claim = f"select * from app_jobs.claim_jobs('worker', null, '4 hours', 16, null, '{exclude}')"
    assert await pages(busy, claim) < (2 if exclude == "{}" else 5) * FEW_PAGES
    assert await busy.fetchval("select count(*) from app_jobs.jobs where locked_by is not null") == 1


async def test_few_claims_read_paused_jobs_of_many_queues(busy: asyncpg.Connection) -> None:
    await busy.execute(
        "insert into app_jobs.jobs (task_identifier, queue_name, priority)"
        f" select 'paused', 'p' || n, -9 from generate_series(1, {NOT_READY}) n"
    )
    await busy.execute("select app_jobs.pause(task := 'paused')")
    await busy.execute("select app_jobs.add_job('x', queue_name := 'q' || n) from generate_series(1, 20) n")
    claim = ONE_CLAIM.format(tasks="null", exclude="{}")
    assert await pages(busy, claim) > 500
    await busy.execute(KEEP_POSITIONS)
    assert max([await pages(busy, claim) for _ in range(5)]) < FEW_PAGES
    assert await busy.fetchval("select count(*) from app_jobs.jobs where locked_by is not null") == 6


@pytest.fixture
async def held(connect: Connect, holder: asyncpg.Connection) -> asyncpg.Connection:
    """A database with thousands of ended jobs that cannot be vacuumed."""
    connection = await connect()
    for queue in ("null", "'q'"):
        await connection.execute(
            "insert into app_jobs.jobs (task_identifier, queue_name, run_at)"
            f" select 'x', {queue}, now() - interval '1 hour' from generate_series(1, {NOT_READY})"
        )
    await connection.execute("delete from app_jobs.jobs")
    return connection


KEEP_POSITIONS = "update app_jobs.claim_positions set valid_until = now() + interval '1 hour'"
EXPIRE_POSITIONS = "update app_jobs.claim_positions set valid_until = now()"
ONE_CLAIM = "select * from app_jobs.claim_jobs('worker', {tasks}, '4 hours', 1, null, '{exclude}')"


@pytest.mark.parametrize(("tasks", "exclude"), [("null", "{}"), ("null", "{other}"), ("'{x}'", "{}")])
@pytest.mark.parametrize("queue", ["null", "'q' || n"])
async def test_few_claims_read_ended_jobs_that_vacuum_may_not_remove(
    held: asyncpg.Connection, tasks: str, exclude: str, queue: str
) -> None:
    claim = ONE_CLAIM.format(tasks=tasks, exclude=exclude)
    await held.execute(
        f"insert into app_jobs.jobs (task_identifier, queue_name) select 'x', {queue} from generate_series(1, 20) n"
    )
    assert await pages(held, claim) > 500
    await held.execute(KEEP_POSITIONS)
    assert max([await pages(held, claim) for _ in range(5)]) < FEW_PAGES
    assert await pages(held, "select app_jobs.next_run_at('2 seconds')") < FEW_PAGES
    await held.execute(EXPIRE_POSITIONS)
    assert await pages(held, claim) > 500
    assert await held.fetchval("select count(*) from app_jobs.jobs where locked_at is not null") == 7


async def test_earlier_jobs_wait_for_a_claim_from_the_beginning(held: asyncpg.Connection) -> None:
    claim = f"select id from ({ONE_CLAIM.format(tasks='null', exclude='{}')}) claimed"
    add = "select id from app_jobs.add_job('x', queue_name := $1, priority := $2, run_at := now() - $3::interval)"
    for queues in ([None] * 4, ["a", "b", "c", "d"]):
        await held.execute(EXPIRE_POSITIONS)
        first = await held.fetchval(add, queues[0], 0, timedelta(minutes=1))
        second = await held.fetchval(add, queues[1], 0, timedelta(seconds=30))
        assert await held.fetchval(claim) == first
        await held.execute(KEEP_POSITIONS)
        urgent = await held.fetchval(add, queues[2], -1, timedelta())
        earlier = await held.fetchval(add, queues[3], 0, timedelta(minutes=2))
        assert [await held.fetchval(claim) for _ in range(2)] == [second, None]
        minutes = "extract(epoch from app_jobs.next_run_at('0') - now()) / 60"
        assert await held.fetchval(f"select round({minutes})") == 60, "a claim is due when the position expires"
        for expected in (urgent, earlier):
            await held.execute(EXPIRE_POSITIONS)
            assert await held.fetchval(claim) == expected
        await held.execute("delete from app_jobs.jobs")


async def test_claims_start_at_the_beginning_again_after_a_vacuum(
    held: asyncpg.Connection, holder: asyncpg.Connection
) -> None:
    claim = ONE_CLAIM.format(tasks="null", exclude="{}")
    await held.execute("insert into app_jobs.jobs (task_identifier) values ('x')")
    await held.execute(claim)
    assert await held.fetchval("select count(*) from app_jobs.claim_positions") == 1
    await holder.execute("rollback")
    await held.execute("vacuum app_jobs.jobs")
    await held.execute(EXPIRE_POSITIONS)
    await held.execute(claim)
    assert await held.fetchval("select count(*) from app_jobs.claim_positions") == 0


async def test_claim_updates_no_index(busy: asyncpg.Connection) -> None:
    """A claim changes no indexed column, so the new row version stays on its page (HOT update)."""
    await busy.execute("insert into app_jobs.jobs (task_identifier) select 'x' from generate_series(1, 8)")
    async with busy.transaction():
        before = await busy.fetchrow(UPDATE_STATS)
        await busy.execute(CLAIM)
        after = await busy.fetchrow(UPDATE_STATS)
    assert [after[number] - before[number] for number in (0, 1)] == [8, 8]


async def test_pages_have_room_for_a_claim_of_all_their_jobs(connect: Connect) -> None:
    """Nearly all updates are HOT, even if jobs that were added together are claimed together."""
    connection = await connect()
    await connection.execute(
        "insert into app_jobs.jobs (task_identifier, payload)"
        " select 'send_invoice', json_build_object('id', gen_random_uuid()) from generate_series(1, 2000)"
    )
    async with connection.transaction():
        await connection.execute(
            "select from app_jobs.claim_jobs('jobs-worker-7c9d8f6b5-x2k4q', null, '4 h', 2000, '30 s')"
        )
        stats = await connection.fetchrow(UPDATE_STATS)
    assert stats["n_tup_upd"] >= 2000
    assert stats["n_tup_hot_upd"] > 0.9 * stats["n_tup_upd"]


async def test_functions_without_sequential_scans_are_not_compiled(connection: asyncpg.Connection) -> None:
    """``enable_seqscan = off`` makes costs so high that PostgreSQL would compile the plan in each call."""
    rows = await connection.fetch(
        """
        select proname, 'jit=off' = any (proconfig) as is_jit_off from pg_proc
        where pronamespace = 'app_jobs'::regnamespace and 'enable_seqscan=off' = any (proconfig)
        """
    )
    assert rows
    assert all(row["is_jit_off"] for row in rows), rows


async def test_settlement_of_one_job_is_not_planned_each_time(connection: asyncpg.Connection) -> None:
    """A plan for one id looks cheaper than one for any number, and planning takes longer than the settlement."""
    await connection.execute("select app_jobs.add_jobs('x', array_fill('{}'::json, array[10000]))")
    await connection.execute("vacuum analyze app_jobs.jobs")
    messages: list[str] = []
    connection.add_log_listener(lambda _, message: messages.append(message.detail or ""))
    for number in range(12):
        if number == 11:
            await connection.execute("set debug_print_plan = on; set client_min_messages = log")
        job = await connection.fetchval("select id from app_jobs.claim_jobs('worker', null, '4 hours', 1)")
        assert len(await settle_jobs(connection, ("worker", job, None, None))) == 1
    await connection.execute("reset debug_print_plan; reset client_min_messages")
    assert not [detail for detail in messages if "MODIFYTABLE" in detail]
