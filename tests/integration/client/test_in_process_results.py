"""Results of tasks that run in the worker's process, without a callback server."""

import asyncio
from typing import Any

import asyncpg

from jobfn import create_app, task
from jobfn.database.connection import open_pool
from jobfn.database.open_store import open_store
from jobfn.in_process import local_settings, local_tasks
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.settlement import SettlementBatcher
from jobfn.worker.worker import Worker
from support.jobs import WORKER


@task("add_up", keep_result=True)
async def add_up(payload: list[int]) -> int:
    return sum(payload)


async def test_result_is_stored_without_a_report(database: str, connection: "asyncpg.Connection[Any]") -> None:
    job = await add_up.enqueue(connection, [1, 2])
    app = create_app(tasks=[add_up])
    settings = local_settings(ServiceSettings.from_environ({}, worker_id=WORKER, database_url=database), app)
    async with open_pool(database, application_name="test", size=3) as connections:
        store = await open_store(connections, "app_jobs")
        async with local_tasks(app, store, settings) as deliverer:
            wake_event, stop = asyncio.Event(), asyncio.Event()
            worker = Worker(
                store=store,
                settlements=SettlementBatcher(store),
                deliverer=deliverer,
                settings=settings,
                wake_event=wake_event,
            )
            running = asyncio.create_task(worker.run(stop))
            assert (await job.result(timeout=20)).value == 3
            stop.set()
            await running
