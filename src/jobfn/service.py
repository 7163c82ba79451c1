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

from jobfn import logs, tracing_setup
from jobfn.dashboard.settings import DashboardSettings
from jobfn.database.connection import pool
from jobfn.database.jobs import JobStore, open_store
from jobfn.errors import JobfnError
from jobfn.hosting import HttpServer, bind, run, stop_signals
from jobfn.scheduler.loop import CHANNEL as SCHEDULES_CHANNEL
from jobfn.scheduler.loop import Scheduler
from jobfn.scheduler.opening import open_agenda
from jobfn.tracing import AMBIENT, Tracing
from jobfn.wire import shown_url
from jobfn.worker.beside import Role, beside_jobs
from jobfn.worker.callback_app import create_callback_app
from jobfn.worker.claim import CHANNEL as JOBS_CHANNEL
from jobfn.worker.claim import Listener
from jobfn.worker.delivering import over_http, tokens_of
from jobfn.worker.dispatch import Deliverer, Routes
from jobfn.worker.endings import Endings
from jobfn.worker.measures import WorkerMeasures
from jobfn.worker.metrics_server import metrics_server
from jobfn.worker.observed_callbacks import ObservedCallbacks
from jobfn.worker.observed_deliveries import ObservedDeliveries
from jobfn.worker.settings import Part, ServiceSettings
from jobfn.worker.settle import Settler
from jobfn.worker.worker import Worker

#: Claims, settlements, the look at the next delayed job, the scheduler's transaction, and one to spare.
POOL_SIZE = 5
#: Functions on other machines report here.
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104

#: Opens what takes jobs to their tasks, instead of HTTP.
OpenDeliverer = Callable[[JobStore, ServiceSettings], contextlib.AbstractAsyncContextManager[Deliverer]]


async def run_service(
    settings: ServiceSettings,
    stop: asyncio.Event,
    *,
    only: Collection[Part] = (),
    listener: socket.socket | None = None,
    started: Callable[[], None] | None = None,
    deliverer: OpenDeliverer | None = None,
    tracing: Tracing = AMBIENT,
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
    parts = frozenset(only) or frozenset(Part)
    async with contextlib.AsyncExitStack() as stack:
        if Part.CALLBACKS in parts:
            listener = listener or bind(EVERY_ADDRESS, settings.callback_port)
            # port 0 took any free one, and that is where functions are to report
            settings = settings.model_copy(update={"callback_port": listener.getsockname()[1]})
        if listener is not None:
            stack.enter_context(contextlib.closing(listener))
        connections = await stack.enter_async_context(
            pool(settings.database_url, application_name="jobfn-service", size=POOL_SIZE)
        )
        measures = WorkerMeasures(slots=settings.concurrency if Part.WORKER in parts else 0)
        store = await open_store(connections, settings.schema_name, on_ending=Endings(measures))
        roles: list[Role] = []
        worker: Worker | None = None
        if parts & {Part.WORKER, Part.CALLBACKS}:
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
        if Part.SCHEDULER in parts:
            roles.append(await _scheduler(settings, connections, stack))
        roles += await beside_jobs(
            settings, parts, connections=connections, store=store, measures=measures, worker=worker
        )
        if dashboard is not None:
            await _dashboard(settings, dashboard, stack)
        if started is not None:
            roles.append(functools.partial(_say_started, started, None if worker is None else worker.at_work))
        await _run_all(roles, stop)


async def _scheduler(
    settings: ServiceSettings, connections: "asyncpg.Pool[Any]", stack: contextlib.AsyncExitStack
) -> Role:
    agenda = await open_agenda(
        connections,
        settings.schema_name,
        scheduler_id=settings.scheduler_id,
        tasks=settings.tasks,
        takeover_seconds=settings.takeover_seconds,
    )
    bell = asyncio.Event()
    _listen(settings, bell, stack, channel=SCHEDULES_CHANNEL)
    return Scheduler(agenda, bell=bell, poll_seconds=settings.poll_seconds).run


async def _dashboard(settings: ServiceSettings, dashboard: DashboardSettings, stack: contextlib.AsyncExitStack) -> None:
    from jobfn.dashboard.serving import serving  # noqa: PLC0415  - templates and schemas, which most services do without

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
    parts: Collection[Part],
    *,
    store: JobStore,
    measures: WorkerMeasures,
    listener: socket.socket | None,
    open_deliverer: OpenDeliverer | None,
    tracing: Tracing,
) -> Worker | None:
    """Set both up, or one of them; the callback server serves until the stack unwinds, longer than the worker works."""
    settler = Settler(store, committed=measures.committed)
    tokens = tokens_of(settings)
    worker: Worker | None = None
    if Part.WORKER in parts:
        bell = asyncio.Event()
        open_deliverer = open_deliverer or functools.partial(over_http, tokens, tracing)
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
    if Part.CALLBACKS in parts and listener is not None:
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
            shutdown_seconds=settings.shutdown_seconds,
            lifespan=False,
        )
        await server.start()
        stack.push_async_callback(server.stop)
        logs.get_logger("jobfn.service").info(
            "hearing reports", port=server.port, callback_url=shown_url(settings.callback_url)
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


async def _say_started(started: Callable[[], None], at_work: asyncio.Event | None, ending: asyncio.Event) -> None:
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
        "--only", type=Part, choices=list(Part), action="append", default=[], help="Only this part; repeatable."
    )
    parser.add_argument("--dashboard", action="store_true", help="Serve the dashboard too; see JOBFN_DASHBOARD_*.")
    given = parser.parse_args(arguments)

    async def until_stopped(settings: ServiceSettings) -> None:
        with stop_signals() as stop:
            dashboard = DashboardSettings.from_environ(os.environ) if given.dashboard else None
            await run_service(settings, stop, only=given.only, dashboard=dashboard)

    try:
        logs.configure()
        tracing_setup.configure(os.environ, role="jobfn-service")
        run(until_stopped(ServiceSettings.from_environ(os.environ)))
    except JobfnError as error:
        sys.stderr.write(f"jobfn: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
