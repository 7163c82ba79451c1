"""Quick jobs beside slow ones."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator

import pytest

from jobfn import FunctionApp, create_app, task
from jobfn.in_process import local_settings, local_tasks
from jobfn.worker.settings import ServiceRole, ServiceSettings
from support.fixtures import Serve, StartService
from support.jobs import WORKER, Jobs
from support.network import eventually
from support.service import start_in_loop


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
