"""get_job and claim_jobs: which job comes next, and which does not."""

from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from support.fixtures import Connect
from support.jobs import WORKER, Jobs

FOUR_HOURS = timedelta(hours=4)


async def claim_many(
    connection: "asyncpg.Connection[Any]", limit: int, *, worker: str = WORKER, tasks: list[str] | None = None
) -> list[int]:
    """The ids of a batch, in the order in which it came."""
    rows = await connection.fetch(
        "select id from app_jobs.claim_jobs($1, $2, $3, $4)", worker, tasks, FOUR_HOURS, limit
    )
    return [row["id"] for row in rows]


async def test_a_claim_locks_the_job_and_counts_the_attempt(jobs: Jobs) -> None:
    """attempts + 1, locked_by and locked_at on job and queue; the rest is as it was."""
    job = await jobs.add("x", {"id": 1}, queue_name="q")
    before = await jobs.row(job)
    async with jobs.connection.transaction():
        claimed = await jobs.claim()
        moment = await jobs.connection.fetchval("select now()")
    queue = await jobs.queue("q")
    assert before is not None
    assert claimed is not None
    assert queue is not None
    changes = {"attempts": 1, "locked_by": WORKER, "locked_at": moment, "updated_at": moment}
    assert dict(claimed) == dict(before) | changes == dict(await jobs.row(job) or {})
    assert dict(queue) == {"queue_name": "q", "job_count": 1, "locked_by": WORKER, "locked_at": moment}


async def test_without_a_job_the_row_is_all_null(connection: "asyncpg.Connection[Any]") -> None:
    """get_job always returns one row; with nothing ready each of its columns is NULL."""
    rows = await connection.fetch("select * from app_jobs.get_job('worker')")
    assert len(rows) == 1
    assert set(rows[0].values()) == {None}
    assert await connection.fetchval("select (app_jobs.get_job('worker')).id") is None


@pytest.mark.parametrize("queue", [None, "q"])
@pytest.mark.parametrize(
    ("change", "ready"),
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
async def test_which_job_is_ready(jobs: Jobs, queue: str | None, change: str, ready: bool) -> None:  # noqa: FBT001
    """Its time has come, it has attempts left, and nobody holds it, or somebody who has been gone for four hours."""
    await jobs.add("x", queue_name=queue)
    await jobs.connection.execute(f"update app_jobs.jobs set {change}")
    assert (await jobs.claim() is not None) == ready
    assert await jobs.claim() is None


@pytest.mark.parametrize(("expiry", "ready"), [("59 seconds", True), ("61 seconds", False)])
async def test_how_long_a_lock_counts_is_the_callers_choice(jobs: Jobs, expiry: str, ready: bool) -> None:  # noqa: FBT001
    """job_expiry decides for the job and for its queue."""
    await jobs.add("x", queue_name="q")
    await jobs.claim()
    await jobs.connection.execute("update app_jobs.jobs set locked_at = now() - interval '1 minute'")
    await jobs.connection.execute("update app_jobs.job_queues set locked_at = now() - interval '1 minute'")
    row = await jobs.connection.fetchrow(
        "select * from app_jobs.get_job(worker_id := 'another', job_expiry := $1::text::interval)", expiry
    )
    assert row is not None
    assert (row["locked_by"] == "another", row["attempts"] == 2) == (ready, ready)


async def test_a_taken_over_job_belongs_to_its_new_worker(jobs: Jobs) -> None:
    """The worker that was thought gone can no longer end it; the other can, and the queue is free then."""
    job = await jobs.add("x", queue_name="q")
    await jobs.claim("slow")
    await jobs.connection.execute("update app_jobs.jobs set locked_at = now() - interval '5 hours'")
    await jobs.connection.execute("update app_jobs.job_queues set locked_at = now() - interval '5 hours'")
    taken = await jobs.claim("quick")
    assert taken is not None
    assert (taken["id"], taken["attempts"], taken["locked_by"]) == (job, 2, "quick")
    queue = await jobs.queue("q")
    assert queue is not None
    assert queue["locked_by"] == "quick"
    assert await jobs.connection.fetchval("select (app_jobs.complete_job('slow', $1)).id", job) is None
    await jobs.connection.execute("select app_jobs.release_jobs('slow')")
    assert dict(await jobs.queue("q") or {}) == dict(queue)
    assert await jobs.connection.fetchval("select (app_jobs.complete_job('quick', $1)).id", job) == job
    assert await jobs.queue("q") is None


async def test_the_late_end_of_an_expired_job_frees_nobody_elses_queue(jobs: Jobs) -> None:
    """One worker, two jobs of a queue because the first took too long: the first's end keeps the second's hold."""
    slow = await jobs.add("x", queue_name="q")
    await jobs.claim()
    await jobs.connection.execute("update app_jobs.job_queues set locked_at = now() - interval '5 hours'")
    second, third = await jobs.add("x", queue_name="q"), await jobs.add("x", queue_name="q")
    claimed = await jobs.claim()
    assert claimed is not None
    assert claimed["id"] == second
    await jobs.connection.execute("select app_jobs.complete_job($1, $2)", WORKER, slow)
    assert await jobs.claim() is None
    await jobs.connection.execute("select app_jobs.complete_job($1, $2)", WORKER, second)
    claimed = await jobs.claim()
    assert claimed is not None
    assert claimed["id"] == third


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        (None, ["a", "b", "c"]),
        (["b"], ["b"]),
        (["c", "a", "unknown"], ["a", "c"]),
        (["unknown"], []),
        ([], []),
    ],
)
@pytest.mark.parametrize("queue", [None, "q-"])
async def test_a_worker_takes_the_tasks_that_it_names(
    jobs: Jobs, queue: str | None, tasks: list[str] | None, expected: list[str]
) -> None:
    """NULL takes any task; a list only its own; an empty list none."""
    for task in ("a", "b", "c"):
        await jobs.add(task, queue_name=queue and queue + task)
    found = []
    while (row := await jobs.claim(tasks=tasks)) is not None:
        found.append(row["task_identifier"])
    assert found == expected


