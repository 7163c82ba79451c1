"""The platform side in one process: worker, callback server and scheduler, or some of them.

``jobfn service`` runs it, and so does ``python -m jobfn.service``, without a command-line library. ``--only`` runs
single roles, so that each can be scaled separately.
"""

import argparse
import asyncio
import contextlib
import functools
import os
import socket
import sys
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any

try:
    import asyncpg
except ImportError:
    if __name__ != "__main__":
        raise
    sys.stderr.write("jobfn: the service is not installed: pip install 'jobfn[worker]'\n")
    sys.exit(2)

from jobfn.dashboard.settings import DashboardSettings
from jobfn.database.connection import open_pool, retry, wait_for_database
from jobfn.database.graph_functions import open_graph_store
from jobfn.database.open_store import open_store
from jobfn.database.permissions import explain_denied_in_pool
from jobfn.database.store import JobStore
from jobfn.errors import JobfnError
from jobfn.http.server import HttpServer, bind, run, stop_signals
from jobfn.scheduler.scheduler import CHANNEL as SCHEDULES_CHANNEL
from jobfn.scheduler.scheduler import Scheduler, open_poller
from jobfn.telemetry import logs, otel
from jobfn.telemetry.misspelt_settings import warn_of_misspelt
from jobfn.telemetry.tracing import GLOBAL, Tracing
from jobfn.wire import redact_url
from jobfn.worker.callback_app import create_callback_app
from jobfn.worker.callbacks import Callbacks
from jobfn.worker.delivery import Deliverer
from jobfn.worker.http_dispatch import callback_tokens, http_dispatcher
from jobfn.worker.listen_url import StartListener, listener_starter
from jobfn.worker.listener import CHANNEL as JOBS_CHANNEL
from jobfn.worker.maintenance.tasks import maintenance_tasks
from jobfn.worker.routes import Routes
from jobfn.worker.settings import ServiceRole, ServiceSettings
from jobfn.worker.settlement import SettlementBatcher
from jobfn.worker.telemetry.instrumented_callbacks import InstrumentedCallbacks
from jobfn.worker.telemetry.instrumented_deliveries import InstrumentedDeliverer
from jobfn.worker.telemetry.metrics import WorkerMetrics
from jobfn.worker.telemetry.metrics_server import metrics_server
from jobfn.worker.telemetry.settlement_log import SettlementObserver
from jobfn.worker.worker import Worker

#: One connection each for claims, settlements, the next delayed job and the scheduler, and a spare one.
POOL_SIZE = 5
#: Functions on other hosts report here.
ANY_ADDRESS = "0.0.0.0"  # noqa: S104

#: Opens a deliverer.
DelivererFactory = Callable[[JobStore, ServiceSettings], contextlib.AbstractAsyncContextManager[Deliverer]]
#: Runs until the event is set, then shuts down.
_ServiceTask = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


