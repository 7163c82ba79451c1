"""What a service does beside jobs: it says that it is there, and sweeps history; and no trouble of that stops it."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from jobfn.database.worker_registry import History, Process, Processes
from jobfn.worker.maintenance.heartbeat import WorkerHeartbeat
from jobfn.worker.maintenance.pruner import PRUNE_BATCH_SIZE, HistoryPruner
from support.fixtures import Serve, StartService
from support.functions import RecordingFunction
from support.jobs import WORKER, Jobs
from support.network import eventually

PROCESS = Process(WORKER, "here", 7, "1.0", ("worker", "callbacks"), 16)
OLD = """
    insert into app_jobs.job_runs (job_id, attempt, task_identifier, enqueued_at, due_at, ended_at, outcome)
    select n, 1, 'x', now(), now(), now() - interval '8 days', 'completed' from generate_series(1, $1) n
"""


@pytest.fixture
async def pool(database: str) -> "AsyncIterator[asyncpg.Pool[Any]]":
    """Connections to ``database``."""
    async with asyncpg.create_pool(database, min_size=1, max_size=2) as opened:
        yield opened


async def workers(jobs: Jobs) -> list[tuple[Any, ...]]:
    """Who says that it is at work, and how much it has in hand."""
    rows = await jobs.connection.fetch("select worker_id, in_flight from app_jobs.workers order by 1")
    return [tuple(row) for row in rows]


async def test_a_service_is_there_while_it_runs(serve: Serve, start_service: StartService, jobs: Jobs) -> None:
    """With its process, its parts and its concurrency; when it has ended, it is gone from the list."""
    service = await start_service(await serve(RecordingFunction().app))

    async def there() -> "asyncpg.Record | None":
        return await jobs.connection.fetchrow("select * from app_jobs.workers")

    row = await eventually(there)
    assert row is not None
    assert (row["worker_id"], row["pid"], row["concurrency"]) == (WORKER, os.getpid(), 16)
    assert row["parts"] == ["worker", "callbacks", "scheduler"]
    await service.stop()
    assert await workers(jobs) == []


async def test_a_service_sets_and_sweeps_what_it_is_told(serve: Serve, start_service: StartService, jobs: Jobs) -> None:
    """JOBS_HISTORY_DAYS=0: what there is goes, and what is done leaves nothing."""
    await jobs.connection.execute(OLD, 3)
    await start_service(await serve(RecordingFunction().app), history_days=0.0)
    left = "select not exists (select from app_jobs.job_runs)"
    await eventually(lambda: jobs.connection.fetchval(left))
    job = await jobs.add("x")
    await jobs.until_gone(job)
    assert await jobs.connection.fetchval(left)


async def test_a_service_keeps_history_by_default(serve: Serve, start_service: StartService, jobs: Jobs) -> None:
    """The whole path: claimed, delivered, settled, and there with its worker and its times."""
    await jobs.connection.execute(OLD, 1)
    await start_service(await serve(RecordingFunction().app))
    job = await jobs.add("x")
    await jobs.until_gone(job)
    row = await jobs.connection.fetchrow("select * from app_jobs.job_runs where ended_at > now() - interval '1 day'")
    assert row is not None
    assert (row["job_id"], row["worker"], row["outcome"]) == (job, WORKER, "completed")
    assert row["enqueued_at"] <= row["started_at"] <= row["ended_at"]
    await eventually(
        lambda: jobs.connection.fetchval("select count(*) = 1 from app_jobs.job_runs")  # the old one was swept
    )


async def test_presence_says_how_much_is_in_hand(pool: "asyncpg.Pool[Any]", jobs: Jobs) -> None:
    """Again and again, and at the end that it has ended; others are forgotten a day after their last word."""
    await jobs.connection.execute("select app_jobs.note_worker('gone', 'x', 1, '1', '{}', 1, 1, '10 s')")
    await jobs.connection.execute("update app_jobs.workers set seen_at = now() - interval '25 hours'")
    hands, stop = 3, asyncio.Event()
    presence = WorkerHeartbeat(Processes(pool, "app_jobs"), PROCESS, in_flight=lambda: hands, interval_seconds=0.01)
    running = asyncio.create_task(presence.run(stop))

    async def says(count: int) -> bool:
        return await workers(jobs) == [(WORKER, count)]

    await eventually(lambda: says(3))
    hands = 5
    await eventually(lambda: says(5))
    beat = await jobs.connection.fetchval("select beat from app_jobs.workers")
    assert beat == timedelta(seconds=0.01)
    stop.set()
    await running
    assert await workers(jobs) == []


async def test_more_than_one_turn_is_swept_at_once(pool: "asyncpg.Pool[Any]", jobs: Jobs) -> None:
    """Small transactions follow each other until nothing old is left."""
    await jobs.connection.execute(OLD, PRUNE_BATCH_SIZE + 5)
    stop = asyncio.Event()
    running = asyncio.create_task(HistoryPruner(History(pool, "app_jobs"), days=7).run(stop))
    await eventually(lambda: jobs.connection.fetchval("select not exists (select from app_jobs.job_runs)"))
    stop.set()
    await running


async def test_trouble_is_told_once_and_tried_again(
    pool: "asyncpg.Pool[Any]", jobs: Jobs, capsys: pytest.CaptureFixture[str]
) -> None:
    """A schema without these functions: a line with what to do, and as soon as they are there it works."""
    await jobs.connection.execute("alter function app_jobs.sweep_history rename to elsewhere")
    await jobs.connection.execute(OLD, 1)
    stop = asyncio.Event()
    running = asyncio.create_task(HistoryPruner(History(pool, "app_jobs"), days=7, interval_seconds=0.01).run(stop))
    said = ""

    async def told() -> bool:
        nonlocal said
        captured = capsys.readouterr()
        said += captured.out + captured.err
        return "history not pruned" in said

    await eventually(told)
    assert "run `jobfn db migrate`" in said
    await jobs.connection.execute("alter function app_jobs.elsewhere rename to sweep_history")
    await eventually(lambda: jobs.connection.fetchval("select not exists (select from app_jobs.job_runs)"))
    await told()
    assert said.count("history not pruned") == 1
    stop.set()
    await running


async def test_a_database_that_is_away_stops_nothing(
    pool: "asyncpg.Pool[Any]", jobs: Jobs, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sessions are ended by the server: the next turn has a new one."""
    stop = asyncio.Event()
    presence = WorkerHeartbeat(Processes(pool, "app_jobs"), PROCESS, in_flight=lambda: 1, interval_seconds=0.01)
    running = asyncio.create_task(presence.run(stop))
    await eventually(lambda: workers(jobs))
    await jobs.connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'"
    )
    await jobs.connection.execute("delete from app_jobs.workers")
    await eventually(lambda: workers(jobs))
    stop.set()
    await running
    capsys.readouterr()
