"""A function app and a service in the event loop of a test, with recorded spans and log lines."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from jobfn import create_app
from jobfn.function.settings import FunctionSettings
from jobfn.function.task import Task
from jobfn.http.server import bind
from jobfn.telemetry import logs
from jobfn.telemetry.tracing import Tracing
from jobfn.worker.settings import ServiceRole, ServiceSettings
from support.batch_function import RecordingProxy
from support.fixtures import Serve
from support.jobs import WORKER
from support.network import LOOPBACK, free_port
from support.observability import JOB_IDS, Deploy, Deployment, LogLines, Spans
from support.service import start_in_loop


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[LogLines]:
    """Record the log, as jobfn configures it. Afterwards, check that every line about a job has all of its ids."""
    for variable in ("LOG_LEVEL", "K_SERVICE", "K_REVISION"):
        monkeypatch.delenv(variable, raising=False)
    recorded = LogLines()
    logs.configure(stream=recorded.stream)
    yield recorded
    assert [line for line in recorded.all() if "job" in line and not line.keys() >= JOB_IDS] == []


@pytest.fixture
async def deploy(database: str, serve: Serve, spans: Spans) -> AsyncIterator[Deploy]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            *tasks: "Task[..., Any]",
            roles: tuple[ServiceRole, ...] = (),
            proxy: RecordingProxy | None = None,
            **settings: object,
        ) -> Deployment:
            app = create_app(tasks=tasks, settings=FunctionSettings(), tracer_provider=spans.provider)
            if proxy is not None:
                proxy.app = app
            function_url = await serve(proxy or app)
            listener = bind(LOOPBACK, 0)
            callback_url = f"http://{LOOPBACK}:{listener.getsockname()[1]}/callback"
            metrics_port = free_port()
            defaults: dict[str, object] = {
                "database_url": database,
                "gateway_url": function_url,
                "own_callback_url": callback_url,
                "worker_id": WORKER,
                "metrics_port": metrics_port,
                "metrics_host": LOOPBACK,
            }
            await start_in_loop(
                stack,
                ServiceSettings.from_environ({}, **(defaults | settings)),
                roles=roles,
                listener=listener,
                tracing=Tracing(spans.provider),
            )
            return Deployment(function_url, f"http://{LOOPBACK}:{metrics_port}/metrics", callback_url)

        yield start
