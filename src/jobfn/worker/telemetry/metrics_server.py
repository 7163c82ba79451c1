"""``GET /metrics`` of the platform side: on a port of its own, since strangers may reach the callback server's.

What the process counted (``measures.py``), how deep the queue is (``database/depth.py``), and what the process is like.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from jobfn.database.connection import RECONNECTS
from jobfn.database.jobs import JobStore, PlatformJobStore
from jobfn.database.queue_depth import Depth, DepthReader
from jobfn.http.server import HttpServer, bind
from jobfn.telemetry import logs
from jobfn.telemetry.metrics import Metric
from jobfn.telemetry.prometheus import scrape
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.telemetry.metrics import WorkerMetrics


@contextlib.asynccontextmanager
async def metrics_server(
    settings: ServiceSettings,
    measures: WorkerMetrics,
    store: JobStore | None = None,
    pool: "asyncpg.Pool[Any] | None" = None,
) -> AsyncIterator[None]:
    """Answer scrapes at the settings' port, for as long as the block runs.

    Args:
        settings: Where; the port is set.
        measures: What this process counts.
        store: Whose queue's depth is shown. Default: nobody's.
        pool: Connections, for that.

    Raises:
        ConfigurationError: The port cannot be had.
    """
    depth = None
    if pool is not None:
        clock = asyncio.get_running_loop().time
        is_platform = isinstance(store, PlatformJobStore)
        depth = DepthReader(pool, settings.schema_name, is_platform=is_platform, clock=clock)
    listener = bind(settings.metrics_host, settings.metrics_port or 0)
    server = HttpServer(create_metrics_app(measures, depth), listener, shutdown_timeout_seconds=1, lifespan=False)
    await server.start()
    logs.get_logger("jobfn.service").info("showing metrics", port=server.port)
    try:
        yield
    finally:
        await server.stop()


def create_metrics_app(measures: WorkerMetrics, depth: DepthReader | None) -> Starlette:
    """Make the ASGI app.

    Args:
        measures: What this process counts.
        depth: What the database says; None: this process does not ask.

    Returns:
        A Starlette app that answers ``GET /metrics``, and ``GET /healthz`` for whoever watches the port.
    """

    async def metrics(_request: Request) -> Response:
        asked = [] if depth is None else _families(await depth.read())
        return scrape([*measures.families(), _RECONNECTS, *asked])

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/metrics", metrics, methods=["GET"]), Route("/healthz", healthz, methods=["GET"])])


_RECONNECTS = Metric(
    "jobfn_database_reconnects_total", "Calls and listeners that lost the database and found it again.", (), RECONNECTS
)


def _families(depth: Depth | None) -> list[Metric]:
    """What the database says. All processes on one schema say the same: take the maximum, not the sum."""
    found = [
        Metric("jobfn_database_up", "Whether the database was asked and answered.", (), {(): float(depth is not None)})
    ]
    if depth is None:
        return found
    states = {"ready": depth.ready, "delayed": depth.delayed, "running": depth.running, "failed": depth.failed}
    return [
        *found,
        Metric(
            "jobfn_queue_jobs",
            "Jobs of this schema, by what they are doing; failed: out of attempts.",
            ("state",),
            {(state,): float(jobs) for state, jobs in states.items()},
        ),
        Metric(
            "jobfn_queue_oldest_ready_seconds",
            "For how long the oldest ready job has been due, in seconds.",
            (),
            {(): depth.oldest_ready_seconds},
        ),
    ]