@pytest.mark.parametrize("worker", [None, "", "abc"])
async def test_a_worker_without_a_proper_name_gets_nothing(jobs: Jobs, worker: str | None) -> None:
    """The database wants four characters or more, and says so."""
    job = await jobs.add("x")
    with pytest.raises(asyncpg.RaiseError, match="INVALID_WORKER_ID"):
        await jobs.connection.execute("select app_jobs.get_job($1)", worker)
    row = await jobs.row(job)
    assert row is not None
    assert row["attempts"] == 0


#: Priority, minutes ago, queue: in the order of work.
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
    """Jobs in their order of work; added so that ids only decide where nothing else does."""
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


async def test_the_order_is_priority_then_time_then_id(jobs: Jobs) -> None:
    """One by one, with and without queues among them."""
    expected = await add_ordered(jobs)
    found = []
    while (row := await jobs.claim()) is not None:
        found.append(row["id"])
    assert found == expected


@pytest.mark.parametrize("limit", range(1, 10))
async def test_a_batch_is_what_single_claims_would_have_been(jobs: Jobs, limit: int) -> None:
    """claim_jobs takes the first so many, in order, and leaves the rest, their queues included, as they were."""
    expected = await add_ordered(jobs)
    assert await claim_many(jobs.connection, limit) == expected[:limit]
    assert await claim_many(jobs.connection, 100, worker="another") == expected[limit:]


async def test_more_priorities_than_a_claim_asks_for_one_by_one(jobs: Jobs) -> None:
    """With fifty priorities in use, some of them only of delayed jobs, the order is the same."""
    await jobs.connection.execute(
        """
        insert into app_jobs.jobs (task_identifier, priority, run_at)
        select 'x', n % 50, now() + case when n % 50 % 7 = 3 then interval '1 day' else -n * interval '1 second' end
        from generate_series(1, 200) n
        """
    )
    expected = await jobs.connection.fetch(
        "select id from app_jobs.jobs where run_at <= now() order by priority, run_at, id"
    )
    assert await claim_many(jobs.connection, 90) == [row["id"] for row in expected[:90]]
    assert await claim_many(jobs.connection, 1000) == [row["id"] for row in expected[90:]]


