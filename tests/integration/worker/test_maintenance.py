"""Heartbeats and pruning of the history."""

import asyncio
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from jobfn.database.history import History
from jobfn.database.idle_pool import IdlePool
from jobfn.database.worker_registry import WorkerProcess, WorkerRegistry
from jobfn.worker.maintenance.heartbeat import WorkerHeartbeat
from jobfn.worker.maintenance.periodic import PRUNE_BATCH_SIZE
from jobfn.worker.maintenance.pruner import HistoryPruner
from jobfn.worker.maintenance.unique_pruner import UniqueJobsPruner
from support.fixtures import StartWorker
from support.functions import RecordingFunction
from support.jobs import WORKER, Jobs
from support.network import eventually

PROCESS = WorkerProcess(WORKER, "here", 7, "1.0", ("worker", "callbacks"), 16)
ADD_EXPIRED_RUNS = """
    insert into app_jobs.job_runs (job_id, attempt, task_identifier, enqueued_at, due_at, ended_at, outcome)
    select n, 1, 'x', now(), now(), now() - interval '8 days', 'completed' from generate_series(1, $1) n
"""
HISTORY_IS_EMPTY = "select not exists (select from app_jobs.job_runs)"


async def workers(jobs: Jobs) -> list[tuple[Any, ...]]:
    """Return the registered workers with their requests in flight."""
    rows = await jobs.connection.fetch("select worker_id, in_flight from app_jobs.workers order by 1")
    return [tuple(row) for row in rows]


async def test_service_is_registered_while_it_runs(
    function: RecordingFunction, start_worker: StartWorker, jobs: Jobs
) -> None:
    service = await start_worker()
    row = await jobs.connection.fetchrow("select * from app_jobs.workers")
    assert row is not None
    assert (row["worker_id"], row["pid"], row["concurrency"]) == (WORKER, os.getpid(), 16)
    assert row["roles"] == ["worker", "callbacks", "scheduler"]
    await service.stop()
    assert await workers(jobs) == []


async def test_history_days_zero_disables_and_empties_the_history(
    function: RecordingFunction, start_worker: StartWorker, jobs: Jobs
) -> None:
    await jobs.connection.execute(ADD_EXPIRED_RUNS, 3)
    await start_worker(history_days=0.0)
    await eventually(lambda: jobs.connection.fetchval(HISTORY_IS_EMPTY))
    await jobs.until_gone(await jobs.add("x"))
    assert await jobs.connection.fetchval(HISTORY_IS_EMPTY)


async def test_history_is_kept_for_a_week_by_default(
    function: RecordingFunction, start_worker: StartWorker, jobs: Jobs
) -> None:
    await jobs.connection.execute(ADD_EXPIRED_RUNS, 1)
    await start_worker()
    job = await jobs.add("x")
    await jobs.until_gone(job)
    row = await jobs.connection.fetchrow("select * from app_jobs.job_runs where ended_at > now() - interval '1 day'")
    assert row is not None
    assert (row["job_id"], row["worker"], row["outcome"]) == (job, WORKER, "completed")
    assert row["enqueued_at"] <= row["started_at"] <= row["ended_at"]
    await eventually(lambda: jobs.connection.fetchval("select count(*) = 1 from app_jobs.job_runs"))


async def test_heartbeats_record_the_requests_in_flight(pool: "asyncpg.Pool[Any]", jobs: Jobs) -> None:
    """The first heartbeat also removes workers that were last seen more than a day ago."""
    await jobs.connection.execute("select app_jobs.heartbeat_worker('gone', 'x', 1, '1', '{}', 1, 1, '10 s')")
    await jobs.connection.execute("update app_jobs.workers set last_heartbeat_at = now() - interval '25 hours'")
    in_flight, stop = 3, asyncio.Event()
    heartbeat = WorkerHeartbeat(
        WorkerRegistry(pool, "app_jobs"), PROCESS, in_flight=lambda: in_flight, interval_seconds=0.01
    )
    running = asyncio.create_task(heartbeat.run(stop))

    async def is_recorded() -> bool:
        return await workers(jobs) == [(WORKER, in_flight)]

    await eventually(is_recorded)
    in_flight = 5
    await eventually(is_recorded)
    assert await jobs.connection.fetchval("select heartbeat_interval from app_jobs.workers") == timedelta(seconds=0.01)
    stop.set()
    await running
    assert await workers(jobs) == []


