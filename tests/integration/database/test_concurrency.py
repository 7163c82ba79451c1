"""Many sessions at the same time: each job is claimed once, each queue runs one job, and no session blocks another."""

import asyncio
import random
from collections import Counter

import asyncpg

from support.fixtures import Connect
from support.jobs import Jobs, settle_jobs

#: Statement timeout: long enough for a claim or settlement, too short to wait for another session's transaction.
SHORT_TIMEOUT = "3s"
CLAIM = "select id, queue_name from app_jobs.claim_jobs($1, null, '4 hours', $2)"


async def test_sessions_claim_each_job_once(jobs: Jobs, connect: Connect) -> None:
    await jobs.connection.execute(
        """
        insert into app_jobs.jobs (task_identifier, priority, queue_name)
        select 'x', n % 3, case when n % 4 = 0 then 'q' || n end from generate_series(1, 600) n
        """
    )
    claims: Counter[int] = Counter()

    async def claim_all(number: int) -> None:
        connection = await connect()
        while claims.total() < 600:
            rows = await connection.fetch(CLAIM, f"worker-{number}", 1 + 3 * number)
            claims.update(row["id"] for row in rows)
            await asyncio.sleep(0)

    async with asyncio.timeout(60):
        await asyncio.gather(*(claim_all(number) for number in range(8)))
    assert set(claims.values()) == {1}
    rows = await jobs.connection.fetch("select locked_by, attempts from app_jobs.jobs")
    assert {row["attempts"] for row in rows} == {1}
    assert len({row["locked_by"] for row in rows}) > 1


async def test_sessions_run_one_job_of_a_queue_at_a_time_in_order(jobs: Jobs, connect: Connect) -> None:
    added = [await jobs.add("x", queue_name=f"q{number % 3}") for number in range(120)]
    running: Counter[str] = Counter()
    order: dict[str, list[int]] = {}

    async def work(number: int) -> None:
        connection = await connect()
        while sum(map(len, order.values())) < len(added):
            rows = await connection.fetch(CLAIM, f"worker-{number}", 2)
            for row in rows:
                running[row["queue_name"]] += 1
                assert running[row["queue_name"]] == 1
                order.setdefault(row["queue_name"], []).append(row["id"])
            await asyncio.sleep(0)
            for row in rows:
                running[row["queue_name"]] -= 1
                await connection.execute("select app_jobs.complete_job($1, $2)", f"worker-{number}", row["id"])

    async with asyncio.timeout(60):
        await asyncio.gather(*(work(number) for number in range(6)))
    assert order == {f"q{number}": added[number::3] for number in range(3)}


async def test_uncommitted_claim_locks_its_queue(jobs: Jobs, connect: Connect) -> None:
    get_job = "select (app_jobs.get_job($1)).id"
    first = await jobs.add("x", queue_name="q")
    one, two = await connect(), await connect(statement_timeout=SHORT_TIMEOUT)
    async with one.transaction():
        assert await one.fetchval(get_job, "worker-1") == first
        await jobs.add("x", queue_name="q", priority=-1)
        without_queue = await jobs.add("x")
        assert await two.fetchval(get_job, "worker-2") == without_queue
        assert await two.fetchval(get_job, "worker-2") is None
    assert await two.fetchval(get_job, "worker-2") is None


async def test_one_job_waits_for_a_key_that_many_sessions_add(jobs: Jobs, connect: Connect) -> None:
    all_added = asyncio.Event()

    async def add(number: int) -> None:
        connection = await connect()
        for version in range(20):
            await connection.execute(
                "select app_jobs.add_job('x', json_build_object('by', $1::int, 'v', $2::int), 'k')", number, version
            )

    async def work() -> None:
        connection = await connect()
        while not all_added.is_set():
            job = await connection.fetchval("select (app_jobs.get_job('worker')).id")
            waiting = await connection.fetchval(
                "select count(*) from app_jobs.jobs where key = 'k' or locked_by is null"
            )
            assert waiting <= 1
            await connection.execute("select app_jobs.complete_job('worker', $1)", job)

    async with asyncio.timeout(60):
        working = asyncio.create_task(work())
        await asyncio.gather(*(add(number) for number in range(10)))
        all_added.set()
        await working
    await jobs.add("x", {"last": True}, job_key="k")
    rows = await jobs.connection.fetch("select payload from app_jobs.jobs where locked_by is null")
    assert [row["payload"] for row in rows] == ['{"last": true}']


async def test_uncommitted_jobs_of_a_queue_block_no_other_session(jobs: Jobs, connect: Connect) -> None:
    first = await jobs.add("x", queue_name="q")
    one, two = await connect(), await connect(statement_timeout=SHORT_TIMEOUT)
    count_queued = "select sum(job_count) from app_jobs.job_queues"
    async with one.transaction():
        for queue in ("q", "new"):
            await one.execute("select app_jobs.add_job('x', queue_name := $1)", queue)
        assert await two.fetchval("select (app_jobs.get_job('worker')).id") == first
        for queue in ("q", "new"):
            await two.execute("select app_jobs.add_job('x', queue_name := $1)", queue)
        await two.execute("select app_jobs.complete_job('worker', $1)", first)
        counts = await two.fetch("select queue_name, job_count from app_jobs.job_queues order by 1")
        assert [tuple(row) for row in counts] == [("new", 1), ("q", 1)]
        assert await two.fetchval("select (app_jobs.get_job('worker')).id") is not None
        assert await one.fetchval(count_queued) == 4
    assert await jobs.connection.fetchval(count_queued) == 4


