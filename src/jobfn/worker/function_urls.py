"""URLs of functions from a table of function definitions (``JOBS_FUNCTION_DEFINITIONS``), read once a minute."""

import asyncio
from typing import Any

import asyncpg

from jobfn.database.function_definitions import DefinitionsTable, find_definitions_table, service_urls
from jobfn.errors import ConfigurationError
from jobfn.telemetry import logs
from jobfn.worker.maintenance.periodic import STATEMENT_TIMEOUT_SECONDS, FailureLogger
from jobfn.worker.routes import Routes
from jobfn.worker.settings import ServiceSettings

#: Interval between reads, which is also the TTL of the platform's own worker.
REFRESH_INTERVAL_SECONDS = 60.0


class FunctionUrls:
    """Keeps ``Routes.registered`` up to date. While the table cannot be read, the last URLs are used.

    Args:
        connection: A pool, or a connection.
        table: The table.
        routes: The routes.
        interval_seconds: Interval between reads.
    """

    def __init__(
        self,
        connection: "asyncpg.Pool[Any] | asyncpg.Connection[Any]",
        table: DefinitionsTable,
        routes: Routes,
        *,
        interval_seconds: float = REFRESH_INTERVAL_SECONDS,
    ) -> None:
        self._connection = connection
        self._table = table
        self._routes = routes
        self._interval_seconds = interval_seconds
        self._failures = FailureLogger("URLs of functions not read")
        self._ignored: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Read the table until ``stop`` is set."""
        await self._failures.repeat(self.read, stop, interval_seconds=self._interval_seconds, first_seconds=0.0)

    async def read(self) -> None:
        """Read the table once."""
        urls = await asyncio.wait_for(service_urls(self._connection, self._table), STATEMENT_TIMEOUT_SECONDS)
        ignored = {task for task, url in urls.items() if not url.startswith(("http://", "https://"))}
        if ignored - self._ignored:
            logs.get_logger("jobfn.service").warning(
                "service_url ignored: it must begin with http:// or https://", tasks=sorted(ignored)
            )
        self._ignored = ignored
        self._routes.registered = {task: url for task, url in urls.items() if task not in ignored}


async def open_function_urls(
    connection: "asyncpg.Pool[Any] | asyncpg.Connection[Any]", name: str, routes: Routes
) -> FunctionUrls | None:
    """Read the URLs of a table into the routes. Return what keeps them up to date, or None without a table.

    Args:
        connection: A pool, or a connection.
        name: ``JOBS_FUNCTION_DEFINITIONS``.
        routes: The routes.

    Raises:
        ConfigurationError: There is no such table, or it has no ``service_url``.
    """
    table = await find_definitions_table(connection, name)
    log = logs.get_logger("jobfn.service")
    if table is None:
        log.warning("no table of function definitions: functions are found by their other settings")
        return None
    if "service_url" not in table.columns:
        raise ConfigurationError(
            f"JOBS_FUNCTION_DEFINITIONS: {table} has no column service_url: unset it, and use KNATIVE_SERVICE_URL or "
            "JOBS_FUNCTION_URLS"
        )
    urls = FunctionUrls(connection, table, routes)
    try:
        await urls.read()
    except asyncpg.InsufficientPrivilegeError:
        raise ConfigurationError(
            f"JOBS_FUNCTION_DEFINITIONS: this role may not read {table}: grant it SELECT, and USAGE on the schema"
        ) from None
    log.info("functions are found by their definitions", table=str(table), functions=len(routes.registered))
    return urls


async def load_routes(settings: ServiceSettings, connection: "asyncpg.Pool[Any] | asyncpg.Connection[Any]") -> Routes:
    """Return the routes of a worker with these settings, with the URLs that the table has now.

    Raises:
        ConfigurationError: See ``open_function_urls``.
    """
    routes = Routes.from_settings(settings)
    if settings.function_definitions is not None:
        await open_function_urls(connection, settings.function_definitions, routes)
    return routes
