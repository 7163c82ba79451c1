"""Workers start no job that is paused, and release those that they have claimed and not started."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import pytest

from jobfn.database.records import Job
from jobfn.worker.delivery import NotStarted, OnResult, Succeeded
from support.commands import Spawn, spawn_two_workers
from support.fixtures import Serve, StartWorker
from support.functions import RecordingFunction
from support.jobs import TENANT, Jobs
from support.network import eventually
from support.scripted_worker import ScriptedBatches, running_worker


class BatchesOfTwoTasks(ScriptedBatches):
    """Jobs of other tasks than "a" and "b" are delivered alone."""

    def batch_size(self, task: str, share: int) -> int:
        """See ``Deliverer.batch_size``."""
        return super().batch_size(task, share) if task in {"a", "b"} else 1


async def test_paused_jobs_that_have_not_started_are_released(jobs: Jobs, database: str) -> None:
    """Those of another task stay until they have waited for a slot for too long."""
    give_back, finish = asyncio.Event(), asyncio.Event()

    async def return_two(batch: Sequence[Job], on_result: OnResult) -> None:
        await give_back.wait()
        for job in batch[1:]:
            on_result(job, NotStarted())
        await finish.wait()
        on_result(batch[0], Succeeded())

    for task, number in (("a", 3), ("b", 3), ("fills the other slots", 4)):
        await jobs.connection.execute("select app_jobs.add_job($1) from generate_series(1, $2)", task, number)
    deliverer = BatchesOfTwoTasks(return_two)
    held = "select task_identifier from app_jobs.jobs where locked_at is not null"

    async def slots_are_full() -> bool:
        return len(deliverer.alone) == 4

    async def only_those_of_the_paused_task_are_released() -> bool:
        tasks = Counter(row["task_identifier"] for row in await jobs.connection.fetch(held))
        return (tasks["a"], tasks["b"]) == (1, 3)

    settings = {"concurrency": 6, "poll_interval_seconds": 3600.0}
    async with running_worker(database, deliverer, asyncio.Event(), **settings) as worker:
        await eventually(slots_are_full, seconds=20)
        give_back.set()
        await jobs.connection.execute("select app_jobs.pause(task := 'a')")
        worker.on_pause()
        await eventually(only_those_of_the_paused_task_are_released, seconds=20)
        attempts = "select sum(attempts) from app_jobs.jobs where task_identifier = 'a'"
        assert await jobs.connection.fetchval(attempts) == 1
        finish.set()
        deliverer.gate.set()


async def test_services_notice_pauses_and_their_ends(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    await start_worker(poll_interval_seconds=3600.0)
    await jobs.connection.execute("select app_jobs.pause(everything := true)")
    job_id = await jobs.add("x")
    await jobs.connection.execute("select app_jobs.pause(everything := true, until := now() + interval '1 second')")
    await jobs.until_gone(job_id)
    ended_at = await jobs.connection.fetchval("select until from app_jobs.pauses")
    started_at = await jobs.connection.fetchval("select started_at from app_jobs.job_runs where job_id = $1", job_id)
    assert started_at >= ended_at
    await jobs.connection.execute("select app_jobs.pause(task := 'x')")
    job_id = await jobs.add("x")
    await jobs.until_gone(await jobs.add("y"))
    assert len(function.received) == 2
    await jobs.connection.execute("select app_jobs.resume(task := 'x')")
    await jobs.until_gone(job_id)


@pytest.mark.parametrize(
    ("paused", "job", "workers"),
    [
        ("task := 'x'", "'x'", 2),
        ("queue := 'invoices'", "'x', queue_name := 'invoices'", 1),  # one job of a queue runs at a time
        (f"tenant := '{TENANT}'", f"'{TENANT}'::uuid, 'x'", 2),
        ("everything := true", "'x'", 2),
    ],
)
async def test_pauses_take_effect_within_a_second_in_workers_of_separate_processes(
    jobs: Jobs,
    database: str,
    function: RecordingFunction,
    serve: Serve,
    spawn: Spawn,
    paused: str,
    job: str,
    workers: int,
) -> None:
    """Jobs that the pause does not concern go on. Polls are an hour apart."""
    arrivals: list[tuple[float, str, str]] = []

    async def work() -> None:
        request = function.received[-1]
        arrivals.append((time.monotonic(), request.path, request.headers["x-worker-id"]))
        await asyncio.sleep(0.02)

    def since(moment: float) -> list[tuple[float, str]]:
        return [(at - moment, worker) for at, path, worker in arrivals if path == "/x" and at > moment]

    async def both_work() -> bool:
        return len({worker for _, _, worker in arrivals}) == 2

    async def none_is_held() -> bool:
        held = "select count(*) from app_jobs.jobs where task_identifier = 'x' and locked_by is not null"
        return not await jobs.connection.fetchval(held)

    async def all_work_again() -> bool:
        return len({worker for _, worker in since(resumed_at)}) >= workers

    function.before_response = work
    url = await serve(function.app)
    settings = {"JOBS_CONCURRENCY": "2", "JOBS_POLL_INTERVAL_SECONDS": "3600", "JOBS_REPORT_GRACE_SECONDS": "0"}
    await spawn_two_workers(spawn, database, url, **settings)
    await jobs.connection.execute(f"select app_jobs.add_job({job}) from generate_series(1, 400)")
    others = [await jobs.add("y") for _ in range(100)]
    await eventually(both_work, seconds=60)
    await jobs.connection.execute(f"select app_jobs.pause({paused})")
    paused_at = time.monotonic()
    if paused != "everything := true":
        await jobs.until_gone(*others, seconds=60)
    await eventually(none_is_held, seconds=60)
    assert max((seconds for seconds, _ in since(paused_at)), default=0.0) < 1.0
    assert await jobs.count() > 0
    resumed_at = time.monotonic()
    await jobs.connection.execute(f"select app_jobs.resume({paused})")
    await eventually(all_work_again, seconds=60)
    assert min(seconds for seconds, _ in since(resumed_at)) < 1.0
