"""Quick jobs beside slow ones."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Sequence

import pytest

from jobfn import FunctionApp, create_app, task
from jobfn.database.records import Job
from jobfn.in_process import local_settings, local_tasks
from jobfn.worker.delivery import DeliveryResult, OnResult
from jobfn.worker.settings import ServiceRole, ServiceSettings
from support.fixtures import Serve, StartService
from support.jobs import TENANT, WORKER, Jobs
from support.network import eventually
from support.scripted_worker import ScriptedBatches, running_worker
from support.service import start_in_loop

OTHER_TENANT = "00000000-0000-4000-8000-000000000000"


class Gate:
    """An app with a slow task, whose jobs wait for ``opened``, and a quick one."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.slow_started = 0

        @task("slow")
        async def slow(payload: None) -> None:
            self.slow_started += 1
            await self.opened.wait()

        @task("quick")
        async def quick(payload: None) -> None:
            await asyncio.sleep(0.02)

        self.app: FunctionApp = create_app(tasks=[slow, quick])


@pytest.fixture(params=["http", "local"])
async def gate(
    request: pytest.FixtureRequest, database: str, serve: Serve, start_service: StartService, jobs: Jobs
) -> AsyncIterator[Gate]:
    """A gate, and a worker for its app with the default 16 slots, which starts when 200 slow jobs wait."""
    await jobs.connection.execute("select app_jobs.add_job('slow', 'null') from generate_series(1, 200)")
    await jobs.connection.execute("select app_jobs.add_job('quick', 'null') from generate_series(1, 200)")
    gate = Gate()
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "http":
            await start_service(await serve(gate.app))
        else:
            settings = ServiceSettings.from_environ({}, database_url=database, worker_id=WORKER)
            await start_in_loop(
                stack,
                local_settings(settings, gate.app),
                roles=[ServiceRole.WORKER],
                deliverer_factory=functools.partial(local_tasks, gate.app),
            )
        yield gate
        await jobs.connection.execute("delete from app_jobs.jobs where locked_at is null")
        gate.opened.set()
        await jobs.until_gone()


async def test_quick_jobs_run_in_the_slots_beside_slow_ones(gate: Gate, jobs: Jobs) -> None:
    """They need 2 s on 2 slots. The bound allows for a busy machine; one prefetched slow job made it 60 s and more."""

    async def no_quick_job_is_left() -> bool:
        return not await jobs.connection.fetchval(
            "select exists (select from app_jobs.jobs where task_identifier = 'quick')"
        )

    await eventually(no_quick_job_is_left, seconds=15)
    assert gate.slow_started == 14
    locked = await jobs.connection.fetchval("select count(*) from app_jobs.jobs where locked_at is not null")
    assert locked == 14, "no slow job was claimed that cannot start"


async def test_claimed_jobs_start_in_turns_of_their_tenants(database: str, jobs: Jobs) -> None:
    """Although one tenant's jobs are older, and claims return jobs in the order of their time."""

    async def no_batches(_jobs: Sequence[Job], _on_result: OnResult) -> None:
        raise AssertionError("first deliveries of a task are not batched")

    class Single(ScriptedBatches):
        all_started = asyncio.Event()

        def batch_size(self, _task: str, _share: int) -> int:
            return 1

        async def deliver(self, job: Job) -> DeliveryResult:
            if len(self.alone) == 3:
                self.all_started.set()
            return await super().deliver(job)

    ids = [
        await jobs.connection.fetchval("select (app_jobs.add_job($1::uuid, 'x')).id", tenant)
        for tenant in (TENANT, TENANT, OTHER_TENANT, OTHER_TENANT)
    ]
    deliverer = Single(no_batches)
    async with running_worker(database, deliverer, asyncio.Event(), concurrency=4):
        await deliverer.all_started.wait()
        deliverer.gate.set()
        await jobs.until_gone()
    assert deliverer.alone == [ids[0], ids[2], ids[1], ids[3]]
