"""Counts, the last minutes, and who is at work; and that asking often costs little."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from jobfn.cache import AsyncTTLCache
from jobfn.operations import GroupCount, Operations
from jobfn.operations.statements import Database
from jobfn.operations.stats import Measures
from support.jobs import WORKER, Jobs


class HandClock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def answers(clock: HandClock, *, cost: float = 0.0) -> "tuple[AsyncTTLCache[int], list[int]]":
    """Something that gives 1, 2, 3, each at that cost; and what it has given."""
    given: list[int] = []

    async def ask() -> int:
        clock.seconds += cost
        given.append(len(given) + 1)
        return given[-1]

    return AsyncTTLCache(ask, clock), given


async def test_an_answer_serves_while_it_is_young() -> None:
    """Until it is as old as may be; then there is a new one."""
    clock = HandClock()
    remembered, _ = answers(clock)
    assert await remembered.get(max_age_seconds=5) == 1
    clock.seconds += 4.9
    assert await remembered.get(max_age_seconds=5) == 1
    clock.seconds += 0.2
    assert await remembered.get(max_age_seconds=5) == 2
    clock.seconds += 0.1
    assert await remembered.get(max_age_seconds=0) == 3


async def test_a_dear_answer_serves_longer() -> None:
    """One that took half a second is good for nine and a half more, however often somebody asks."""
    clock = HandClock()
    remembered, given = answers(clock, cost=0.5)
    assert await remembered.get(max_age_seconds=0) == 1
    for _ in range(18):
        clock.seconds += 0.5
        assert await remembered.get(max_age_seconds=0) == 1
    clock.seconds += 1.0
    assert await remembered.get(max_age_seconds=0) == 2
    assert given == [1, 2]


async def test_who_comes_meanwhile_shares_the_answer() -> None:
    """Ten at once are one look."""
    clock = HandClock()
    gate = asyncio.Event()
    asked = 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        clock.seconds += 0.001
        await gate.wait()
        return asked

    remembered = AsyncTTLCache(ask, clock)
    waiting = [asyncio.create_task(remembered.get(max_age_seconds=0)) for _ in range(10)]
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*waiting) == [1] * 10


async def test_none_is_an_answer_too() -> None:
    """A database that did not say is not asked again at once."""
    clock, asked = HandClock(), []

    async def ask() -> int | None:
        asked.append(clock())
        return None

    remembered = AsyncTTLCache(ask, clock)
    for _ in range(3):
        assert await remembered.get(max_age_seconds=5) is None
        clock.seconds += 2
    assert asked == [100.0]


async def test_a_failure_is_not_remembered() -> None:
    """The next one asks again."""
    results: list[Callable[[], int]] = [lambda: 1 // 0, lambda: 7]

    async def ask() -> int:
        return results.pop(0)()

    remembered = AsyncTTLCache(ask, HandClock())
    with pytest.raises(ZeroDivisionError):
        await remembered.get(max_age_seconds=0)
    assert await remembered.get(max_age_seconds=0) == 7


async def test_counts_of_nothing(operations: Operations) -> None:
    """No job is no error."""
    counts = await operations.counts()
    assert (counts.ready, counts.delayed, counts.running, counts.failed, counts.total) == (0, 0, 0, 0, 0)
    assert (counts.by_task, counts.by_queue, counts.oldest_ready_seconds) == ((), (), None)


async def test_counts_by_state_task_and_queue(operations: Operations, jobs: Jobs) -> None:
    """Each job once in all, once for its task, once for its queue; the age is that of the oldest ready one."""
    await jobs.connection.execute(
        """
        insert into app_jobs.jobs (task_identifier, queue_name, run_at, attempts, locked_by, locked_at)
        values ('a', null, now() - interval '5 minutes', 0, null, null), ('a', 'q', now(), 0, null, null),
            ('a', 'q', now() + interval '1 hour', 0, null, null), ('b', 'r', now(), 25, null, null),
            ('b', null, now() - interval '1 hour', 1, 'worker-1', now()),
            ('b', null, now() - interval '2 hours', 25, 'worker-1', now())
        """
    )
    counts = await operations.counts()
    assert (counts.ready, counts.delayed, counts.running, counts.failed, counts.total) == (2, 1, 2, 1, 6)
    assert counts.by_task == (GroupCount("a", 2, 1, 0, 0), GroupCount("b", 0, 0, 2, 1))
    assert counts.by_queue == (GroupCount("q", 1, 1, 0, 0), GroupCount("r", 0, 0, 0, 1))
    assert [group.total for group in counts.by_task] == [3, 3]
    assert counts.oldest_ready_seconds is not None
    assert 299 < counts.oldest_ready_seconds < 360


async def test_of_many_queues_the_largest_are_shown(operations: Operations, jobs: Jobs) -> None:
    """A queue for each customer does not make a page of a million lines."""
    await jobs.connection.execute(
        "insert into app_jobs.jobs (task_identifier, queue_name)"
        " select 'x', 'q' || q from generate_series(1, 150) q, generate_series(1, 1 + q / 100) n"
    )
    counts = await operations.counts()
    assert len(counts.by_queue) == 100
    assert all(queue.total == 2 for queue in counts.by_queue[:51])
    assert counts.total == 201


async def test_live_pages_look_once(operations: Operations, jobs: Jobs) -> None:
    """A second look within the given age is the first one's."""
    first = await operations.counts(max_age_seconds=60)
    await jobs.add("x")
    assert await operations.counts(max_age_seconds=60) is first


