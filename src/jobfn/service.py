"""The platform side in one process: worker, callback server and scheduler, or some of them, from the settings.

``jobfn service`` runs it, and so does ``python -m jobfn.service``, without a command-line library. ``--only`` runs
single parts, so that each can be scaled by itself.
"""

import argparse
import asyncio
import contextlib
import functools
import os
import socket
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any

import asyncpg

from jobfn.dashboard.settings import DashboardSettings
from jobfn.database.connection import pool
from jobfn.database.jobs import JobStore, open_store
from jobfn.errors import JobfnError
from jobfn.http.server import HttpServer, bind, run, stop_signals
from jobfn.scheduler.scheduler import CHANNEL as SCHEDULES_CHANNEL
from jobfn.scheduler.scheduler import Scheduler, open_poller
from jobfn.telemetry import logs, otel
from jobfn.telemetry.tracing import GLOBAL, Tracing
from jobfn.wire import redact_url
from jobfn.worker.callback_app import create_callback_app
from jobfn.worker.dispatch import Deliverer, Routes
from jobfn.worker.http_dispatch import callback_tokens, http_dispatcher
from jobfn.worker.listener import CHANNEL as JOBS_CHANNEL
from jobfn.worker.listener import Listener
from jobfn.worker.maintenance.tasks import Role, maintenance_tasks
from jobfn.worker.settings import ServiceRole, ServiceSettings
from jobfn.worker.settlement import SettlementBatcher
from jobfn.worker.telemetry.instrumented_callbacks import ObservedCallbacks
from jobfn.worker.telemetry.instrumented_deliveries import ObservedDeliveries
from jobfn.worker.telemetry.metrics import WorkerMetrics
from jobfn.worker.telemetry.metrics_server import metrics_server
from jobfn.worker.telemetry.settlement_log import SettlementObserver
from jobfn.worker.worker import Worker

#: Claims, settlements, the look at the next delayed job, the scheduler's transaction, and one to spare.
POOL_SIZE = 5
#: Functions on other machines report here.
ANY_ADDRESS = "0.0.0.0"  # noqa: S104

#: Opens what takes jobs to their tasks, instead of HTTP.
DelivererFactory = Callable[[JobStore, ServiceSettings], contextlib.AbstractAsyncContextManager[Deliverer]]


async def run_service(
    settings: ServiceSettings,
    stop: asyncio.Event,
    *,
    only: Collection[ServiceRole] = (),
    listener: socket.socket | None = None,
    started: Callable[[], None] | None = None,
    deliverer: DelivererFactory | None = None,
    tracing: Tracing = GLOBAL,
    dashboard: DashboardSettings | None = None,
) -> None:
    """Run the platform side until ``stop`` is set, and leave no job and no schedule locked.

    Args:
        settings: How.
        stop: Set it to end.
        only: Which parts. Default: all of them.
        listener: A bound socket for the callback server, closed at the end. Default: one on every
            address, at the settings' port.
        deliverer: Takes jobs to their tasks. Default: HTTP, as the settings say.
        started: Called when the callback server accepts reports, and worker and scheduler are at work.
        tracing: Makes spans. Default: with the process's tracer provider, if it has one.
        dashboard: Serve the dashboard too, so. Default: none.

    Raises:
        DatabaseUnreachable: No connection at the start; later ones are waited for.
        SchemaError: The database has no jobs schema, or one that is out of date.
        ConfigurationError: The callback port, or the dashboard's, cannot be had.
    """
    parts = frozenset(only) or frozenset(ServiceRole)
    async with contextlib.AsyncExitStack() as stack:
        if ServiceRole.CALLBACKS in parts:
            listener = listener or bind(ANY_ADDRESS, settings.callback_port)
            # port 0 took any free one, and that is where functions are to report
            settings = settings.model_copy(update={"callback_port": listener.getsockname()[1]})
        if listener is not None:
            stack.enter_context(contextlib.closing(listener))
        connections = await stack.enter_async_context(
            pool(settings.database_url, application_name="jobfn-service", size=POOL_SIZE)
        )
        measures = WorkerMetrics(slots=settings.concurrency if ServiceRole.WORKER in parts else 0)
        store = await open_store(connections, settings.schema_name, on_ending=SettlementObserver(measures))
        roles: list[Role] = []
        worker: Worker | None = None
        if parts & {ServiceRole.WORKER, ServiceRole.CALLBACKS}:
            worker = await _worker_and_callbacks(
                settings,
                connections,
                stack,
                parts,
                store=store,
                measures=measures,
                listener=listener,
                open_deliverer=deliverer,
                tracing=tracing,
            )
        elif settings.metrics_port is not None:
            await stack.enter_async_context(metrics_server(settings, measures))
        if worker is not None:
            roles.append(worker.run)
        if ServiceRole.SCHEDULER in parts:
            roles.append(await _scheduler(settings, connections, stack))
        roles += await maintenance_tasks(
            settings, parts, connections=connections, store=store, measures=measures, worker=worker
        )
        if dashboard is not None:
            await _dashboard(settings, dashboard, stack)
        if started is not None:
            roles.append(functools.partial(_notify_ready, started, None if worker is None else worker.at_work))
        await _run_all(roles, stop)


