"""Which jobs ``get_job`` and ``claim_jobs`` lock, and in which order."""

import asyncpg
import pytest

from support.fixtures import Connect
from support.jobs import WORKER, Jobs

EXPIRE_LOCKS = """
    update app_jobs.jobs set locked_at = now() - interval '5 hours' where locked_at is not null;
    update app_jobs.job_queues set locked_at = now() - interval '5 hours' where locked_at is not null;
"""


async def claim_batch(connection: asyncpg.Connection, limit: int, *, worker: str = WORKER) -> list[int]:
    """Call ``claim_jobs``, and return the ids in the order of its rows."""
    rows = await connection.fetch("select id from app_jobs.claim_jobs($1, null, '4 hours', $2)", worker, limit)
    return [row["id"] for row in rows]


async def claim_one_by_one(jobs: Jobs) -> list[int]:
    """Call ``get_job`` until no job is ready."""
    claimed = []
    while (job := await jobs.claim_id()) is not None:
        claimed.append(job)
    return claimed


async def test_claim_locks_the_job_and_its_queue(jobs: Jobs) -> None:
    job = await jobs.add("x", {"id": 1}, queue_name="q")
    before = await jobs.row(job)
    async with jobs.connection.transaction():
        claimed = await jobs.claim()
        now = await jobs.connection.fetchval("select now()")
    assert claimed is not None
    expected = dict(before) | {"attempts": 1, "locked_by": WORKER, "locked_at": now, "updated_at": now}
    assert dict(await jobs.row(job)) == expected
    assert tuple(claimed) == tuple(expected.values())[: len(claimed)]
    assert await jobs.queue("q") == (1, WORKER)
    assert await jobs.connection.fetchval("select locked_at from app_jobs.job_queues") == now


async def test_get_job_returns_a_row_of_nulls_without_ready_jobs(connection: asyncpg.Connection) -> None:
    (row,) = await connection.fetch("select * from app_jobs.get_job('worker')")
    assert set(row.values()) == {None}
    assert await connection.fetchval("select (app_jobs.get_job('worker')).id") is None


@pytest.mark.parametrize("queue", [None, "q"])
@pytest.mark.parametrize(
    ("assignments", "ready"),
    [
        ("run_at = now()", True),
        ("run_at = now() - interval '1 year'", True),
        ("run_at = now() + interval '1 minute'", False),
        ("attempts = 24", True),
        ("attempts = 25", False),
        ("attempts = 26", False),
        ("attempts = 25, max_attempts = 26", True),
        ("locked_at = now(), locked_by = 'another'", False),
        ("locked_at = now() - interval '3 hours 59 minutes', locked_by = 'another'", False),
        ("locked_at = now() - interval '4 hours 1 minute', locked_by = 'another'", True),
        ("locked_at = now() - interval '1 year', locked_by = 'another', attempts = 25", False),
        ("priority = 2147483647", True),
        ("priority = -2147483648", True),
    ],
)
async def test_due_unlocked_job_with_attempts_left_is_ready(
    jobs: Jobs, queue: str | None, assignments: str, *, ready: bool
) -> None:
    job = await jobs.add("x", queue_name=queue)
    await jobs.update(assignments)
    assert await claim_one_by_one(jobs) == ([job] if ready else [])


@pytest.mark.parametrize(("expiry", "expired"), [("59 seconds", True), ("61 seconds", False)])
async def test_locks_expire_after_job_expiry(jobs: Jobs, expiry: str, *, expired: bool) -> None:
    await jobs.add("x", queue_name="q")
    await jobs.claim()
    await jobs.update("locked_at = now() - interval '1 minute'")
    await jobs.connection.execute("update app_jobs.job_queues set locked_at = now() - interval '1 minute'")
    claimed = await jobs.connection.fetchrow(
        "select * from app_jobs.get_job(worker_id := 'another', job_expiry := $1::text::interval)", expiry
    )
    assert (claimed["locked_by"], claimed["attempts"]) == (("another", 2) if expired else (None, None))


async def test_expired_job_belongs_to_its_new_worker(jobs: Jobs) -> None:
    job = await jobs.add("x", queue_name="q")
    await jobs.claim("slow")
    await jobs.connection.execute(EXPIRE_LOCKS)
    assert await jobs.claim_id("quick") == job
    assert await jobs.values(job, "attempts", "locked_by") == (2, "quick")
    assert await jobs.complete(job, worker="slow") is None
    await jobs.release("slow")
    assert await jobs.queue("q") == (1, "quick")
    assert await jobs.complete(job, worker="quick") == job
    assert await jobs.queue("q") is None


async def test_late_completion_of_expired_job_leaves_the_queue_to_its_next_job(jobs: Jobs) -> None:
    slow = await jobs.add("x", queue_name="q")
    await jobs.claim()
    await jobs.connection.execute("update app_jobs.job_queues set locked_at = now() - interval '5 hours'")
    second, third = await jobs.add("x", queue_name="q"), await jobs.add("x", queue_name="q")
    assert await jobs.claim_id() == second
    await jobs.complete(slow)
    assert await jobs.claim_id() is None
    await jobs.complete(second)
    assert await jobs.claim_id() == third


