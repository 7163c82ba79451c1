"""The platform side in one process: worker, callback server and scheduler, or some of them.

``jobfn service`` runs it, and so does ``python -m jobfn.service``, without a command-line library. ``--only`` runs
single roles, so that each can be scaled separately.
"""

import os
import signal
import sys

if __name__ == "__main__":  # Ctrl-C during the imports below is not a traceback
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

import argparse
import asyncio
import contextlib
import functools
import socket
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

try:
    import asyncpg  # noqa: F401  - a clear message without it
except ImportError:
    if __name__ != "__main__":
        raise
    from jobfn.install import install_command

    sys.stderr.write(f"jobfn: the service is not installed: {install_command('worker')}\n")
    sys.exit(2)

from starlette.types import ASGIApp

from jobfn.dashboard.settings import DashboardSettings
from jobfn.database_service import (
    DelivererFactory,
    ServeCallbacks,
    ServiceTask,
    SharedParts,
    database_metrics,
    notify_ready,
    open_database,
    run_tasks,
)
from jobfn.errors import JobfnError
from jobfn.http.server import HttpServer, bind, run, stop_signals
from jobfn.telemetry import logs, otel
from jobfn.telemetry.misspelt_settings import warn_of_misspelt
from jobfn.telemetry.tracing import GLOBAL, Tracing
from jobfn.wire import redact_url
from jobfn.worker.routes import Routes
from jobfn.worker.settings import ServiceRole, ServiceSettings
from jobfn.worker.telemetry.metrics_server import metrics_server

if TYPE_CHECKING:
    from jobfn.databases.service import Databases

#: Functions on other hosts report here.
ANY_ADDRESS = "0.0.0.0"  # noqa: S104


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
    serve_callbacks: ServeCallbacks | None = None
    async with contextlib.AsyncExitStack() as stack:
        if ServiceRole.CALLBACKS in active:
            listener = listener or bind(ANY_ADDRESS, settings.callback_port, option="INTERNAL_JOBS_CALLBACK_PORT")
            # With port 0, the callback URL needs the port that was chosen.
            settings = settings.model_copy(update={"callback_port": listener.getsockname()[1]})
            serve_callbacks = functools.partial(_serve_callbacks, settings, listener)
        if listener is not None:
            stack.enter_context(contextlib.closing(listener))
        shared = SharedParts(active, serve_callbacks, deliverer_factory, tracing)
        databases = None
        if settings.databases is not None:
            from jobfn.databases.service import Databases  # noqa: PLC0415  - only with the setting

            databases = Databases(settings, shared)
        ready = asyncio.Event()
        if answers_probes:
            await _serve_probes(settings, stack, lambda: ready.is_set() and not stop.is_set(), databases)
        if databases is not None:
            await databases.start(stack, dashboard)
            tasks: list[ServiceTask] = [databases.run]
            collect, wait_until_ready = databases.collect, databases.wait_until_started
        else:
            database = await open_database(settings, stack, shared, stop=stop)
            if database is None:
                return
            tasks = database.tasks
            collect, wait_until_ready = database_metrics(database, active).collect, database.wait_until_ready
            if dashboard is not None:
                await _start_dashboard(settings, dashboard, stack, database.routes)
        if settings.metrics_port is not None:
            await stack.enter_async_context(metrics_server(settings, collect))
        callbacks = [ready.set] if on_ready is None else [ready.set, on_ready]
        await run_tasks([*tasks, functools.partial(notify_ready, callbacks, wait_until_ready)], stop)


async def _serve_probes(
    settings: ServiceSettings,
    stack: contextlib.AsyncExitStack,
    is_ready: Callable[[], bool],
    databases: "Databases | None",
) -> None:
    from jobfn.worker.health import health_server  # noqa: PLC0415  - not for jobfn dev

    if databases is None:
        server = health_server(settings.health_port, is_ready)
    else:
        server = health_server(
            settings.health_port, lambda: is_ready() and databases.is_ready, lambda: databases.states
        )
    await stack.enter_async_context(server)


async def _serve_callbacks(
    settings: ServiceSettings, listener: socket.socket, app: ASGIApp, stack: contextlib.AsyncExitStack
) -> None:
    server = HttpServer(app, listener, shutdown_timeout_seconds=settings.shutdown_timeout_seconds, lifespan=False)
    await server.start()
    stack.push_async_callback(server.stop)
    callback_url = redact_url(settings.callback_url)
    logs.get_logger("jobfn.service").info("callback server started", port=server.port, callback_url=callback_url)


def _warn_without_tasks(settings: ServiceSettings, active: Collection[ServiceRole]) -> None:
    if settings.tasks == [] and active != {ServiceRole.CALLBACKS}:
        logs.get_logger("jobfn.service").warning(
            "no job is run: JOBS_SUPPORT_ANY is false and JOBS_SUPPORTED is empty. List the tasks in JOBS_SUPPORTED"
        )


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
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
