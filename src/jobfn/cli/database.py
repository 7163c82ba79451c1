"""The database of a command, and the event loop that it runs in."""

import contextlib
import os
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jobfn.database.connection import connect, dsn_from_env, has_database
from jobfn.database.permissions import explain_denied
from jobfn.devserver.state import DevState
from jobfn.errors import ConfigurationError
from jobfn.http.server import run
from jobfn.operations.actor import Source, acting, os_actor
from jobfn.operations.statements import translate_errors

if TYPE_CHECKING:
    import asyncpg

T = TypeVar("T")


def resolve_database_url(option: str | None) -> str | None:
    """Return the database of the option, the environment (None: by ``PG*``), or a running ``jobfn dev``."""
    if option:
        return option
    if has_database(os.environ):
        return dsn_from_env(os.environ)
    state = DevState.find(Path.cwd())
    if state is None:
        raise ConfigurationError(
            "no database is set: start `jobfn dev functions.py` here, or set DATABASE_URL or --database-url"
        )
    return state.database_url


def jobs_schema() -> str:
    """Return the jobs schema: ``JOBS_SCHEMA``, default ``app_jobs``."""
    return os.environ.get("JOBS_SCHEMA") or "app_jobs"


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine in a new event loop."""
    return run(work)


def with_connection(
    work: "Callable[[asyncpg.Connection[Any]], Awaitable[T]]",
    database_url: str | None,
    *,
    application_name: str,
    grant: str = "viewer",
    is_recorded: bool = False,
) -> T:
    """Run a coroutine function with a connection to the command's database, and close the connection.

    Args:
        work: The function.
        database_url: The option ``--database-url``.
        application_name: Name in ``pg_stat_activity``.
        grant: The grant of ``jobfn db migrate`` that the command needs.
        is_recorded: Whether the function runs in a transaction that names the user in the audit list.
    """

    async def run_connected() -> T:
        connection = await connect(resolve_database_url(database_url), application_name=application_name)
        try:
            with translate_errors(jobs_schema()):
                async with contextlib.AsyncExitStack() as stack:
                    await stack.enter_async_context(explain_denied(connection, jobs_schema(), grant=grant))
                    if is_recorded:
                        await stack.enter_async_context(acting(connection, os_actor(Source.CLI)))
                    return await work(connection)
        finally:
            await connection.close()

    return run_async(run_connected())