async def test_pruner_deletes_more_than_one_batch_in_a_run(pool: "asyncpg.Pool[Any]", jobs: Jobs) -> None:
    await jobs.connection.execute(ADD_EXPIRED_RUNS, PRUNE_BATCH_SIZE + 5)
    stop = asyncio.Event()
    running = asyncio.create_task(HistoryPruner(History(pool, "app_jobs"), days=7).run(stop))
    await eventually(lambda: jobs.connection.fetchval(HISTORY_IS_EMPTY))
    stop.set()
    await running


async def test_pruner_makes_partitions_ahead(pool: "asyncpg.Pool[Any]", jobs: Jobs) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(HistoryPruner(History(pool, "app_jobs"), days=7, interval_seconds=0.01).run(stop))
    partitions = "select count(*) = 4 from app_jobs.job_runs_partitions() where not is_default"
    await eventually(lambda: jobs.connection.fetchval(partitions))
    stop.set()
    await running


async def test_failure_is_logged_once_and_retried(
    pool: "asyncpg.Pool[Any]", jobs: Jobs, capsys: pytest.CaptureFixture[str]
) -> None:
    await jobs.connection.execute("alter function app_jobs.prune_job_runs rename to renamed")
    await jobs.connection.execute(ADD_EXPIRED_RUNS, 1)
    stop = asyncio.Event()
    running = asyncio.create_task(HistoryPruner(History(pool, "app_jobs"), days=7, interval_seconds=0.01).run(stop))
    output = ""

    async def is_logged() -> bool:
        nonlocal output
        captured = capsys.readouterr()
        output += captured.out + captured.err
        return "history not pruned" in output

    await eventually(is_logged)
    assert "run `jobfn db migrate`" in output
    await jobs.connection.execute("alter function app_jobs.renamed rename to prune_job_runs")
    await eventually(lambda: jobs.connection.fetchval(HISTORY_IS_EMPTY))
    stop.set()
    await running
    await is_logged()
    assert output.count("history not pruned") == 1


async def test_heartbeats_continue_after_a_lost_connection(pool: "asyncpg.Pool[Any]", jobs: Jobs) -> None:
    stop = asyncio.Event()
    heartbeat = WorkerHeartbeat(WorkerRegistry(pool, "app_jobs"), PROCESS, in_flight=lambda: 1, interval_seconds=0.01)
    running = asyncio.create_task(heartbeat.run(stop))
    await eventually(lambda: workers(jobs))
    await jobs.connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'"
    )
    await jobs.connection.execute("delete from app_jobs.workers")
    await eventually(lambda: workers(jobs))
    stop.set()
    await running


@pytest.mark.parametrize("open_connections", [lambda pool: pool, lambda pool: IdlePool(pool, 2)])
async def test_unique_keys_that_no_job_holds_are_pruned(
    open_connections: Callable[["asyncpg.Pool[Any]"], "asyncpg.Pool[Any]"], pool: "asyncpg.Pool[Any]", jobs: Jobs
) -> None:
    """Also through the pool of one of several databases."""
    await jobs.connection.execute(
        "insert into app_jobs.unique_jobs select int4send(n), 0, 'done', null, now() from generate_series(1, $1) n",
        2 * PRUNE_BATCH_SIZE + 1,
    )
    stop = asyncio.Event()
    running = asyncio.create_task(UniqueJobsPruner(open_connections(pool), "app_jobs", interval_seconds=0.01).run(stop))
    await eventually(lambda: jobs.connection.fetchval("select not exists (select from app_jobs.unique_jobs)"))
    stop.set()
    await running
