"""Limits of concurrency, which hold across all workers: what the claim lets start, and what it holds."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from support.fixtures import Connect
from support.jobs import TENANT, WORKER, Jobs, settle_jobs
from support.limits import assert_consistent, claim, held, set_limit

OTHER_TENANT = "11111111-2222-3333-4444-555555555555"


async def test_no_more_jobs_run_than_a_limit_allows(jobs: Jobs) -> None:
    await set_limit(jobs.connection, "sync", task_identifier="sync", concurrency=2)
    added = [await jobs.add("sync") for _ in range(4)]
    other = await jobs.add("other")
    assert await claim(jobs.connection, 10) == [*added[:2], other]
    assert await held(jobs.connection) == added[2:]
    assert await claim(jobs.connection, 10) == []
    await jobs.complete(added[0])
    assert await claim(jobs.connection, 10) == [added[2]]
    await assert_consistent(jobs.connection)


async def test_node_workers_pass_the_same_gate(jobs: Jobs) -> None:
    await set_limit(jobs.connection, "sync", task_identifier="sync", concurrency=1)
    first, second = [await jobs.add("sync") for _ in range(2)]
    assert [await jobs.claim_id("node-worker") for _ in range(2)] == [first, None]
    await jobs.complete(first, worker="node-worker")
    assert await jobs.claim_id("node-worker") == second


async def test_claims_of_queues_pass_the_same_gate(jobs: Jobs) -> None:
    await set_limit(jobs.connection, "mail", queue_name="mail", concurrency=1)
    await set_limit(jobs.connection, "sync", task_identifier="sync", concurrency=1)
    mail, sync, _ = await jobs.add("x", queue_name="mail"), await jobs.add("sync"), await jobs.add("sync")
    rows = await jobs.connection.fetch(
        "select id from app_jobs.claim_jobs_of_queues($1, '{mail,\"\"}', null, '4 hours', 10)", WORKER
    )
    assert {row["id"] for row in rows} == {mail, sync}
    await assert_consistent(jobs.connection)


@pytest.mark.parametrize("per", ["tenant", "queue", "key", "task", "payload.customer", "payload.customer.id"])
async def test_each_value_has_a_limit_of_its_own(jobs: Jobs, per: str) -> None:
    await set_limit(jobs.connection, "each", per=per, concurrency=1)
    claimed = 0
    for number, (tenant, value) in enumerate([(TENANT, "a"), (OTHER_TENANT, "b")]):
        await jobs.connection.execute("select set_config('jwt.claims.database_id', $1, false)", tenant)
        customer = {"id": value} if per.endswith(".id") else value
        for suffix in (1, 2):
            await jobs.add(
                f"task-{value}" if per == "task" else "x",
                {"customer": customer},
                queue_name=value if per == "queue" else None,
                job_key=f"{value}{suffix}" if per == "key" else None,
            )
        claimed += len(await claim(jobs.connection, 10))
        assert claimed == (2 if per == "key" else 1) * (number + 1)


async def test_jobs_without_the_value_share_a_limit(jobs: Jobs) -> None:
    await set_limit(jobs.connection, "each", per="payload.customer", concurrency=1)
    for payload in ({}, [1], 7, "text", {"customer": None}):
        await jobs.add("x", payload)
    assert len(await claim(jobs.connection, 10)) == 1


async def test_payload_that_postgresql_cannot_convert_stops_no_claim(jobs: Jobs) -> None:
    await set_limit(jobs.connection, "each", per="payload.customer", concurrency=5)
    for payload in ('{"customer": "\\u0000"}', '{"customer": "\\ud800"}', '{"customer": 1, "x": "\\u0000"}'):
        await jobs.connection.execute("select app_jobs.add_job('x', $1::text)", payload)
    assert len(await claim(jobs.connection, 10)) == 3


async def test_long_values_are_keys_of_bounded_length(jobs: Jobs) -> None:
    await set_limit(jobs.connection, "each", per="payload.customer", concurrency=1)
    for value in ("a" * 100_000, "a" * 99_999 + "b"):
        await jobs.add("x", {"customer": value})
    assert len(await claim(jobs.connection, 10)) == 2
    keys = await jobs.connection.fetch("select length(key) as length from app_jobs.limit_slots")
    assert [row["length"] for row in keys] == [36, 36]


async def test_a_job_is_subject_to_every_limit_that_matches(jobs: Jobs) -> None:
    await set_limit(jobs.connection, "a-task", task_identifier="x", concurrency=3)
    await set_limit(jobs.connection, "b-customer", per="payload.customer", concurrency=1)
    added = [await jobs.add("x", {"customer": customer}) for customer in ("a", "a", "b", "c", "d")]
    # the second job counts for its task until the customer's limit has held it
    assert [await claim(jobs.connection, 10) for _ in range(3)] == [[added[0], added[2]], [added[3]], []]
    await assert_consistent(jobs.connection)
    await jobs.complete(added[2])
    assert await claim(jobs.connection, 10) == [added[4]]
    await jobs.complete(added[0])
    assert await claim(jobs.connection, 10) == [added[1]]
    await assert_consistent(jobs.connection)


@pytest.mark.parametrize(
    "end",
    [
        "select app_jobs.complete_job('worker-under-test', $1)",
        "select app_jobs.fail_job('worker-under-test', $1, 'boom')",
        "select app_jobs.release_jobs('worker-under-test') where $1 > 0",
        "select app_jobs.reclaim_jobs('worker-under-test') where $1 > 0",
        "select app_jobs.cancel_jobs(array[$1::bigint], 'by a test', true)",
        "select app_jobs.force_unlock_workers('{worker-under-test}') where $1 > 0",
        "delete from app_jobs.jobs where id = $1",
        "select app_jobs.snooze_jobs('{worker-under-test}', array[$1::bigint], '{1}', '{busy}', '{1 hour}', '{1 day}')",
        "select app_jobs.park_jobs('{worker-under-test}', array[$1::bigint], '{1}', '{[1]}')",
    ],
)
async def test_a_slot_ends_with_the_run_whichever_way_it_ends(jobs: Jobs, end: str) -> None:
    await set_limit(jobs.connection, "sync", task_identifier="sync", concurrency=1)
    first, second = [await jobs.add("sync") for _ in range(2)]
    assert await claim(jobs.connection, 10) == [first]
    await jobs.connection.execute(end, first)
    assert await jobs.connection.fetchval("select count(*) from app_jobs.limit_slots") == 0
    await jobs.connection.execute(
        "update app_jobs.jobs set run_at = run_at + interval '1 hour' where id = $1 and isfinite(run_at)", first
    )
    assert await claim(jobs.connection, 10) == [second]
    await assert_consistent(jobs.connection)


async def test_truncate_forgets_what_ran(jobs: Jobs) -> None:
    await set_limit(jobs.connection, "sync", task_identifier="sync", concurrency=1)
    for _ in range(2):
        await jobs.add("sync")
    await claim(jobs.connection, 10)
    await jobs.connection.execute("truncate app_jobs.jobs")
    await assert_consistent(jobs.connection)


async def test_an_expired_job_keeps_its_slot_until_it_is_claimed_again(jobs: Jobs) -> None:
    await set_limit(jobs.connection, "sync", task_identifier="sync", concurrency=1)
    first, second = [await jobs.add("sync") for _ in range(2)]
    assert await claim(jobs.connection, 1, lease=timedelta(seconds=30)) == [first]
    await jobs.update("lease_expires_at = now() - interval '1 second' where locked_at is not null")
    assert await claim(jobs.connection, 10, worker="another") == [first]
    assert await claim(jobs.connection, 10, worker="another") == []
    await jobs.complete(first, worker="another")
    assert await claim(jobs.connection, 10, worker="another") == [second]


async def test_urgent_jobs_of_a_key_start_first(jobs: Jobs) -> None:
    await set_limit(jobs.connection, "sync", task_identifier="sync", concurrency=1)
    running, late = [await jobs.add("sync", priority=5) for _ in range(2)]
    assert await claim(jobs.connection, 10) == [running]
    assert await held(jobs.connection) == [late]
    urgent = await jobs.add("sync", priority=-5)
    early = await jobs.add("sync", priority=5)
    await jobs.complete(running)
    for expected in (urgent, late, early):
        assert await claim(jobs.connection, 10) == [expected]
        await jobs.complete(expected)


async def test_a_held_job_keeps_its_due_time_in_the_history(jobs: Jobs) -> None:
    await set_limit(jobs.connection, "sync", task_identifier="sync", concurrency=1)
    first, second = [await jobs.add("sync") for _ in range(2)]
    due = await jobs.values(second, "run_at")
    await claim(jobs.connection, 10)
    await jobs.complete(first)
    await claim(jobs.connection, 10)
    assert await jobs.values(second, "run_at") == due
    await jobs.complete(second)


async def test_new_jobs_of_a_full_key_never_lie_before_others(jobs: Jobs) -> None:
    await set_limit(jobs.connection, "sync", task_identifier="sync", concurrency=1)
    first = await jobs.add("sync")
    assert await claim(jobs.connection, 10) == [first]
    added = [await jobs.add("sync") for _ in range(3)]
    added += await jobs.connection.fetchval("select app_jobs.add_jobs('sync', array['{}', '{}']::json[])")
    assert await held(jobs.connection) == added
    assert await jobs.connection.fetchval("select count(*) from app_jobs.jobs where isfinite(run_at)") == 1


async def test_one_transaction_that_adds_many_jobs_leaves_few_before_others(jobs: Jobs) -> None:
    await set_limit(jobs.connection, "sync", task_identifier="sync", concurrency=3)
    async with jobs.connection.transaction():
        for _ in range(20):
            await jobs.add("sync")
    assert len(await held(jobs.connection)) == 17
    assert len(await claim(jobs.connection, 10)) == 3


async def test_jobs_behind_a_flood_are_claimed_at_once(jobs: Jobs) -> None:
    added = await jobs.connection.fetchval("select app_jobs.add_jobs('sync', array_fill('{}'::json, array[3000]))")
    await set_limit(jobs.connection, "sync", task_identifier="sync", concurrency=1)  # none is held yet
    other = await jobs.add("other")
    assert await claim(jobs.connection, 16) == [added[0], other]


async def test_a_job_key_replaces_a_held_job(jobs: Jobs) -> None:
    await set_limit(jobs.connection, "sync", task_identifier="sync", concurrency=1)
    running = await jobs.add("sync")
    await claim(jobs.connection, 10)
    kept = await jobs.add("sync", {"version": 1}, job_key="k")
    assert await held(jobs.connection) == [kept]
    assert await jobs.add("sync", {"version": 2}, job_key="k") == kept
    assert await claim(jobs.connection, 10) == []
    assert await held(jobs.connection) == [kept]
    await jobs.complete(running)
    assert await claim(jobs.connection, 10) == [kept]
    await assert_consistent(jobs.connection)


@pytest.mark.parametrize(
    ("act", "claimed"),
    [
        ("select app_jobs.complete_jobs(array[$1::bigint])", False),
        ("select app_jobs.cancel_jobs(array[$1::bigint], 'by a test', false)", False),
        ("select app_jobs.run_jobs_now(array[$1::bigint])", True),
        ("select app_jobs.reschedule_jobs(array[$1::bigint], priority := 7)", True),
    ],
)
async def test_actions_on_held_jobs(jobs: Jobs, act: str, *, claimed: bool) -> None:
    await set_limit(jobs.connection, "sync", task_identifier="sync", concurrency=1)
    running, waiting = [await jobs.add("sync") for _ in range(2)]
    await claim(jobs.connection, 10)
    await jobs.connection.execute(act, waiting)
    await assert_consistent(jobs.connection)
    await jobs.complete(running)
    assert await claim(jobs.connection, 10) == ([waiting] if claimed else [])


async def test_a_limit_can_be_raised_lowered_and_removed_while_jobs_run(jobs: Jobs) -> None:
    connection = jobs.connection
    await set_limit(connection, "sync", task_identifier="sync", concurrency=2)
    added = [await jobs.add("sync") for _ in range(8)]
    assert await claim(connection, 10) == added[:2]
    await set_limit(connection, "sync", task_identifier="sync", concurrency=4)
    assert await claim(connection, 10) == added[2:4]
    await set_limit(connection, "sync", task_identifier="sync", concurrency=1)
    for job in added[:3]:
        await jobs.complete(job)
        assert await claim(connection, 10) == []
    await jobs.complete(added[3])
    assert await claim(connection, 10) == [added[4]]
    assert await connection.fetchval("select app_jobs.remove_limit('sync')") is True
    assert await held(connection) == []
    assert await claim(connection, 10) == added[5:]
    assert await connection.fetchval("select app_jobs.remove_limit('sync')") is False
    await assert_consistent(connection)


async def test_jobs_that_run_count_when_a_limit_is_set(jobs: Jobs) -> None:
    running, waiting = [await jobs.add("sync", {"customer": "a"}) for _ in range(2)]
    assert await claim(jobs.connection, 1) == [running]
    await set_limit(jobs.connection, "sync", task_identifier="sync", per="payload.customer", concurrency=1)
    assert await claim(jobs.connection, 10) == []
    await jobs.complete(running)
    assert await claim(jobs.connection, 10) == [waiting]


async def test_a_limit_that_counts_something_else_starts_anew(jobs: Jobs) -> None:
    await set_limit(jobs.connection, "sync", task_identifier="sync", concurrency=1)
    added = [await jobs.add("sync", {"customer": customer}) for customer in ("a", "a", "b")]
    assert await claim(jobs.connection, 10) == added[:1]
    await set_limit(jobs.connection, "sync", task_identifier="sync", per="payload.customer", concurrency=1)
    assert await claim(jobs.connection, 10) == [added[2]]
    await assert_consistent(jobs.connection)


async def test_an_equal_limit_changes_nothing_and_code_leaves_the_limits_of_operators(jobs: Jobs) -> None:
    first = await set_limit(jobs.connection, "sync", concurrency=1, set_by="code")
    assert await set_limit(jobs.connection, "sync", concurrency=1, set_by="code") == first
    changed = await set_limit(jobs.connection, "sync", concurrency=2)
    assert (changed["concurrency"], changed["set_by"]) == (2, "operator")
    assert await set_limit(jobs.connection, "sync", concurrency=9, set_by="code") == changed


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "set_limit: a limit needs a concurrency, or a rate_count with its rate_interval"),
        ({"concurrency": 0}, "limits_concurrency_limited"),
        ({"concurrency": 1, "per": "payload"}, "limits_per_known"),
        ({"rate_count": 5}, "limits_rate_complete"),
        ({"rate_count": 5, "rate_interval": timedelta(0)}, "limits_rate_interval_limited"),
        ({"name": "", "concurrency": 1}, "set_limit: name must have 1 to 126 characters"),
    ],
)
async def test_invalid_limits_are_refused(
    connection: asyncpg.Connection, values: dict[str, object], message: str
) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match=message):
        await set_limit(connection, **({"name": "x"} | values))  # type: ignore[arg-type]


async def test_the_number_of_limits_is_bounded(connection: asyncpg.Connection) -> None:
    await connection.execute(
        "insert into app_jobs.limits (name, concurrency) select 'limit ' || n, 1 from generate_series(1, 1000) n"
    )
    with pytest.raises(asyncpg.ProgramLimitExceededError, match="there are 1,000 limits already"):
        await set_limit(connection, "one more", concurrency=1)


async def test_a_busy_table_delays_a_new_limit_only_for_seconds(jobs: Jobs, connect: Connect) -> None:
    other = await connect()
    async with other.transaction():
        await other.execute("select app_jobs.add_job('x')")
        with pytest.raises(asyncpg.LockNotAvailableError, match="the table of jobs is busy"):
            await set_limit(jobs.connection, "sync", concurrency=1)


async def test_limits_refuse_snapshots_that_cannot_see_what_runs(jobs: Jobs) -> None:
    await set_limit(jobs.connection, "sync", concurrency=1)
    await jobs.add("sync")
    with pytest.raises(asyncpg.FeatureNotSupportedError, match="use read committed"):
        async with jobs.connection.transaction(isolation="repeatable_read"):
            await claim(jobs.connection, 1)


async def test_a_hold_that_is_not_committed_when_the_slot_ends_is_released(jobs: Jobs, connect: Connect) -> None:
    await set_limit(jobs.connection, "sync", task_identifier="sync", concurrency=1)
    running = await jobs.add("sync")
    await claim(jobs.connection, 10)
    other = await connect()
    async with other.transaction():
        waiting = await other.fetchval("select (app_jobs.add_job('sync')).id")  # the key is full: held
        await jobs.complete(running)
        assert await claim(jobs.connection, 10) == []
    assert await claim(jobs.connection, 10) == [waiting]


async def test_settlements_do_not_wait_for_claims(jobs: Jobs, connect: Connect) -> None:
    await set_limit(jobs.connection, "sync", task_identifier="sync", concurrency=2)
    added = [await jobs.add("sync") for _ in range(4)]
    assert await claim(jobs.connection, 1) == added[:1]
    one, two = await connect(), await connect(statement_timeout="3s")
    async with one.transaction():
        assert await claim(one, 10) == added[1:2]
        await two.execute("select app_jobs.complete_job($1, $2)", WORKER, added[0])
        await two.execute("select app_jobs.add_job('sync')")
    assert await claim(jobs.connection, 10) == added[2:3]


async def test_no_limit_is_exceeded_and_no_job_is_left_by_many_sessions(jobs: Jobs, connect: Connect) -> None:
    connection = jobs.connection
    await set_limit(connection, "a-each", per="payload.customer", concurrency=2)
    await set_limit(connection, "b-task", task_identifier="x", concurrency=3)
    await connection.execute(
        """
        select app_jobs.add_job(
            case when n % 2 = 0 then 'x' else 'y' end, json_build_object('customer', n % 5), priority := n % 3
        )
        from generate_series(1, 200) n
        """
    )

    async def work(number: int) -> None:
        session = await connect(deadlock_timeout="50ms")
        worker = f"worker-{number}"
        while True:
            ids = await claim(session, 1 + number, worker=worker)
            if not ids and not await session.fetchval("select count(*) from app_jobs.jobs"):
                return
            await asyncio.sleep(0)
            await settle_jobs(session, *((worker, job, None, None) for job in ids))

    async def watch() -> None:
        session = await connect()
        while await session.fetchval("select count(*) from app_jobs.jobs"):
            await assert_consistent(session)

    async with asyncio.timeout(60):
        await asyncio.gather(*(work(number) for number in range(5)), watch())
    await assert_consistent(connection)
    assert await connection.fetchval("select count(*) from app_jobs.limit_slots") == 0
