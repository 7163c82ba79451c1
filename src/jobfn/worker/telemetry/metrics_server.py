"""``GET /metrics`` of the platform side, on a separate port, because the callback server's may be public.

It serves the metrics of the process (``metrics.py``), the depth of the queue (``database/queue_depth.py``), the usage
of limits (``database/limit_usage.py``), and Prometheus' process metrics.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import asyncpg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from jobfn.database.connection import RECONNECTS
from jobfn.database.horizon import KINDS, HorizonHolder, HorizonReader
from jobfn.database.limit_usage import LimitUsage, LimitUsageReader
from jobfn.database.platform_store import PlatformJobStore
from jobfn.database.queue_depth import QueueDepth, QueueDepthReader
from jobfn.database.store import JobStore
from jobfn.http.server import HttpServer, bind
from jobfn.telemetry import logs
from jobfn.telemetry.metrics import MAX_LABEL_VALUES, OVERFLOW_LABEL, Metric
from jobfn.telemetry.prometheus import scrape
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.telemetry.metrics import WorkerMetrics

_RECONNECTS = Metric(
    "jobfn_database_reconnects_total",
    "Calls and listeners that lost the database and reconnected.",
    (),
    RECONNECTS,
)


class DatabaseMetrics:
    """The metrics of a database, its queue and its oldest transactions. Without a pool, only those of the process."""

    def __init__(
        self,
        settings: ServiceSettings,
        metrics: WorkerMetrics,
        store: JobStore | None = None,
        pool: "asyncpg.Pool[Any] | None" = None,
    ) -> None:
        self._metrics = metrics
        self._depth = self._horizon = self._limits = None
        if pool is not None:
            clock = asyncio.get_running_loop().time
            self._horizon = HorizonReader(pool, settings.schema_name, clock=clock)
            is_platform = isinstance(store, PlatformJobStore)
            self._depth = QueueDepthReader(pool, settings.schema_name, is_platform=is_platform, clock=clock)
            if not is_platform:
                self._limits = LimitUsageReader(pool, settings.schema_name, clock=clock)

    async def collect(self) -> list[Metric]:
        """Return all metrics, for a scrape."""
        queue = [] if self._depth is None else queue_metrics(await self._depth.read())
        horizon = [] if self._horizon is None else _horizon_metrics(await self._horizon.read())
        limits = [] if self._limits is None else limit_metrics(await self._limits.read())
        return [*self._metrics.collect(), *queue, *limits, *horizon]


@contextlib.asynccontextmanager
async def metrics_server(
    settings: ServiceSettings, collect: Callable[[], Awaitable[list[Metric]]]
) -> AsyncIterator[None]:
    """Serve metrics on the settings' port until the end of the block.

    Raises:
        ConfigurationError: The port is not available.
    """
    listener = bind(settings.metrics_host, settings.metrics_port or 0, option="JOBS_METRICS_PORT")
    server = HttpServer(create_metrics_app(collect), listener, shutdown_timeout_seconds=1, lifespan=False)
    await server.start()
    logs.get_logger("jobfn.service").info("metrics server started", port=server.port)
    try:
        yield
    finally:
        await server.stop()


def create_metrics_app(collect: Callable[[], Awaitable[list[Metric]]]) -> Starlette:
    """Create an ASGI app that responds to ``GET /metrics`` and ``GET /healthz``."""

    async def get_metrics(_request: Request) -> Response:
        return scrape([*await collect(), _RECONNECTS])

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok")

    return Starlette(
        routes=[Route("/metrics", get_metrics, methods=["GET"]), Route("/healthz", healthz, methods=["GET"])]
    )


def queue_metrics(depth: QueueDepth | None) -> list[Metric]:
    """Return the metrics of the queue; None: the database is not reachable.

    All processes on one schema expose the same: use the maximum, not the sum.
    """
    is_up = Metric("jobfn_database_up", "Whether the database is reachable.", (), {(): float(depth is not None)})
    if depth is None:
        return [is_up]
    states = {
        "ready": depth.ready,
        "delayed": depth.delayed,
        "held": depth.held,
        "parked": depth.parked,
        "running": depth.running,
        "failed": depth.failed,
        "cancelled": depth.cancelled,
        "expired": depth.expired,
    }
    return [
        is_up,
        Metric(
            "jobfn_queue_jobs",
            "Jobs of this schema, by state; failed: permanently failed.",
            ("state",),
            {(state,): float(jobs) for state, jobs in states.items()},
        ),
        Metric(
            "jobfn_queue_oldest_ready_seconds",
            "Time since the oldest ready job was due, in seconds.",
            (),
            {(): depth.oldest_ready_seconds},
        ),
        Metric(
            "jobfn_schedules",
            "Schedules, by state; broken: the rule is invalid, or the last job could not be added.",
            ("state",),
            {
                ("active",): float(depth.active_schedules),
                ("paused",): float(depth.paused_schedules),
                ("broken",): float(depth.broken_schedules),
            },
        ),
        Metric("jobfn_pauses", "Pauses of tasks, queues, tenants or everything.", (), {(): float(depth.pauses)}),
    ]


def limit_metrics(limits: Sequence[LimitUsage]) -> list[Metric]:
    """Return the metrics of the first ``MAX_LABEL_VALUES`` limits by name, and of the others together."""
    first = limits[:MAX_LABEL_VALUES]
    running: dict[tuple[str, ...], float] = {}
    held, paused = dict(running), dict(running)
    for position, limit in enumerate(limits):
        label = (limit.name if position < MAX_LABEL_VALUES else OVERFLOW_LABEL,)
        running[label] = running.get(label, 0.0) + limit.running
        held[label] = held.get(label, 0.0) + limit.held
        paused[label] = paused.get(label, 0.0) + limit.paused_keys
    slots: dict[tuple[str, ...], float] = {(each.name,): float(each.slots) for each in first if each.slots is not None}
    return [
        Metric("jobfn_limit_running", "Running jobs that have a slot of a limit.", ("limit",), running),
        Metric("jobfn_limit_slots", "Slots of a limit: of each key, if it counts by one.", ("limit",), slots),
        Metric("jobfn_limit_held", "Jobs that are due, and that a limit holds back.", ("limit",), held),
        Metric("jobfn_limit_paused_keys", "Keys of a limit that are paused.", ("limit",), paused),
    ]


def _horizon_metrics(holders: list[HorizonHolder] | None) -> list[Metric]:
    """Return the age of what keeps vacuum from removing dead rows, by its kind."""
    if holders is None:
        return []
    seconds: dict[tuple[str, ...], float] = dict.fromkeys([(kind,) for kind in KINDS], 0.0)
    ages = dict(seconds)
    for holder in holders:
        seconds[holder.kind,] = max(seconds[holder.kind,], holder.seconds or 0.0)
        ages[holder.kind,] = max(ages[holder.kind,], float(holder.transactions))
    return [
        Metric(
            "jobfn_oldest_transaction_seconds",
            "Age of the oldest transaction, in seconds; 0 for slots and standbys, whose age in seconds is not known.",
            ("holder",),
            seconds,
        ),
        Metric(
            "jobfn_oldest_transaction_xids",
            "How many transactions began since the oldest snapshot that keeps vacuum from removing dead rows.",
            ("holder",),
            ages,
        ),
    ]