async def run_service(
    settings: ServiceSettings,
    stop: asyncio.Event,
    *,
    roles: Collection[ServiceRole] = (),
    listener: socket.socket | None = None,
    on_ready: Callable[[], None] | None = None,
    deliverer_factory: DelivererFactory | None = None,
    tracing: Tracing = GLOBAL,
    dashboard: DashboardSettings | None = None,
    answers_probes: bool = False,
) -> None:
    """Run the platform side until ``stop`` is set.

    Afterwards no schedule is locked, and no job except those that functions have accepted (202).

    Args:
        settings: The settings.
        stop: The event that stops it.
        roles: The roles to run. Default: all.
        listener: A bound socket for the callback server, which is closed at the end. Default: the settings' port on
            every address.
        on_ready: Called when the callback server accepts reports, and worker and scheduler run.
        deliverer_factory: Opens what delivers jobs to their tasks. Default: HTTP.
        tracing: Creates spans. Default: uses the process's tracer provider, if it has one.
        dashboard: Settings of the dashboard. Default: not served.
        answers_probes: Whether to answer health probes on the settings' port.

    Raises:
        DatabaseUnreachable: There was no connection within ``database_wait_seconds``. Later, lost ones are reopened.
        SchemaError: The database has no jobs schema, or an outdated one.
        PermissionDenied: The role lacks a right.
        ConfigurationError: A port is not available.
    """
    active = frozenset(roles) or frozenset(ServiceRole)
    _warn_without_tasks(settings, active)
    async with contextlib.AsyncExitStack() as stack:
        if ServiceRole.CALLBACKS in active:
            listener = listener or bind(ANY_ADDRESS, settings.callback_port)
            # With port 0, the callback URL needs the port that was chosen.
            settings = settings.model_copy(update={"callback_port": listener.getsockname()[1]})
        if listener is not None:
            stack.enter_context(contextlib.closing(listener))
        ready = asyncio.Event()
        if answers_probes:
            from jobfn.worker.health import health_server  # noqa: PLC0415  - not for jobfn dev

            is_ready = lambda: ready.is_set() and not stop.is_set()  # noqa: E731
            await stack.enter_async_context(health_server(settings.health_port, is_ready))
        if not await wait_for_database(
            settings.database_url,
            application_name="jobfn-service",
            seconds=settings.database_wait_seconds,
            stop=stop,
        ):
            return
        connections = await stack.enter_async_context(
            open_pool(
                settings.database_url,
                application_name="jobfn-service",
                size=POOL_SIZE,
                statement_timeout_seconds=settings.statement_timeout_seconds,
                needs_primary=True,
            )
        )
        await stack.enter_async_context(explain_denied_in_pool(connections, settings.schema_name, grant="worker"))
        start_listener = (
            None if active == {ServiceRole.CALLBACKS} else await listener_starter(settings, connections, stack)
        )
        metrics = WorkerMetrics(concurrency=settings.concurrency if ServiceRole.WORKER in active else 0)
        store = await retry(
            lambda: open_store(
                connections,
                settings.schema_name,
                queues=settings.queue_names if ServiceRole.WORKER in active else None,
                on_settled=SettlementObserver(metrics),
            ),
            event="service not started",
            only_transient=True,
        )
        tasks: list[_ServiceTask] = []
        worker: Worker | None = None
        routes = await _open_routes(settings, connections, tasks)
        if active != {ServiceRole.SCHEDULER}:
            worker = await _start_worker_and_callbacks(
                settings,
                stack,
                active,
                connections=connections,
                routes=routes,
                store=store,
                metrics=metrics,
                tracing=tracing,
                listener=listener,
                deliverer_factory=deliverer_factory,
                start_listener=start_listener,
            )
        if settings.metrics_port is not None:
            has_queue = active != {ServiceRole.SCHEDULER}
            await stack.enter_async_context(
                metrics_server(settings, metrics, store, connections if has_queue else None)
            )
        if worker is not None:
            tasks.append(worker.run)
        if ServiceRole.SCHEDULER in active:
            tasks.append(await _start_scheduler(settings, connections, start_listener))
        tasks += await maintenance_tasks(
            settings, active, connections=connections, store=store, metrics=metrics, worker=worker
        )
        if dashboard is not None:
            await _start_dashboard(settings, dashboard, stack, routes)
        callbacks = [ready.set] if on_ready is None else [ready.set, on_ready]
        tasks.append(functools.partial(_notify_ready, callbacks, None if worker is None else worker.ready))
        await _run_all(tasks, stop)


def _warn_without_tasks(settings: ServiceSettings, active: Collection[ServiceRole]) -> None:
    if settings.tasks == [] and active != {ServiceRole.CALLBACKS}:
        logs.get_logger("jobfn.service").warning(
            "no job is run: JOBS_SUPPORT_ANY is false and JOBS_SUPPORTED is empty. List the tasks in JOBS_SUPPORTED"
        )


async def _start_worker_and_callbacks(
    settings: ServiceSettings,
    stack: contextlib.AsyncExitStack,
    roles: Collection[ServiceRole],
    *,
    connections: "asyncpg.Pool[Any]",
    routes: Routes,
    store: JobStore,
    metrics: WorkerMetrics,
    tracing: Tracing,
    listener: socket.socket | None,
    deliverer_factory: DelivererFactory | None,
    start_listener: StartListener | None,
) -> Worker | None:
    """Create the worker and start the callback server, which runs until the stack unwinds, after the worker."""
    if ServiceRole.WORKER in roles:
        plain_store = store
        store = await retry(
            lambda: open_graph_store(
                plain_store, connections, settings.schema_name, on_settled=SettlementObserver(metrics)
            ),
            event="service not started",
            only_transient=True,
        )
    settlements = SettlementBatcher(store, on_commit=metrics.record_commit)
    tokens = await callback_tokens(settings, store)
    worker: Worker | None = None
    if ServiceRole.WORKER in roles:
        wake_event = asyncio.Event()
        deliverer_factory = deliverer_factory or functools.partial(http_dispatcher, routes, tokens, tracing)
        deliverer = await stack.enter_async_context(deliverer_factory(store, settings))
        worker = Worker(
            store=store,
            settlements=settlements,
            deliverer=InstrumentedDeliverer(deliverer, worker_id=settings.worker_id, metrics=metrics, tracing=tracing),
            settings=settings,
            wake_event=wake_event,
            metrics=metrics,
        )
        if start_listener is not None:
            start_listener(JOBS_CHANNEL, wake_event)
    stack.push_async_callback(settlements.drain)
    if ServiceRole.CALLBACKS in roles and listener is not None:
        callbacks = Callbacks(
            settlements,
            store,
            lease_seconds=settings.lease_seconds,
            tokens=tokens,
            on_report=worker.on_report if worker is not None else None,
        )
        find_job = worker.find if worker is not None else None
        app = create_callback_app(InstrumentedCallbacks(callbacks, metrics=metrics, tracing=tracing, find_job=find_job))
        server = HttpServer(app, listener, shutdown_timeout_seconds=settings.shutdown_timeout_seconds, lifespan=False)
        await server.start()
        stack.push_async_callback(server.stop)
        callback_url = redact_url(settings.callback_url)
        logs.get_logger("jobfn.service").info("callback server started", port=server.port, callback_url=callback_url)
    return worker


