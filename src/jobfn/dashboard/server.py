"""Serve the dashboard, beside a service (``service.py``, ``devserver/``) or alone (``jobfn dashboard``)."""

import contextlib
import socket
from collections.abc import AsyncIterator, Callable

from starlette.types import ASGIApp

from jobfn.dashboard.app import create_dashboard
from jobfn.dashboard.live import LivePages
from jobfn.dashboard.render import Switch
from jobfn.dashboard.security import CURRENT_ACTOR
from jobfn.dashboard.settings import DashboardSettings
from jobfn.dashboard.task_discovery import TaskDiscovery
from jobfn.database.connection import open_pool, redact_dsn, retry
from jobfn.http.server import HttpServer, bind
from jobfn.operations import open_operations
from jobfn.worker.routes import Routes

POOL_SIZE = 4
#: Timeout of a statement. Pages read tables that may be large, and actions change many rows.
STATEMENT_TIMEOUT_SECONDS = 60.0
#: Time after which a connection that is not used is closed.
MAX_IDLE_SECONDS = 300.0
#: Shutdown timeout of responses in progress; streams are closed first.
SHUTDOWN_TIMEOUT_SECONDS = 5.0
#: Name of the setting of the port, for the error of a port in use.
PORT_OPTION = "JOBFN_DASHBOARD_PORT (`jobfn dashboard --port`)"


@contextlib.asynccontextmanager
async def serve_dashboard(
    settings: DashboardSettings,
    *,
    database_url: str | None,
    schema: str,
    routes: Routes | None = None,
    listener: socket.socket | None = None,
) -> AsyncIterator[str]:
    """Serve the dashboard while the block runs, and return its URL.

    Args:
        settings: Settings of the dashboard.
        database_url: Database URL; None to use the ``PG*`` variables.
        schema: Jobs schema.
        routes: Function URLs of tasks, to discover tasks and their payload schemas. Default: no discovery.
        listener: Bound socket, closed at the end. Default: bind to the host and port of the settings.

    Raises:
        DatabaseUnreachable: The database is unreachable at the start. Later outages are tolerated.
        SchemaError: The jobs schema does not exist or is out of date.
        ConfigurationError: The address cannot be bound.
    """
    async with contextlib.AsyncExitStack() as stack:
        listener = listener or bind(settings.host, settings.port, option=PORT_OPTION)
        stack.enter_context(contextlib.closing(listener))
        app, live_pages = await open_dashboard(settings, stack, database_url=database_url, schema=schema, routes=routes)
        yield await serve_app(settings, stack, app, close_streams=live_pages.close, listener=listener)


async def open_dashboard(
    settings: DashboardSettings,
    stack: contextlib.AsyncExitStack,
    *,
    database_url: str | None,
    schema: str,
    routes: Routes | None,
    max_idle_seconds: float = MAX_IDLE_SECONDS,
    switch: Switch | None = None,
) -> tuple[ASGIApp, LivePages]:
    """Open the dashboard of a database until the stack unwinds. Return its app and its live pages.

    Args:
        settings: As in ``serve_dashboard``.
        stack: Closes the connections.
        database_url: As in ``serve_dashboard``.
        schema: As in ``serve_dashboard``.
        routes: As in ``serve_dashboard``.
        max_idle_seconds: Time after which a connection that is not used is closed.
        switch: The other databases, if there are several.

    Raises:
        DatabaseUnreachable: The database is unreachable.
        SchemaError: The jobs schema does not exist or is out of date.
    """
    connections = await stack.enter_async_context(
        open_pool(
            database_url,
            application_name="jobfn-dashboard",
            size=POOL_SIZE,
            statement_timeout_seconds=STATEMENT_TIMEOUT_SECONDS,
            max_idle_seconds=max_idle_seconds,
        )
    )
    operations = await retry(
        lambda: open_operations(connections, schema, actor=CURRENT_ACTOR.get),
        event="dashboard not started",
        only_transient=True,
    )
    discovery = TaskDiscovery(routes)
    stack.push_async_callback(discovery.aclose)
    return create_dashboard(
        settings,
        operations,
        discovery=discovery,
        connections=connections,
        schema=schema,
        database_label=_database_label(database_url, schema),
        switch=switch,
    )


async def serve_app(
    settings: DashboardSettings,
    stack: contextlib.AsyncExitStack,
    app: ASGIApp,
    *,
    close_streams: Callable[[], None],
    listener: socket.socket | None = None,
) -> str:
    """Serve an app until the stack unwinds, and return its URL.

    Raises:
        ConfigurationError: The address cannot be bound.
    """
    if listener is None:
        listener = stack.enter_context(contextlib.closing(bind(settings.host, settings.port, option=PORT_OPTION)))
    server = HttpServer(app, listener, shutdown_timeout_seconds=SHUTDOWN_TIMEOUT_SECONDS, lifespan=False)
    await server.start()
    stack.push_async_callback(server.stop)
    stack.callback(close_streams)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{server.port}"


def _database_label(database_url: str | None, schema: str) -> str:
    """Return the name of the database, or its address, and the schema."""
    address = redact_dsn(database_url)
    name = address.partition("?")[0].rpartition("/")[2] if database_url else address
    return f"{name or address}, schema {schema}"
