"""Find the databases of a service: in the list of ``JOBS_DATABASES``, or with its statement, again and again."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

import asyncpg

from jobfn.database.connection import open_pool, wait_for_database
from jobfn.errors import ConfigurationError, error_text
from jobfn.telemetry import logs
from jobfn.worker.database_list import (
    MAX_DATABASES,
    DatabaseEntry,
    add_entry,
    parse_list,
    parse_query,
    resolve_url,
    row_entry,
)
from jobfn.worker.maintenance.periodic import STATEMENT_TIMEOUT_SECONDS, FailureLogger
from jobfn.worker.settings import ServiceSettings

_APPLICATION_NAME: Final = "jobfn-discovery"

#: Called with the address of each database by its name.
OnDatabases = Callable[[dict[str, str]], None]


async def follow_databases(settings: ServiceSettings, on_databases: OnDatabases, stop: asyncio.Event) -> None:
    """Find the databases until ``stop`` is set.

    Args:
        settings: The settings.
        on_databases: Called once, and again with each run of a statement that succeeds.
        stop: Ends it.

    Raises:
        ConfigurationError: The first run of the statement failed. Later errors are logged, and the databases stay.
        DatabaseUnreachable: The database of ``DATABASE_URL`` could not be reached for the first run.
    """
    text = settings.databases or ""
    statement = parse_query(text)
    if statement is None:
        on_databases(_urls(parse_list(text), settings))
        await stop.wait()
        return
    async with contextlib.AsyncExitStack() as stack:
        pool = await wait_for_database(
            lambda: stack.enter_async_context(
                open_pool(settings.database_url, application_name=_APPLICATION_NAME, size=1)
            ),
            seconds=settings.database_wait_seconds,
            stop=stop,
        )
        if pool is None:
            return
        discovery = _Discovery(pool, statement, settings, on_databases)
        try:
            await discovery.run_once()
        except (asyncpg.PostgresError, TimeoutError) as error:
            raise ConfigurationError(
                f"JOBS_DATABASES: the statement failed: {error_text(error)}. Correct it, or grant this role its rights"
            ) from None
        failures = FailureLogger("databases not discovered, the known ones go on")
        await failures.repeat(discovery.run_once, stop, interval_seconds=settings.databases_interval_seconds)


class _Discovery:
    """Runs the statement."""

    def __init__(
        self, pool: "asyncpg.Pool[Any]", statement: str, settings: ServiceSettings, on_databases: OnDatabases
    ) -> None:
        self._pool = pool
        # The statement may end in a comment.
        self._statement = f"select * from ({statement}\n) as databases limit {MAX_DATABASES + 1}"  # noqa: S608  - the setting
        self._settings = settings
        self._on_databases = on_databases
        self._problems: set[str] = set()

    async def run_once(self) -> None:
        async with (
            asyncio.timeout(STATEMENT_TIMEOUT_SECONDS),
            self._pool.acquire() as connection,
            connection.transaction(readonly=True),
        ):
            rows = await connection.fetch(self._statement)
        entries: dict[str, DatabaseEntry] = {}
        problems: list[str] = []
        for number, row in enumerate(rows[:MAX_DATABASES], start=1):
            try:
                add_entry(entries, _entry(row, number))
            except ConfigurationError as error:
                problems.append(str(error))
        if len(rows) > MAX_DATABASES:
            problems.append(f"there are more than {MAX_DATABASES} databases: run several services")
        for problem in problems:
            if problem not in self._problems:
                logs.get_logger("jobfn.service").warning("database ignored", reason=problem, setting="JOBS_DATABASES")
        self._problems = set(problems)
        self._on_databases(_urls(list(entries.values()), self._settings))


def _entry(row: "asyncpg.Record", number: int) -> DatabaseEntry:
    values = list(row)
    if not 1 <= len(values) <= 2 or not all(isinstance(value, str | None) for value in values):
        raise ConfigurationError("the statement must return names as text, and perhaps addresses in a second column")
    return row_entry(values[0] or "", values[1] if len(values) == 2 else None, number)


def _urls(entries: list[DatabaseEntry], settings: ServiceSettings) -> dict[str, str]:
    return {entry.name: resolve_url(entry, settings.database_url) for entry in entries}
