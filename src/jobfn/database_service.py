"""The platform side of one database: its worker, callback app, scheduler and maintenance.

``service.py`` opens one for its database; with ``JOBS_DATABASES``, ``databases/service.py`` opens one for each.
"""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
from starlette.types import ASGIApp

from jobfn.database.connection import open_pool, retry, wait_for_database
from jobfn.database.graph_functions import open_graph_store
from jobfn.database.open_store import open_store
from jobfn.database.permissions import explain_denied_in_pool
from jobfn.database.schema_version import newer_migration
from jobfn.database.store import JobStore
from jobfn.scheduler.scheduler import CHANNEL as SCHEDULES_CHANNEL
from jobfn.scheduler.scheduler import Scheduler, open_poller
from jobfn.telemetry import logs
from jobfn.telemetry.tracing import GLOBAL, Tracing
from jobfn.worker.callback_app import create_callback_app
from jobfn.worker.callbacks import Callbacks
from jobfn.worker.delivery import Deliverer
from jobfn.worker.http_dispatch import callback_tokens, http_dispatcher
from jobfn.worker.listen_url import StartListener, listener_starter
from jobfn.worker.listener import CANCEL_CHANNEL, PAUSES_CHANNEL, NotificationHandler
from jobfn.worker.listener import CHANNEL as JOBS_CHANNEL
from jobfn.worker.maintenance.tasks import maintenance_tasks
from jobfn.worker.routes import Routes
from jobfn.worker.settings import ServiceRole, ServiceSettings
from jobfn.worker.settlement import SettlementBatcher
from jobfn.worker.telemetry.instrumented_callbacks import InstrumentedCallbacks
from jobfn.worker.telemetry.instrumented_deliveries import InstrumentedDeliverer
from jobfn.worker.telemetry.metrics import WorkerMetrics
from jobfn.worker.telemetry.metrics_server import DatabaseMetrics
from jobfn.worker.telemetry.settlement_log import SettlementObserver
from jobfn.worker.worker import Worker

if TYPE_CHECKING:
    from jobfn.worker.slots import SlotPool

T = TypeVar("T")

APPLICATION_NAME = "jobfn-service"
#: One connection each for claims, settlements, the next delayed job and the scheduler, and a spare one.
POOL_SIZE = 5

#: Opens a deliverer.
DelivererFactory = Callable[[JobStore, ServiceSettings], contextlib.AbstractAsyncContextManager[Deliverer]]
#: Serves the callback app of a database until the stack unwinds.
ServeCallbacks = Callable[[ASGIApp, contextlib.AsyncExitStack], Awaitable[None]]
#: Runs until the event is set, then shuts down.
ServiceTask = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


def open_connections(
    settings: ServiceSettings, **options: Any
) -> "contextlib.AbstractAsyncContextManager[asyncpg.Pool[Any]]":
    """Open a pool for the parts of a database. Options as in ``open_pool``."""
    return open_pool(
        settings.database_url,
        application_name=APPLICATION_NAME,
        size=POOL_SIZE,
        statement_timeout_seconds=settings.statement_timeout_seconds,
        needs_primary=True,
        **options,
    )


@dataclass(frozen=True, slots=True)
class SharedParts:
    """Parts that the databases of a service share.

    Attributes:
        roles: The roles to run.
        serve_callbacks: Serves callback apps; None: not a callback server.
        deliverer_factory: Opens what delivers jobs to their tasks; None: HTTP.
        tracing: Creates spans.
        open_connections: Opens the pool of a database.
        interval_factor: Factor of the intervals of maintenance, and of polls if notifications arrive.
        slots: The slots of the workers; None: there is one worker, which has its own.
    """

    roles: frozenset[ServiceRole]
    serve_callbacks: ServeCallbacks | None = None
    deliverer_factory: DelivererFactory | None = None
    tracing: Tracing = GLOBAL
    interval_factor: float = 1.0
    slots: "SlotPool | None" = None
    open_connections: "Callable[[ServiceSettings], contextlib.AbstractAsyncContextManager[asyncpg.Pool[Any]]]" = (
        open_connections
    )