Note = Callable[[datetime, str, float], Awaitable[None]]


@pytest.fixture
def note(jobs: Jobs) -> Note:
    """Write an attempt into history: when it ended, how, and how long it took."""

    async def write(ended_at: datetime, outcome: str, seconds: float) -> None:
        began = ended_at - timedelta(seconds=seconds)
        await jobs.connection.execute(
            "insert into app_jobs.job_runs (job_id, attempt, task_identifier, enqueued_at, due_at, started_at,"
            " ended_at, outcome) values (1, 1, 'x', $1, $1, $2, $3, $4)",
            began - timedelta(seconds=2),
            began,
            ended_at,
            outcome,
        )

    return write


async def test_the_last_minutes(operations: Operations, jobs: Jobs, note: Note) -> None:
    """Every minute is there, this one the last; of each, how many ended how, and how long they took."""
    now: datetime = await jobs.connection.fetchval("select now()")
    minute = now.replace(second=0, microsecond=0) - timedelta(minutes=3)
    for seconds in (1.0, 2.0, 3.0):
        await note(minute + timedelta(seconds=30), "completed", seconds)
    await note(minute + timedelta(seconds=31), "failed", 10.0)
    await note(minute + timedelta(seconds=31), "released", 10.0)
    await note(minute - timedelta(hours=2), "completed", 1.0)
    minutes = await operations.throughput(minutes=60)
    assert len(minutes) == 60
    assert [later.at - earlier.at for earlier, later in itertools.pairwise(minutes)] == [timedelta(minutes=1)] * 59
    (busy,) = [found for found in minutes if found.completed or found.failed]
    assert (busy.at, busy.completed, busy.failed) == (minute.astimezone(UTC), 3, 1)
    assert (busy.mean_seconds, busy.p50_seconds, busy.max_seconds) == (4.0, 2.5, 10.0)
    assert busy.p95_seconds == pytest.approx(8.95)
    assert busy.queue_p95_seconds == pytest.approx(2.0)


async def test_minutes_that_are_over_are_read_once(operations: Operations, jobs: Jobs, note: Note) -> None:
    """What is written into the past afterwards is not seen; what ends now is."""
    now: datetime = await jobs.connection.fetchval("select now()")
    await note(now - timedelta(minutes=30), "completed", 1.0)
    assert sum(minute.completed for minute in await operations.throughput()) == 1
    await note(now - timedelta(minutes=30), "completed", 1.0)
    await note(await jobs.connection.fetchval("select now()"), "completed", 1.0)
    assert sum(minute.completed for minute in await operations.throughput()) == 2
    # a longer look back than before reads all of it again
    assert sum(minute.completed for minute in await operations.throughput(minutes=120)) == 3
    assert len(await operations.throughput(minutes=0)) == 1


async def test_tasks_of_jobs_and_of_history(operations: Operations, jobs: Jobs) -> None:
    """Those that wait and those that are done, each name once."""
    await jobs.add("b")
    await jobs.claim()
    await jobs.connection.execute("select app_jobs.complete_job($1, 1)", WORKER)
    await jobs.add("a")
    await jobs.add("a")
    assert await operations.tasks() == ("a", "b")


async def test_workers_that_say_so_and_others(operations: Operations, jobs: Jobs) -> None:
    """A registered one with what it holds, one that was last heard of long ago, and one known by its locks."""
    call = "select app_jobs.note_worker($1, 'host', $2, '1.0', '{worker,scheduler}', 16, 3, '10 s')"
    await jobs.connection.execute(call, WORKER, 7)
    await jobs.connection.execute(call, "gone-worker", 8)
    await jobs.connection.execute(
        "update app_jobs.workers set seen_at = now() - interval '31 s' where worker_id = 'gone-worker'"
    )
    for worker in (WORKER, WORKER, "node-worker"):
        await jobs.add("x")
        await jobs.claim(worker)
    gone, node, ours = await operations.workers()
    assert (gone.id, gone.is_alive, gone.holds) == ("gone-worker", False, 0)
    assert (node.id, node.is_registered, node.is_alive, node.holds, node.parts) == ("node-worker", False, True, 1, ())
    assert (ours.id, ours.is_registered, ours.is_alive, ours.holds) == (WORKER, True, True, 2)
    assert (ours.host, ours.pid, ours.version, ours.parts) == ("host", 7, "1.0", ("worker", "scheduler"))
    assert (ours.concurrency, ours.in_flight) == (16, 3)


async def test_on_the_platform_s_schema(on_platform: Operations, platform_pool: "asyncpg.Pool[Any]") -> None:
    """Counts, tasks and holders are known; throughput is not."""
    await platform_pool.execute("select app_jobs.add_job(gen_random_uuid(), 'x')")
    await platform_pool.execute("select app_jobs.add_job(gen_random_uuid(), 'y')")
    await platform_pool.execute("select app_jobs.get_job($1)", WORKER)
    counts = await on_platform.counts()
    assert (counts.ready, counts.running) == (1, 1)
    assert await on_platform.throughput() == ()
    assert await on_platform.tasks() == ("x", "y")
    assert [(worker.id, worker.holds) for worker in await on_platform.workers()] == [(WORKER, 1)]
    assert await on_platform.schedules() == ()


async def test_a_counting_clock_is_handed_in(operations: Operations, pool: "asyncpg.Pool[Any]") -> None:
    """What a look took is told by that clock."""
    measures = Measures(Database(pool, "app_jobs", operations.features), clock=HandClock())
    assert (await measures.counts(max_age_seconds=0)).took_seconds == 0.0
