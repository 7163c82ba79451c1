"""Durable functions with their services, in all ways of delivery."""

import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from jobfn import FunctionApp, Task, create_app
from jobfn.in_process import local_settings, local_tasks
from jobfn.worker.settings import ServiceRole, ServiceSettings
from support.fixtures import Serve, StartService
from support.jobs import WORKER
from support.service import start_in_loop

#: Start a function app with these tasks and a service for it.
StartTasks = Callable[..., Awaitable[None]]


@pytest.fixture(params=["response", "report", "local"])
async def start_tasks(
    request: pytest.FixtureRequest, database: str, serve: Serve, start_service: StartService
) -> AsyncIterator[StartTasks]:
    """Deliver to tasks over HTTP, settled by response or report, or in the worker's process."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(*tasks: Task[..., object], **settings: object) -> None:
            app: FunctionApp = create_app(tasks=tasks)
            if request.param != "local":
                await start_service(await serve(app), settle_on=request.param, **settings)
                return
            options: dict[str, object] = {"database_url": database, "worker_id": WORKER}
            await start_in_loop(
                stack,
                local_settings(ServiceSettings.from_environ({}, **(options | settings)), app),
                roles=[ServiceRole.WORKER],
                deliverer_factory=functools.partial(local_tasks, app),
            )

        yield start
