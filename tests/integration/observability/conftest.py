"""A whole path in the test's loop, with its spans and its log lines kept."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import structlog

from jobfn import FunctionApp, create_app
from jobfn.function.settings import FunctionSettings
from jobfn.function.task import Task
from jobfn.http.server import bind
from jobfn.service import run_service
from jobfn.telemetry import logs
from jobfn.telemetry.tracing import Tracing
from jobfn.worker.settings import ServiceRole, ServiceSettings
from support.fixtures import Serve
from support.functions import RecordingFunction
from support.jobs import WORKER
from support.network import LOOPBACK, free_port
from support.observability import JOB_IDS, Lines, Path, Spans, StartPath


@pytest.fixture
def function() -> RecordingFunction:
    return RecordingFunction()


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """Logging as a process of ours has it, into the test's hands. No line about a job may lack one of its five ids."""
    for variable in ("LOG_LEVEL", "K_SERVICE", "K_REVISION"):
        monkeypatch.delenv(variable, raising=False)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    kept = Lines()
    logs.configure(stream=kept.stream)
    yield kept
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    assert [line for line in kept.all() if "job" in line and not line.keys() >= JOB_IDS] == []


@pytest.fixture
async def start_path(database: str, serve: Serve, spans: Spans) -> AsyncIterator[StartPath]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(*tasks: "Task[..., Any]", only: tuple[ServiceRole, ...] = (), **settings: object) -> Path:
            app: FunctionApp = create_app(tasks=tasks, settings=FunctionSettings(), tracer_provider=spans.provider)
            function_url = await serve(app)
            listener = bind(LOOPBACK, 0)
            callback_url = f"http://{LOOPBACK}:{listener.getsockname()[1]}/callback"
            port = free_port()
            values: dict[str, object] = {
                "database_url": database,
                "gateway_url": function_url,
                "own_callback_url": callback_url,
                "worker_id": WORKER,
                "metrics_port": port,
                "metrics_host": LOOPBACK,
            }
            stop, started = asyncio.Event(), asyncio.Event()
            running = asyncio.create_task(
                run_service(
                    ServiceSettings.from_environ({}, **(values | settings)),
                    stop,
                    roles=only,
                    listener=listener,
                    on_ready=started.set,
                    tracing=Tracing(spans.provider),
                )
            )
            starting = asyncio.create_task(started.wait())
            await asyncio.wait({running, starting}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                starting.cancel()
                running.result()

            async def end() -> None:
                stop.set()
                await running

            stack.push_async_callback(end)
            return Path(function_url, f"http://{LOOPBACK}:{port}/metrics", callback_url)

        yield start