async def test_transactions_can_add_to_the_same_queues_in_opposite_orders(connect: Connect) -> None:
    one, two = await connect(statement_timeout=SHORT_TIMEOUT), await connect(statement_timeout=SHORT_TIMEOUT)
    add = "select app_jobs.add_job('x', queue_name := $1)"
    for _ in range(2):  # first to new queues, then to existing ones
        async with one.transaction(), two.transaction():
            await one.execute(add, "a")
            await two.execute(add, "b")
            await one.execute(add, "b")
            await two.execute(add, "a")
    counts = await one.fetch("select queue_name, job_count from app_jobs.job_queues order by 1")
    assert [tuple(row) for row in counts] == [("a", 4), ("b", 4)]


async def test_batches_with_the_same_jobs_in_opposite_orders_do_not_deadlock(jobs: Jobs, connect: Connect) -> None:
    one, two, three = [await connect(deadlock_timeout="50ms") for _ in range(3)]
    for _ in range(25):
        await jobs.connection.execute("truncate app_jobs.jobs")
        await jobs.connection.execute(
            """
            insert into app_jobs.jobs (task_identifier, queue_name)
            select 'x', case when n % 2 = 0 then 'q' || n end from generate_series(1, 200) n
            """
        )
        rows = await jobs.connection.fetch(CLAIM, "worker", 1000)
        settlements = [("worker", row["id"], None, None if row["id"] % 3 else "boom") for row in rows]
        await asyncio.gather(
            settle_jobs(one, *settlements),
            settle_jobs(two, *settlements[::-1]),
            three.execute("select app_jobs.release_jobs('worker')"),
        )
        locked = "select count(*) from app_jobs.job_queues where locked_by is not null"
        assert await jobs.connection.fetchval(locked) == 0


async def test_random_operations_of_many_sessions_leave_correct_counts_and_no_locks(
    connect: Connect, jobs: Jobs
) -> None:
    async def operate(connection: asyncpg.Connection, seed: int) -> None:
        rng = random.Random(seed)  # noqa: S311  - reproducible
        worker = f"worker-{seed}"
        for _ in range(60):
            match rng.randrange(6):
                case 0 | 1:
                    async with connection.transaction():
                        for _ in range(rng.randrange(1, 4)):
                            await connection.execute(
                                "select app_jobs.add_job('x', queue_name := $1)", rng.choice(["a", "b", "c", None])
                            )
                        await connection.execute(
                            "select app_jobs.add_job('x', job_key := $1, queue_name := $2)",
                            rng.choice(["k1", "k2"]),
                            rng.choice(["a", "b", "c", None]),
                        )
                case 2 | 3:
                    rows = await connection.fetch(CLAIM, worker, rng.randrange(1, 6))
                    rng.shuffle(rows)
                    await settle_jobs(
                        connection, *((worker, row["id"], None, rng.choice([None, "boom"])) for row in rows)
                    )
                case 4:
                    await connection.execute("select app_jobs.get_job($1)", worker)
                    await connection.execute("select app_jobs.release_jobs($1)", worker)
                case _:
                    function = rng.choice(["complete_jobs", "permanently_fail_jobs", "reschedule_jobs"])
                    await connection.execute(
                        f"select app_jobs.{function}(array(select id from app_jobs.jobs order by random() limit 5))"
                    )

    connections = [await connect(deadlock_timeout="50ms") for _ in range(6)]
    async with asyncio.timeout(60):
        await asyncio.gather(*(operate(connection, seed) for seed, connection in enumerate(connections)))
    assert await jobs.connection.fetchval("select count(*) from app_jobs.jobs where locked_by is not null") == 0
    wrong = await jobs.connection.fetch(
        """
        select * from app_jobs.job_queues q
        where locked_by is not null
            or job_count <> (select count(*) from app_jobs.jobs j where j.queue_name = q.queue_name)
        """
    )
    assert wrong == []
    assert await jobs.connection.fetchval("select count(*) from app_jobs.queue_locks") == 0


async def test_schedule_that_many_sessions_run_enqueues_one_job(jobs: Jobs, connect: Connect) -> None:
    schedule = await jobs.connection.fetchval("select (app_jobs.add_scheduled_job('x', '0 9 * * *')).id")
    connections = [await connect() for _ in range(5)]
    results = await asyncio.gather(
        *(connection.execute("select app_jobs.run_scheduled_job($1)", schedule) for connection in connections),
        return_exceptions=True,
    )
    errors = [result for result in results if isinstance(result, BaseException)]
    assert [error.args[0] for error in errors] == ["ALREADY_SCHEDULED"] * 4
    assert await jobs.count() == 1