async def test_a_queue_runs_one_job_at_a_time_in_order(jobs: Jobs) -> None:
    """The next job comes when the one before has ended, however it ended; other queues do not wait for it."""
    first, second, third = [await jobs.add("x", queue_name="q", max_attempts=1) for _ in range(3)]
    other = await jobs.add("x", queue_name="other")
    assert await claim_many(jobs.connection, 10) == [first, other]
    assert await claim_many(jobs.connection, 10, worker="another") == []
    await jobs.connection.execute("select app_jobs.fail_job($1, $2, 'boom')", WORKER, first)
    assert await claim_many(jobs.connection, 10) == [second]
    await jobs.connection.execute("select app_jobs.complete_job($1, $2)", WORKER, second)
    assert await claim_many(jobs.connection, 10) == [third]
    await jobs.connection.execute("select app_jobs.release_jobs($1)", WORKER)
    assert await claim_many(jobs.connection, 10, worker="another") == [third, other]


async def test_a_failed_job_lets_the_next_of_its_queue_go_first(jobs: Jobs) -> None:
    """While it waits for its retry, the queue goes on."""
    first, second = await jobs.add("x", queue_name="q"), await jobs.add("x", queue_name="q")
    await jobs.claim()
    await jobs.connection.execute("select app_jobs.fail_job($1, $2, 'boom')", WORKER, first)
    claimed = await jobs.claim()
    assert claimed is not None
    assert claimed["id"] == second


async def test_jobs_without_a_queue_run_in_parallel(jobs: Jobs) -> None:
    """All at once, by any number of workers."""
    added = [await jobs.add("x") for _ in range(5)]
    assert await claim_many(jobs.connection, 3) == added[:3]
    assert await claim_many(jobs.connection, 3, worker="another") == added[3:]


@pytest.mark.parametrize("limit", [1, 2, 10])
async def test_long_queues_do_not_hide_short_ones(jobs: Jobs, limit: int) -> None:
    """Behind two long queues, one of them held, the heads of all others are found, in their order."""
    await jobs.connection.execute(
        """
        insert into app_jobs.jobs (task_identifier, queue_name, priority)
        select 'x', 'long-' || n % 2, -1 from generate_series(1, 400) n
        """
    )
    held = await jobs.claim("another")
    assert held is not None
    for name in ("b", "c"):  # queues whose most urgent job is not ready
        await jobs.connection.execute(
            "select app_jobs.add_job('x', queue_name := $1, run_at := now() + interval '1 hour', priority := -9)", name
        )
    free = await jobs.add("x", priority=-2)
    short = [await jobs.add("x", queue_name=name) for name in ("z", "c", "m")]
    other = await jobs.connection.fetchval(
        "select min(id) from app_jobs.jobs where queue_name like 'long-%' and queue_name <> $1", held["queue_name"]
    )
    claimed: list[int] = []
    while found := await claim_many(jobs.connection, limit):
        claimed += found
    assert claimed == [free, other, *short]


async def test_a_head_that_somebody_changes_holds_its_queue_back(jobs: Jobs, connect: Connect) -> None:
    """While a transaction replaces the first job of a queue, the second does not overtake it, and nobody waits."""
    first = await jobs.add("x", queue_name="q", job_key="k")
    await jobs.add("x", queue_name="q")
    free = await jobs.add("x")
    other, impatient = await connect(), await connect(statement_timeout="3s")
    async with other.transaction():
        await other.execute("select app_jobs.add_job('x', '{\"v\": 2}', 'k', 'q', run_at := now() - interval '1 hour')")
        assert await claim_many(impatient, 10) == [free]
    assert await claim_many(impatient, 10) == [first]


async def test_a_claim_waits_for_nobody(jobs: Jobs, connect: Connect) -> None:
    """Jobs that another session has in hand are left to it."""
    mine, theirs, queued = await jobs.add("x"), await jobs.add("x"), await jobs.add("x", queue_name="q")
    other, impatient = await connect(), await connect(statement_timeout="3s")
    async with other.transaction():
        await other.execute("select from app_jobs.jobs where id = any ($1) for update", [theirs, queued])
        assert await claim_many(impatient, 10) == [mine]
    assert await claim_many(impatient, 10) == [theirs, queued]
