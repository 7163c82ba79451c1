"""Running the dashboard: beside the platform side (``service.py``, ``devserver/``) or alone (``jobfn dashboard``)."""

import contextlib
import socket
from collections.abc import AsyncIterator

from jobfn.dashboard.app import create_dashboard
from jobfn.dashboard.settings import DashboardSettings
from jobfn.dashboard.task_discovery import Catalog
from jobfn.database.connection import pool, shown
from jobfn.http.server import HttpServer, bind
from jobfn.operations import open_operations
from jobfn.worker.dispatch import Routes

POOL_SIZE = 4
#: For the answers under way; streams are ended before.
SHUTDOWN_SECONDS = 5.0


@contextlib.asynccontextmanager
async def serving(
    settings: DashboardSettings,
    *,
    database_url: str | None,
    schema: str,
    routes: Routes | None = None,
    listener: socket.socket | None = None,
) -> AsyncIterator[str]:
    """Serve the dashboard for as long as the block runs; gives its URL.

    Args:
        settings: Where, and to whom.
        database_url: The database; None where ``PG*`` name it.
        schema: The jobs schema.
        routes: Where each task lives, so that their forms can be made. Default: nobody knows.
        listener: A bound socket, closed at the end. Default: the settings' host and port.

    Raises:
        DatabaseUnreachable: No connection at the start; later ones are waited for.
        SchemaError: The database has no jobs schema, or one that is out of date.
        ConfigurationError: The address cannot be had.
    """
    async with contextlib.AsyncExitStack() as stack:
        listener = listener or bind(settings.host, settings.port)
        stack.enter_context(contextlib.closing(listener))
        connections = await stack.enter_async_context(
            pool(database_url, application_name="jobfn-dashboard", size=POOL_SIZE)
        )
        operations = await open_operations(connections, schema)
        catalog = Catalog(routes)
        stack.push_async_callback(catalog.aclose)
        app, live = create_dashboard(
            settings,
            operations,
            catalog=catalog,
            connections=connections,
            schema=schema,
            subject=_subject(database_url, schema),
        )
        server = HttpServer(app, listener, shutdown_timeout_seconds=SHUTDOWN_SECONDS, lifespan=False)
        await server.start()
        stack.push_async_callback(server.stop)
        stack.callback(live.close)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        yield f"http://{host}:{server.port}"


def _subject(database_url: str | None, schema: str) -> str:
    """The database as its page is headed: its name, where the address tells it, and the schema."""
    address = shown(database_url)
    name = address.partition("?")[0].rpartition("/")[2] if database_url else address
    return f"{name or address}, schema {schema}"
