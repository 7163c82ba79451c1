"""Which database a command talks to, and the loop it runs in."""

import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from jobfn.database.connection import dsn_from_env, has_database
from jobfn.devserver.state import DevState
from jobfn.errors import ConfigurationError
from jobfn.http.server import run

T = TypeVar("T")

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help="postgresql://user@host/name. Default: DATABASE_URL, else PG*, else the running `jobfn dev`.",
        show_default=False,
    ),
]


def database_of(option: str | None) -> str | None:
    """The database that a command means: the option, the environment, or a ``jobfn dev`` that runs here.

    Returns:
        A DSN, or None where ``PG*`` name it and the driver reads them itself.

    Raises:
        ConfigurationError: None of them names one.
    """
    if option:
        return option
    if has_database(os.environ):
        return dsn_from_env(os.environ)
    state = DevState.find(Path.cwd())
    if state is None:
        raise ConfigurationError(
            "no database: start `jobfn dev functions.py` here, or set DATABASE_URL, or give --database-url"
        )
    return state.database_url


def schema_of() -> str:
    """The jobs schema: ``JOBS_SCHEMA``, default ``app_jobs``."""
    return os.environ.get("JOBS_SCHEMA") or "app_jobs"


def in_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine."""
    return run(work)