async def _scheduler(
    settings: ServiceSettings, connections: "asyncpg.Pool[Any]", stack: contextlib.AsyncExitStack
) -> Role:
    poller = await open_poller(
        connections,
        settings.schema_name,
        scheduler_id=settings.scheduler_id,
        tasks=settings.tasks,
        takeover_seconds=settings.takeover_seconds,
    )
    bell = asyncio.Event()
    _listen(settings, bell, stack, channel=SCHEDULES_CHANNEL)
    return Scheduler(poller, wake_event=bell, poll_interval_seconds=settings.poll_interval_seconds).run


async def _dashboard(settings: ServiceSettings, dashboard: DashboardSettings, stack: contextlib.AsyncExitStack) -> None:
    from jobfn.dashboard.server import serving  # noqa: PLC0415  - templates and schemas, which most services do without

    url = await stack.enter_async_context(
        serving(
            dashboard,
            database_url=settings.database_url,
            schema=settings.schema_name,
            routes=Routes(settings.gateway_url, settings.development_map),
        )
    )
    logs.get_logger("jobfn.dashboard").info("dashboard", url=url, read_only=dashboard.read_only)


async def _worker_and_callbacks(
    settings: ServiceSettings,
    connections: "asyncpg.Pool[Any]",
    stack: contextlib.AsyncExitStack,
    parts: Collection[ServiceRole],
    *,
    store: JobStore,
    measures: WorkerMetrics,
    listener: socket.socket | None,
    open_deliverer: DelivererFactory | None,
    tracing: Tracing,
) -> Worker | None:
    """Set both up, or one of them; the callback server serves until the stack unwinds, longer than the worker works."""
    settler = SettlementBatcher(store, committed=measures.committed)
    tokens = callback_tokens(settings)
    worker: Worker | None = None
    if ServiceRole.WORKER in parts:
        bell = asyncio.Event()
        open_deliverer = open_deliverer or functools.partial(http_dispatcher, tokens, tracing)
        deliverer = await stack.enter_async_context(open_deliverer(store, settings))
        worker = Worker(
            store=store,
            settler=settler,
            deliverer=ObservedDeliveries(deliverer, worker_id=settings.worker_id, measures=measures, tracing=tracing),
            settings=settings,
            bell=bell,
            measures=measures,
        )
        _listen(settings, bell, stack)
    stack.push_async_callback(settler.drain)
    if ServiceRole.CALLBACKS in parts and listener is not None:
        callbacks = ObservedCallbacks(
            settler,
            store,
            lease_seconds=settings.lease_seconds,
            tokens=tokens,
            settled=worker.heard if worker is not None else None,
            known=worker.known if worker is not None else None,
            measures=measures,
            tracing=tracing,
        )
        server = HttpServer(
            create_callback_app(callbacks),
            listener,
            shutdown_timeout_seconds=settings.shutdown_timeout_seconds,
            lifespan=False,
        )
        await server.start()
        stack.push_async_callback(server.stop)
        logs.get_logger("jobfn.service").info(
            "hearing reports", port=server.port, callback_url=redact_url(settings.callback_url)
        )
    if settings.metrics_port is not None:
        await stack.enter_async_context(metrics_server(settings, measures, store, connections))
    return worker


def _listen(
    settings: ServiceSettings, bell: asyncio.Event, stack: contextlib.AsyncExitStack, *, channel: str = JOBS_CHANNEL
) -> None:
    listening = asyncio.create_task(Listener(settings.database_url, bell, channel=channel).run())

    async def end() -> None:
        listening.cancel()
        await asyncio.wait({listening})

    stack.push_async_callback(end)


async def _notify_ready(started: Callable[[], None], at_work: asyncio.Event | None, ending: asyncio.Event) -> None:
    """Call ``started`` once the worker is at work, if there is one. It may wait for its database before that."""
    ended = asyncio.create_task(ending.wait())
    if at_work is not None:
        working = asyncio.create_task(at_work.wait())
        await asyncio.wait({working, ended}, return_when=asyncio.FIRST_COMPLETED)
        working.cancel()
    if not ending.is_set():
        started()
    await ended


async def _run_all(roles: Sequence[Role], stop: asyncio.Event) -> None:
    """Run all roles until ``stop`` is set, or until one of them ends: then the others wind down too."""
    ending = asyncio.Event()
    running = [asyncio.create_task(role(ending)) for role in roles]
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({stopped, *running}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        ending.set()
        ends = await asyncio.gather(*running, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end


def main(arguments: Sequence[str]) -> int:
    """``python -m jobfn.service``: run until SIGTERM or SIGINT. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobfn.service", description="Run the platform side.")
    parser.add_argument(
        "--only",
        type=ServiceRole,
        choices=list(ServiceRole),
        action="append",
        default=[],
        help="Only this part; repeatable.",
    )
    parser.add_argument("--dashboard", action="store_true", help="Serve the dashboard too; see JOBFN_DASHBOARD_*.")
    given = parser.parse_args(arguments)

    async def until_stopped(settings: ServiceSettings) -> None:
        with stop_signals() as stop:
            dashboard = DashboardSettings.from_environ(os.environ) if given.dashboard else None
            await run_service(settings, stop, only=given.only, dashboard=dashboard)

    try:
        logs.configure()
        otel.configure(os.environ, role="jobfn-service")
        run(until_stopped(ServiceSettings.from_environ(os.environ)))
    except JobfnError as error:
        sys.stderr.write(f"jobfn: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
