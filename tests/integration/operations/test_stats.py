"""Counts, throughput, tasks and workers."""

import itertools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from jobfn.operations import GroupCount, JobFilter, JobState, Operations, TimeRange
from support.jobs import WORKER, Jobs


async def test_counts_of_an_empty_table_are_zero(operations: Operations) -> None:
    counts = await operations.counts()
    assert (counts.ready, counts.delayed, counts.running, counts.failed, counts.total) == (0, 0, 0, 0, 0)
    assert (counts.by_task, counts.by_queue, counts.oldest_ready_seconds) == ((), (), None)


async def test_counts_by_state_task_and_queue(operations: Operations, jobs: Jobs) -> None:
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


async def test_counts_have_the_100_largest_queues(operations: Operations, jobs: Jobs) -> None:
    await jobs.connection.execute(
        "insert into app_jobs.jobs (task_identifier, queue_name)"
        " select 'x', 'q' || q from generate_series(1, 150) q, generate_series(1, 1 + q / 100) n"
    )
    counts = await operations.counts()
    assert len(counts.by_queue) == 100
    assert all(queue.total == 2 for queue in counts.by_queue[:51])
    assert counts.total == 201


async def test_counts_are_cached(operations: Operations, jobs: Jobs) -> None:
    first = await operations.counts(max_age_seconds=60)
    await jobs.add("x")
    assert await operations.counts(max_age_seconds=60) is first


AddRun = Callable[[datetime, str, float], Awaitable[None]]


@pytest.fixture
def add_run(jobs: Jobs) -> AddRun:
    """Insert an attempt into the history: when it ended, its outcome and duration."""

    async def insert(ended_at: datetime, outcome: str, seconds: float) -> None:
        started_at = ended_at - timedelta(seconds=seconds)
        await jobs.connection.execute(
            "insert into app_jobs.job_runs (job_id, attempt, task_identifier, enqueued_at, due_at, started_at,"
            " ended_at, outcome) values (1, 1, 'x', $1, $1, $2, $3, $4)",
            started_at - timedelta(seconds=2),
            started_at,
            ended_at,
            outcome,
        )

    return insert


async def test_throughput_has_a_bucket_for_each_minute(operations: Operations, jobs: Jobs, add_run: AddRun) -> None:
    now: datetime = await jobs.connection.fetchval("select now()")
    minute = now.replace(second=0, microsecond=0) - timedelta(minutes=3)
    for seconds in (1.0, 2.0, 3.0):
        await add_run(minute + timedelta(seconds=30), "completed", seconds)
    await add_run(minute + timedelta(seconds=31), "failed", 10.0)
    await add_run(minute + timedelta(seconds=31), "released", 10.0)
    await add_run(minute - timedelta(hours=2), "completed", 1.0)
    buckets = await operations.throughput(minutes=60)
    assert len(buckets) == 60
    assert [later.at - earlier.at for earlier, later in itertools.pairwise(buckets)] == [timedelta(minutes=1)] * 59
    (busy,) = [bucket for bucket in buckets if bucket.completed or bucket.failed]
    assert (busy.at, busy.completed, busy.failed) == (minute.astimezone(UTC), 3, 1)
    assert (busy.mean_seconds, busy.p50_seconds, busy.max_seconds) == (4.0, 2.5, 10.0)
    assert busy.p95_seconds == pytest.approx(8.95)
    assert busy.queue_p95_seconds == pytest.approx(2.0)


async def test_past_minutes_are_read_once(operations: Operations, jobs: Jobs, add_run: AddRun) -> None:
    now: datetime = await jobs.connection.fetchval("select now()")
    await add_run(now - timedelta(minutes=30), "completed", 1.0)
    assert sum(bucket.completed for bucket in await operations.throughput()) == 1
    await add_run(now - timedelta(minutes=30), "completed", 1.0)
    await add_run(await jobs.connection.fetchval("select now()"), "completed", 1.0)
    assert sum(bucket.completed for bucket in await operations.throughput()) == 2
    # a longer period is read again
    assert sum(bucket.completed for bucket in await operations.throughput(minutes=120)) == 3
    assert len(await operations.throughput(minutes=0)) == 1


