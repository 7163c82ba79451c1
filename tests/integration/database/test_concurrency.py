"""Many sessions at once: no job twice, no queue with two, no one waiting for somebody's open transaction."""

import asyncio
import random
from collections import Counter
from datetime import timedelta
from typing import Any

import asyncpg

from support.fixtures import Connect
from support.jobs import Jobs, settle

EXPIRY = timedelta(hours=4)
#: Long enough for any claim or settlement, far too short for waiting until another's transaction ends.
IMPATIENT = "3s"


async def test_many_claimers_share_the_jobs(jobs: Jobs, connect: Connect) -> None:
    """Eight sessions claim in batches of different sizes until nothing is left: every job comes once."""
    await jobs.connection.execute(
        """
        insert into app_jobs.jobs (task_identifier, priority, queue_name)
        select 'x', n % 3, case when n % 4 = 0 then 'q' || n end from generate_series(1, 600) n
        """
    )
    claimed: Counter[int] = Counter()

    async def work(number: int) -> None:
        connection = await connect()
        while claimed.total() < 600:
            rows = await connection.fetch(
                "select id from app_jobs.claim_jobs($1, null, $2, $3)", f"worker-{number}", EXPIRY, 1 + 3 * number
            )
            claimed.update(row["id"] for row in rows)
            await asyncio.sleep(0)

    async with asyncio.timeout(60):
        await asyncio.gather(*(work(number) for number in range(8)))
    assert set(claimed.values()) == {1}
    held = await jobs.connection.fetch("select locked_by, attempts from app_jobs.jobs")
    assert {row["attempts"] for row in held} == {1}
    assert len({row["locked_by"] for row in held}) > 1, "more than one of them got something"


async def test_a_queue_is_strictly_one_at_a_time(jobs: Jobs, connect: Connect) -> None:
    """Six sessions claim and end jobs of three queues: never two of a queue at once, and each queue in its order."""
    added = [await jobs.add("x", queue_name=f"q{number % 3}") for number in range(120)]
    running: Counter[str] = Counter()
    order: dict[str, list[int]] = {}

    async def work(number: int) -> None:
        connection = await connect()
        while sum(map(len, order.values())) < len(added):
            rows = await connection.fetch(
                "select id, queue_name from app_jobs.claim_jobs($1, null, $2, 2)", f"worker-{number}", EXPIRY
            )
            for row in rows:
                running[row["queue_name"]] += 1
                assert running[row["queue_name"]] == 1
                order.setdefault(row["queue_name"], []).append(row["id"])
            await asyncio.sleep(random.random() / 500)  # noqa: S311  - work takes some time
            for row in rows:
                running[row["queue_name"]] -= 1
                await connection.execute("select app_jobs.complete_job($1, $2)", f"worker-{number}", row["id"])

    async with asyncio.timeout(60):
        await asyncio.gather(*(work(number) for number in range(6)))
    assert order == {f"q{number}": added[number::3] for number in range(3)}


async def test_a_claim_that_is_not_committed_holds_its_queue(jobs: Jobs, connect: Connect) -> None:
    """A more urgent job arrives before the claim commits: nobody takes that beside it, and nobody waits to see."""
    first = await jobs.add("x", queue_name="q")
    one, two = await connect(), await connect(statement_timeout=IMPATIENT)
    async with one.transaction():
        assert await one.fetchval("select (app_jobs.get_job('worker-1')).id") == first
        await jobs.add("x", queue_name="q", priority=-1)
        free = await jobs.add("x")
        assert await two.fetchval("select (app_jobs.get_job('worker-2')).id") == free
        assert await two.fetchval("select (app_jobs.get_job('worker-2')).id") is None
    assert await two.fetchval("select (app_jobs.get_job('worker-2')).id") is None


async def test_adding_one_key_at_once_leaves_one_waiting_job(jobs: Jobs, connect: Connect) -> None:
    """Ten sessions add the same key while another runs it: at any time at most one job waits, and none has died."""
    adding = True

    async def add(number: int) -> None:
        connection = await connect()
        for version in range(20):
            await connection.execute(
                "select app_jobs.add_job('x', json_build_object('by', $1::int, 'v', $2::int), 'k')", number, version
            )

    async def work() -> None:
        connection = await connect()
        while adding:
            row = await connection.fetchrow("select id from app_jobs.get_job('worker')")
            assert row is not None
            waiting = await connection.fetchval(
                "select count(*) from app_jobs.jobs where key = 'k' or locked_by is null"
            )
            assert waiting <= 1
            if row["id"] is not None:
                await connection.execute("select app_jobs.complete_job('worker', $1)", row["id"])

    async with asyncio.timeout(60):
        working = asyncio.create_task(work())
        await asyncio.gather(*(add(number) for number in range(10)))
        adding = False
        await working
    await jobs.add("x", {"last": True}, job_key="k")
    rows = await jobs.connection.fetch("select payload from app_jobs.jobs where locked_by is null")
    assert [row["payload"] for row in rows] == ['{"last": true}']