@dataclass(slots=True)
class DatabaseService:
    """The parts of one database.

    Attributes:
        settings: The settings.
        connections: Connections to the database.
        store: Its jobs.
        metrics: The metrics of its worker and callback app.
        routes: URLs of its tasks.
        tasks: Run them together.
        worker: The worker, if the roles include one.
    """

    settings: ServiceSettings
    connections: "asyncpg.Pool[Any]"
    store: JobStore
    metrics: WorkerMetrics
    routes: Routes
    tasks: list[ServiceTask]
    worker: Worker | None = None

    async def wait_until_ready(self) -> None:
        """Wait until the worker is ready, if there is one."""
        if self.worker is not None:
            await self.worker.ready.wait()


async def open_database(
    settings: ServiceSettings,
    stack: contextlib.AsyncExitStack,
    shared: SharedParts,
    *,
    stop: asyncio.Event,
    name: str | None = None,
) -> DatabaseService | None:
    """Open what serves a database, until the stack unwinds.

    Args:
        settings: The settings.
        stack: Closes everything.
        shared: What it shares with other databases.
        stop: Ends the wait for a database that does not accept connections.
        name: Name of the database if there are several: a part of log lines and signatures.

    Returns:
        The parts; None: ``stop`` was set.

    Raises:
        DatabaseUnreachable: There was no connection within ``database_wait_seconds``. Later, lost ones are reopened.
        SchemaError: The database has no jobs schema, or an outdated one.
        PermissionDenied: The role lacks a right.
        ConfigurationError: A setting does not fit the database.
    """
    connections = await wait_for_database(
        lambda: stack.enter_async_context(shared.open_connections(settings)),
        seconds=settings.database_wait_seconds,
        stop=stop,
    )
    if connections is None:
        return None
    roles = shared.roles
    has_worker = ServiceRole.WORKER in roles
    metrics = WorkerMetrics(concurrency=settings.concurrency if has_worker else 0)
    on_settled = SettlementObserver(metrics, database=name)
    await stack.enter_async_context(explain_denied_in_pool(connections, settings.schema_name, grant="worker"))
    start_listener = (
        None
        if roles == {ServiceRole.CALLBACKS}
        else await listener_starter(settings, connections, stack, interval_factor=shared.interval_factor)
    )
    if start_listener is not None:
        poll_interval_seconds = settings.poll_interval_seconds * shared.interval_factor
        settings = settings.model_copy(update={"poll_interval_seconds": poll_interval_seconds})
    store = await _retry_start(
        lambda: open_store(
            connections,
            settings.schema_name,
            queues=settings.queue_names if has_worker else None,
            on_settled=on_settled,
        )
    )
    migration = await _retry_start(lambda: newer_migration(connections, settings.schema_name))
    if migration is not None:
        logs.get_logger("jobfn.service").warning(
            "schema is newer than this jobfn: upgrade it soon", schema=settings.schema_name, migration=migration
        )
    tasks: list[ServiceTask] = []
    routes = await _open_routes(settings, connections, tasks)
    database = DatabaseService(settings, connections, store, metrics, routes, tasks)
    jobs_event = asyncio.Event() if has_worker else None
    if roles != {ServiceRole.SCHEDULER}:
        job_store = store
        if has_worker:
            job_store = await _retry_start(
                lambda: open_graph_store(store, connections, settings.schema_name, on_settled=on_settled)
            )
        await _start_worker_and_callbacks(database, stack, shared, job_store, jobs_event, name=name)
    schedules_event = None
    if ServiceRole.SCHEDULER in roles:
        schedules_event = asyncio.Event()
        tasks.append(await _open_scheduler(database, schedules_event))
    if start_listener is not None:
        _listen(start_listener, jobs_event, schedules_event, database.worker)
    tasks += await maintenance_tasks(
        settings,
        roles,
        connections=connections,
        store=store,
        metrics=metrics,
        worker=database.worker,
        interval_factor=shared.interval_factor,
    )
    return database


def database_metrics(database: DatabaseService, roles: frozenset[ServiceRole]) -> DatabaseMetrics:
    """Return the metrics of a database."""
    connections = database.connections if roles != {ServiceRole.SCHEDULER} else None
    return DatabaseMetrics(database.settings, database.metrics, database.store, connections)