async def _open_routes(
    settings: ServiceSettings, connections: "asyncpg.Pool[Any]", tasks: list[_ServiceTask]
) -> Routes:
    """Return the routes, and add the task that reads the table of function definitions, if there is one."""
    routes = Routes.from_settings(settings)
    if (name := settings.function_definitions) is not None:
        from jobfn.worker.function_urls import open_function_urls  # noqa: PLC0415  - only with the setting

        urls = await retry(
            lambda: open_function_urls(connections, name, routes), event="service not started", only_transient=True
        )
        if urls is not None:
            tasks.append(urls.run)
    return routes


async def _start_scheduler(
    settings: ServiceSettings, connections: "asyncpg.Pool[Any]", start_listener: StartListener | None
) -> _ServiceTask:
    poller = await retry(
        lambda: open_poller(
            connections,
            settings.schema_name,
            scheduler_id=settings.scheduler_id,
            tasks=settings.tasks,
            takeover_seconds=settings.takeover_seconds,
        ),
        event="scheduler not started",
        only_transient=True,
    )
    wake_event = asyncio.Event()
    if start_listener is not None:
        start_listener(SCHEDULES_CHANNEL, wake_event)
    return Scheduler(poller, wake_event=wake_event, poll_interval_seconds=settings.poll_interval_seconds).run


async def _start_dashboard(
    settings: ServiceSettings, dashboard: DashboardSettings, stack: contextlib.AsyncExitStack, routes: Routes
) -> None:
    from jobfn.dashboard.server import serve_dashboard  # noqa: PLC0415  - loads templates, which most services do not need

    url = await stack.enter_async_context(
        serve_dashboard(
            dashboard,
            database_url=settings.database_url,
            schema=settings.schema_name,
            routes=routes,
        )
    )
    logs.get_logger("jobfn.dashboard").info("dashboard", url=url, read_only=dashboard.read_only)


async def _notify_ready(
    callbacks: Sequence[Callable[[], None]], worker_ready: asyncio.Event | None, stop: asyncio.Event
) -> None:
    """Call these when the worker is ready, if there is one: it may have to wait for its database."""
    stopped = asyncio.create_task(stop.wait())
    if worker_ready is not None:
        ready = asyncio.create_task(worker_ready.wait())
        await asyncio.wait({ready, stopped}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
    if not stop.is_set():
        for callback in callbacks:
            callback()
    await stopped


async def _run_all(tasks: Sequence[_ServiceTask], stop: asyncio.Event) -> None:
    """Run all tasks until ``stop`` is set or one of them ends. Then stop the others, and raise the first error."""
    stop_all = asyncio.Event()
    running = [asyncio.create_task(task(stop_all)) for task in tasks]
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({stopped, *running}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        stop_all.set()
        results = await asyncio.gather(*running, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def main(arguments: Sequence[str]) -> int:
    """Run ``python -m jobfn.service`` until SIGTERM or SIGINT. Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobfn.service", description="Run the platform side.")
    parser.add_argument(
        "--only",
        type=ServiceRole,
        choices=list(ServiceRole),
        action="append",
        default=[],
        help="Run only this role. Repeatable.",
    )
    parser.add_argument("--dashboard", action="store_true", help="Also serve the dashboard. See JOBFN_DASHBOARD_*.")
    options = parser.parse_args(arguments)

    async def run_until_signal(settings: ServiceSettings) -> None:
        with stop_signals() as stop:
            dashboard = DashboardSettings.from_environ(os.environ) if options.dashboard else None
            await run_service(settings, stop, roles=options.only, dashboard=dashboard, answers_probes=True)

    try:
        logs.configure()
        otel.configure(os.environ, role="jobfn-service")
        warn_of_misspelt(os.environ, ServiceSettings, DashboardSettings, logger="jobfn.service")
        run(run_until_signal(ServiceSettings.from_environ(os.environ)))
    except JobfnError as error:
        sys.stderr.write(f"jobfn: {error} [{error.code}]\n")
        return 2
    except KeyboardInterrupt:  # before the handler of SIGINT is set
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