@pytest.mark.parametrize("worker", [None, "", "abc"])
async def test_claim_requires_a_worker_id_of_four_characters(jobs: Jobs, worker: str | None) -> None:
    job = await jobs.add("x")
    with pytest.raises(asyncpg.RaiseError, match="INVALID_WORKER_ID"):
        await jobs.connection.execute("select app_jobs.get_job($1)", worker)
    assert await jobs.values(job, "attempts") == (0,)


#: Priority, minutes since the job became due, and queue, in the order of claims.
ORDERED: list[tuple[int, int, str | None]] = [
    (-1, 0, None),
    (0, 60, None),
    (0, 30, "a"),
    (0, 10, None),
    (0, 10, None),
    (0, 10, "b"),
    (1, 90, "c"),
    (1, 5, None),
]


async def add_ordered(jobs: Jobs) -> list[int]:
    """Add jobs so that the id decides only between jobs with equal priority and due time. Return them in order."""
    ids: dict[int, int] = {}
    for number in (7, 6, 2, 1, 0, 3, 4, 5):
        ids[number] = await jobs.connection.fetchval(
            """
            insert into app_jobs.jobs (task_identifier, priority, run_at, queue_name)
            values ('x', $1, date_trunc('hour', now()) - $2 * interval '1 minute', $3)
            returning id
            """,
            *ORDERED[number],
        )
    return [ids[number] for number in sorted(ids)]


async def test_jobs_are_claimed_by_priority_then_due_time_then_id(jobs: Jobs) -> None:
    expected = await add_ordered(jobs)
    assert await claim_one_by_one(jobs) == expected


@pytest.mark.parametrize("limit", range(1, 10))
async def test_batch_claims_the_same_jobs_as_single_claims(jobs: Jobs, limit: int) -> None:
    expected = await add_ordered(jobs)
    assert await claim_batch(jobs.connection, limit) == expected[:limit]
    assert await claim_batch(jobs.connection, 100, worker="another") == expected[limit:]


async def test_order_is_the_same_with_fifty_priorities(jobs: Jobs) -> None:
    await jobs.connection.execute(
        """
        insert into app_jobs.jobs (task_identifier, priority, run_at)
        select 'x', n % 50, now() + case when n % 50 % 7 = 3 then interval '1 day' else -n * interval '1 second' end
        from generate_series(1, 200) n
        """
    )
    rows = await jobs.connection.fetch(
        "select id from app_jobs.jobs where run_at <= now() order by priority, run_at, id"
    )
    expected = [row["id"] for row in rows]
    assert await claim_batch(jobs.connection, 90) == expected[:90]
    assert await claim_batch(jobs.connection, 1000) == expected[90:]


@pytest.mark.parametrize("limit", [1, 2, 10])
async def test_long_queues_do_not_hide_short_ones(jobs: Jobs, limit: int) -> None:
    await jobs.connection.execute(
        """
        insert into app_jobs.jobs (task_identifier, queue_name, priority)
        select 'x', 'long-' || n % 2, -1 from generate_series(1, 400) n
        """
    )
    locked = await jobs.claim("another")
    assert locked is not None
    for name in ("b", "c"):  # queues whose job with the highest priority is not due
        await jobs.connection.execute(
            "select app_jobs.add_job('x', queue_name := $1, run_at := now() + interval '1 hour', priority := -9)", name
        )
    without_queue = await jobs.add("x", priority=-2)
    short = [await jobs.add("x", queue_name=name) for name in ("z", "c", "m")]
    head = await jobs.connection.fetchval(
        "select min(id) from app_jobs.jobs where queue_name like 'long-%' and queue_name <> $1", locked["queue_name"]
    )
    claimed: list[int] = []
    while batch := await claim_batch(jobs.connection, limit):
        claimed += batch
    assert claimed == [without_queue, head, *short]


async def test_queue_waits_while_its_head_is_replaced(jobs: Jobs, connect: Connect) -> None:
    head = await jobs.add("x", queue_name="q", job_key="k")
    await jobs.add("x", queue_name="q")
    without_queue = await jobs.add("x")
    other, claimer = await connect(), await connect(statement_timeout="3s")
    async with other.transaction():
        await other.execute("select app_jobs.add_job('x', '{\"v\": 2}', 'k', 'q', run_at := now() - interval '1 hour')")
        assert await claim_batch(claimer, 10) == [without_queue]
    assert await claim_batch(claimer, 10) == [head]


async def test_claim_skips_rows_that_another_session_has_locked(jobs: Jobs, connect: Connect) -> None:
    free, locked, queued = await jobs.add("x"), await jobs.add("x"), await jobs.add("x", queue_name="q")
    other, claimer = await connect(), await connect(statement_timeout="3s")
    async with other.transaction():
        await other.execute("select from app_jobs.jobs where id = any ($1) for update", [locked, queued])
        assert await claim_batch(claimer, 10) == [free]
    assert await claim_batch(claimer, 10) == [locked, queued]