async def test_an_open_transaction_holds_up_nobody(jobs: Jobs, connect: Connect) -> None:
    """While one session has enqueued and not committed, all others add, claim and end jobs of the same queue."""
    first = await jobs.add("x", queue_name="q")
    other, impatient = await connect(), await connect(statement_timeout=IMPATIENT)
    async with other.transaction():
        await other.execute("select app_jobs.add_job('x', queue_name := 'q')")
        await other.execute("select app_jobs.add_job('x', queue_name := 'new')")
        claimed = await impatient.fetchrow("select * from app_jobs.get_job('worker')")
        assert claimed is not None
        assert claimed["id"] == first
        for queue in ("q", "new"):
            await impatient.execute("select app_jobs.add_job('x', queue_name := $1)", queue)
        await impatient.execute("select app_jobs.complete_job('worker', $1)", first)
        counts = await impatient.fetch("select queue_name, job_count from app_jobs.job_queues order by 1")
        assert [tuple(row) for row in counts] == [("new", 1), ("q", 1)]
        assert await impatient.fetchval("select (app_jobs.get_job('worker')).id") is not None
        assert await other.fetchval("select sum(job_count) from app_jobs.job_queues") == 4
    assert await jobs.connection.fetchval("select sum(job_count) from app_jobs.job_queues") == 4


async def test_transactions_add_to_queues_in_any_order(connect: Connect) -> None:
    """Two transactions that enqueue to the same two queues the other way round both commit."""
    one, two = await connect(statement_timeout=IMPATIENT), await connect(statement_timeout=IMPATIENT)
    add = "select app_jobs.add_job('x', queue_name := $1)"
    for _ in range(2):  # into queues that are new, and into queues that are not
        async with one.transaction(), two.transaction():
            await one.execute(add, "a")
            await two.execute(add, "b")
            await one.execute(add, "b")
            await two.execute(add, "a")
    counts = await one.fetch("select queue_name, job_count from app_jobs.job_queues order by 1")
    assert [tuple(row) for row in counts] == [("a", 4), ("b", 4)]


async def test_batches_with_jobs_in_common_do_not_lock_each_other_out(jobs: Jobs, connect: Connect) -> None:
    """Two callback servers settle the same jobs, in opposite orders, while the worker gives up: no deadlock."""
    one, two, three = [await connect(deadlock_timeout="50ms") for _ in range(3)]
    for _ in range(25):
        await jobs.connection.execute("truncate app_jobs.jobs")
        await jobs.connection.execute(
            """
            insert into app_jobs.jobs (task_identifier, queue_name)
            select 'x', case when n % 2 = 0 then 'q' || n end from generate_series(1, 200) n
            """
        )
        rows = await jobs.connection.fetch("select id from app_jobs.claim_jobs('worker', null, '4 hours', 1000)")
        ids = [row["id"] for row in rows]
        ends = [("worker", job, None, None if job % 3 else "boom") for job in ids]
        await asyncio.gather(
            settle(one, *ends),
            settle(two, *ends[::-1]),
            three.execute("select app_jobs.release_jobs('worker')"),
        )
        held = await jobs.connection.fetchval("select count(*) from app_jobs.job_queues where locked_by is not null")
        assert held == 0


async def test_everything_at_once_ends_well(connect: Connect, jobs: Jobs) -> None:
    """Adds with and without keys and queues, claims, both ends, releases and hands: no error, and true counts."""

    async def storm(connection: "asyncpg.Connection[Any]", number: int) -> None:
        dice = random.Random(number)  # noqa: S311  - the same storm each time
        worker = f"worker-{number}"
        for _ in range(60):
            match dice.randrange(6):
                case 0 | 1:
                    async with connection.transaction():
                        for _ in range(dice.randrange(1, 4)):
                            await connection.execute(
                                "select app_jobs.add_job('x', queue_name := $1)", dice.choice(["a", "b", "c", None])
                            )
                        await connection.execute(
                            "select app_jobs.add_job('x', job_key := $1, queue_name := $2)",
                            dice.choice(["k1", "k2"]),
                            dice.choice(["a", "b", "c", None]),
                        )
                case 2 | 3:
                    rows = await connection.fetch(
                        "select id from app_jobs.claim_jobs($1, null, '4 hours', $2)", worker, dice.randrange(1, 6)
                    )
                    ids = [row["id"] for row in rows]
                    dice.shuffle(ids)
                    await settle(connection, *((worker, job, None, dice.choice([None, "boom"])) for job in ids))
                case 4:
                    await connection.execute("select app_jobs.get_job($1)", worker)
                    await connection.execute("select app_jobs.release_jobs($1)", worker)
                case _:
                    call = dice.choice(["complete_jobs", "permanently_fail_jobs", "reschedule_jobs"])
                    await connection.execute(
                        f"select app_jobs.{call}(array(select id from app_jobs.jobs order by random() limit 5))"
                    )

    connections = [await connect(deadlock_timeout="50ms") for _ in range(6)]
    async with asyncio.timeout(60):
        await asyncio.gather(*(storm(connection, number) for number, connection in enumerate(connections)))
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


async def test_a_schedule_runs_once_for_many_schedulers(jobs: Jobs, connect: Connect) -> None:
    """Five sessions run the same schedule at the same moment: one makes the job, the others hear ALREADY_SCHEDULED."""
    schedule = await jobs.connection.fetchval("select (app_jobs.add_scheduled_job('x', '0 9 * * *')).id")
    connections = [await connect() for _ in range(5)]
    outcomes = await asyncio.gather(
        *(connection.execute("select app_jobs.run_scheduled_job($1)", schedule) for connection in connections),
        return_exceptions=True,
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert [isinstance(error, asyncpg.RaiseError) and error.message for error in refused] == ["ALREADY_SCHEDULED"] * 4
    assert await jobs.count() == 1
