"""A worker whose batches return jobs, or break."""

import asyncio
from collections.abc import Sequence

from jobfn.database.records import Job, Settlement
from jobfn.worker.delivery import NotStarted, OnResult, Succeeded
from jobfn.worker.worker import Worker
from support.jobs import WORKER, Jobs
from support.network import eventually
from support.scripted_worker import ScriptedBatches, running_worker


async def add_three(jobs: Jobs) -> list[int]:
    rows = await jobs.connection.fetch("select (app_jobs.add_job('t')).id from generate_series(1, 3)")
    return [row["id"] for row in rows]


async def test_unexpected_error_in_a_batch_abandons_only_jobs_without_a_result(jobs: Jobs, database: str) -> None:
    async def break_off(batch: Sequence[Job], on_result: OnResult) -> None:
        on_result(batch[0], Succeeded())
        on_result(batch[1], NotStarted())
        raise RuntimeError("unexpected")

    first, returned, lost = await add_three(jobs)
    deliverer = ScriptedBatches(break_off)
    async with running_worker(database, deliverer, asyncio.Event()) as worker:
        await jobs.until_gone(first)

        async def lost_one_is_abandoned() -> bool:
            return worker.find(lost) is None

        await eventually(lost_one_is_abandoned)
        assert (deliverer.alone, worker.in_flight) == ([returned], 1)
        deliverer.gate.set()
        await jobs.until_gone(returned)
        assert await jobs.values(lost, "locked_by", "attempts") == (WORKER, 1)


async def test_job_that_was_not_started_is_released_if_no_slot_is_free(jobs: Jobs, database: str) -> None:
    """At once, although the worker polls once an hour: another one could run it."""
    give_back, finish = asyncio.Event(), asyncio.Event()

    async def return_two(batch: Sequence[Job], on_result: OnResult) -> None:
        await give_back.wait()
        for job in batch[1:]:
            on_result(job, NotStarted())
        await finish.wait()
        on_result(batch[0], Succeeded())

    ids = await add_three(jobs)
    deliverer = ScriptedBatches(return_two)
    wake_event = asyncio.Event()
    async with running_worker(database, deliverer, wake_event, concurrency=3, poll_interval_seconds=3600.0):
        await deliverer.batch_started.wait()
        retries = "insert into app_jobs.jobs (task_identifier, attempts) values ('t', 1), ('t', 1) returning id"
        others = [row["id"] for row in await jobs.connection.fetch(retries)]
        wake_event.set()

        async def all_slots_are_occupied() -> bool:
            return deliverer.alone == others

        await eventually(all_slots_are_occupied)
        give_back.set()

        async def two_are_released() -> bool:
            rows = await jobs.connection.fetch("select id from app_jobs.jobs where locked_by is null and attempts = 0")
            return [row["id"] for row in rows] == ids[1:]

        await eventually(two_are_released)
        assert deliverer.alone == others
        finish.set()
        deliverer.gate.set()
        await jobs.until_gone()


async def test_report_settles_a_job_that_its_function_returns(jobs: Jobs, database: str) -> None:
    """For example if the function has reported it, and a proxy has repeated the request."""
    workers: list[Worker] = []
    returned = asyncio.Event()

    async def report_then_return(batch: Sequence[Job], on_result: OnResult) -> None:
        for job in batch:
            await jobs.complete(job.id)
            workers[0].on_report(Settlement(WORKER, job.id, job.attempt))
            on_result(job, NotStarted())
        returned.set()

    ids = await add_three(jobs)
    deliverer, wake_event = ScriptedBatches(report_then_return), asyncio.Event()
    async with running_worker(database, deliverer, wake_event, concurrency=3) as worker:
        workers.append(worker)
        await asyncio.wait_for(returned.wait(), 10)
        assert [worker.find(job) for job in ids] == [None] * 3
    assert (deliverer.alone, await jobs.count()) == ([], 0)