def _listen(
    start_listener: StartListener,
    jobs_event: asyncio.Event | None,
    schedules_event: asyncio.Event | None,
    worker: Worker | None,
) -> None:
    """Listen for all notifications on one connection."""
    handlers: dict[str, NotificationHandler] = {}
    if jobs_event is None:
        if schedules_event is not None:
            start_listener(SCHEDULES_CHANNEL, schedules_event)
        return
    if schedules_event is not None:
        handlers[SCHEDULES_CHANNEL] = lambda _payload: schedules_event.set()
    if worker is not None:
        handlers[PAUSES_CHANNEL] = worker.on_pause
        handlers[CANCEL_CHANNEL] = worker.cancellations.look
    start_listener(JOBS_CHANNEL, jobs_event, handlers)


async def _retry_start(call: Callable[[], Awaitable[T]]) -> T:
    return await retry(call, event="service not started", only_transient=True)


async def _start_worker_and_callbacks(
    database: DatabaseService,
    stack: contextlib.AsyncExitStack,
    shared: SharedParts,
    store: JobStore,
    wake_event: asyncio.Event | None,
    *,
    name: str | None,
) -> None:
    """Create the worker and serve the callback app until the stack unwinds, after the worker."""
    settings, metrics, tracing = database.settings, database.metrics, shared.tracing
    settlements = SettlementBatcher(store, on_commit=metrics.record_commit)
    tokens = await callback_tokens(settings, store, name=name)
    worker: Worker | None = None
    if wake_event is not None:
        open_deliverer = shared.deliverer_factory or functools.partial(
            http_dispatcher, database.routes, tokens, tracing
        )
        deliverer = await stack.enter_async_context(open_deliverer(store, settings))
        worker = database.worker = Worker(
            store=store,
            settlements=settlements,
            deliverer=InstrumentedDeliverer(deliverer, worker_id=settings.worker_id, metrics=metrics, tracing=tracing),
            settings=settings,
            wake_event=wake_event,
            metrics=metrics,
            slots=shared.slots,
        )
        database.tasks.append(worker.run)
    stack.push_async_callback(settlements.drain)
    if shared.serve_callbacks is not None:
        callbacks = Callbacks(
            settlements,
            store,
            lease_seconds=settings.lease_seconds,
            tokens=tokens,
            on_report=worker.on_report if worker is not None else None,
        )
        find_job = worker.find if worker is not None else None
        app = create_callback_app(InstrumentedCallbacks(callbacks, metrics=metrics, tracing=tracing, find_job=find_job))
        await shared.serve_callbacks(app, stack)


async def _open_routes(settings: ServiceSettings, connections: "asyncpg.Pool[Any]", tasks: list[ServiceTask]) -> Routes:
    """Return the routes, and add the task that reads the table of function definitions, if there is one."""
    routes = Routes.from_settings(settings)
    if (name := settings.function_definitions) is not None:
        from jobfn.worker.function_urls import open_function_urls  # noqa: PLC0415  - only with the setting

        urls = await _retry_start(lambda: open_function_urls(connections, name, routes))
        if urls is not None:
            tasks.append(urls.run)
    return routes


async def _open_scheduler(database: DatabaseService, wake_event: asyncio.Event) -> ServiceTask:
    settings = database.settings
    poller = await retry(
        lambda: open_poller(
            database.connections,
            settings.schema_name,
            scheduler_id=settings.scheduler_id,
            tasks=settings.tasks,
            takeover_seconds=settings.takeover_seconds,
        ),
        event="scheduler not started",
        only_transient=True,
    )
    return Scheduler(poller, wake_event=wake_event, poll_interval_seconds=settings.poll_interval_seconds).run


async def run_tasks(tasks: Sequence[ServiceTask], stop: asyncio.Event) -> None:
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


async def notify_ready(
    callbacks: Sequence[Callable[[], None]],
    wait_until_ready: Callable[[], Coroutine[Any, Any, None]],
    stop: asyncio.Event,
) -> None:
    """Call these when everything is ready: a worker may have to wait for its database."""
    stopped = asyncio.create_task(stop.wait())
    ready = asyncio.create_task(wait_until_ready())
    await asyncio.wait({ready, stopped}, return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    if not stop.is_set():
        for callback in callbacks:
            callback()
    await stopped