@pytest.mark.parametrize(
    ("time_range", "number", "period"),
    [
        (TimeRange.HOUR, 60, timedelta(minutes=1)),
        (TimeRange.DAY, 96, timedelta(minutes=15)),
        (TimeRange.WEEK, 84, timedelta(hours=2)),
    ],
)
async def test_throughput_of_a_range_has_its_periods(
    operations: Operations, jobs: Jobs, add_run: AddRun, time_range: TimeRange, number: int, period: timedelta
) -> None:
    now: datetime = await jobs.connection.fetchval("select now()")
    for age in (timedelta(seconds=1), number * period / 2, number * period * 0.98, number * period * 1.1):
        await add_run(now - age, "completed", 2.0)
    buckets = await operations.throughput_of_range(time_range)
    assert len(buckets) == number
    assert {later.at - earlier.at for earlier, later in itertools.pairwise(buckets)} == {period}
    assert buckets[-1].at <= now < buckets[-1].at + period
    assert buckets[0].at.minute % max(1, period.seconds // 60 % 60) == 0
    assert [bucket.completed for bucket in buckets if bucket.completed] == [1, 1, 1]
    assert {bucket.p50_seconds for bucket in buckets} == {None, 2.0}
    names = {row["task_identifier"] for row in await jobs.connection.fetch("select * from app_jobs.job_runs")}
    (name,) = names
    assert sum(bucket.completed for bucket in await operations.throughput_of_range(time_range, name)) == 3
    for other in range(40):  # more ranges than are cached
        other_buckets = await operations.throughput_of_range(time_range, f"other_{other}")
        assert (len(other_buckets), sum(bucket.completed for bucket in other_buckets)) == (number, 0)


async def test_tasks_are_those_of_jobs_and_history(operations: Operations, jobs: Jobs) -> None:
    await jobs.add("b")
    await jobs.claim()
    await jobs.connection.execute("select app_jobs.complete_job($1, 1)", WORKER)
    await jobs.add("a")
    await jobs.add("a")
    assert await operations.tasks() == ("a", "b")


async def test_workers_are_the_registered_and_those_that_hold_jobs(operations: Operations, jobs: Jobs) -> None:
    call = "select app_jobs.heartbeat_worker($1, 'host', $2, '1.0', '{worker,scheduler}', 16, 3, '10 s')"
    await jobs.connection.execute(call, WORKER, 7)
    await jobs.connection.execute(call, "gone-worker", 8)
    await jobs.connection.execute(
        "update app_jobs.workers set last_heartbeat_at = now() - interval '31 s' where worker_id = 'gone-worker'"
    )
    for worker in (WORKER, WORKER, "node-worker"):
        await jobs.add("x")
        await jobs.claim(worker)
    gone, node, ours = await operations.workers()
    assert (gone.id, gone.is_alive, gone.held_jobs) == ("gone-worker", False, 0)
    assert (node.id, node.is_registered, node.is_alive, node.held_jobs, node.roles) == (
        "node-worker",
        False,
        None,
        1,
        (),
    )
    assert (ours.id, ours.is_registered, ours.is_alive, ours.held_jobs) == (WORKER, True, True, 2)
    assert (ours.host, ours.pid, ours.version, ours.roles) == ("host", 7, "1.0", ("worker", "scheduler"))
    assert (ours.concurrency, ours.in_flight) == (16, 3)


async def test_workers_say_what_they_are_limited_to(operations: Operations, jobs: Jobs) -> None:
    call = "select app_jobs.heartbeat_worker($1, 'host', 7, '1.0', '{worker}', 16, 3, '10 s', $2, $3, 1000)"
    await jobs.connection.execute(call, "worker-1", None, None)
    await jobs.connection.execute(call, "worker-2", ["print", "fax"], None)
    await jobs.connection.execute(call, "worker-3", ["print"], ["", "q"])
    await jobs.connection.execute(call, "worker-3", ["fax"], ["", "q"])
    workers = await operations.workers()
    assert [(worker.tasks, worker.limits_label) for worker in workers] == [
        (None, ""),
        (("print", "fax"), "print, fax"),
        (("fax",), "fax; queues none, q"),
    ]


async def test_platform_schema_has_counts_but_no_throughput(
    platform_operations: Operations, platform_pool: "asyncpg.Pool[Any]"
) -> None:
    await platform_pool.execute("select app_jobs.add_job(gen_random_uuid(), 'x')")
    await platform_pool.execute("select app_jobs.add_job(gen_random_uuid(), 'y')")
    await platform_pool.execute("select app_jobs.get_job($1)", WORKER)
    counts = await platform_operations.counts()
    assert (counts.ready, counts.running) == (1, 1)
    assert await platform_operations.throughput() == ()
    assert await platform_operations.tasks() == ("x", "y")
    workers = await platform_operations.workers()
    assert [(worker.id, worker.held_jobs, worker.is_alive) for worker in workers] == [(WORKER, 1, None)]
    assert await platform_operations.schedules() == ()


async def test_counts_of_a_filter_are_by_state(operations: Operations, jobs: Jobs) -> None:
    for number in range(3):
        await jobs.add("send", {"shop": number % 2})
    await jobs.add("report", {"shop": 0}, run_at=datetime(2999, 1, 1, tzinfo=UTC))
    shop = JobFilter(payload=("shop", "0"), state=JobState.FAILED)
    assert await operations.counts_matching(shop) == GroupCount("", 2, 1, 0, 0)
    for number in range(40):  # more filters than are cached
        assert await operations.counts_matching(JobFilter(task=f"t{number}")) == GroupCount("", 0, 0, 0, 0)


async def test_counts_of_a_filter_are_unknown_if_they_take_too_long(operations: Operations, jobs: Jobs) -> None:
    async with jobs.connection.transaction():
        await jobs.connection.execute("lock table app_jobs.jobs")
        assert await operations.counts_matching(JobFilter(task="send")) is None
