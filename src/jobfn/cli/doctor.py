"""``jobfn doctor``: is everything in its place, and what to do where it is not."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobfn.cli import render_jobs
from jobfn.cli.database import DatabaseUrl, database_of, in_loop
from jobfn.cli.exit_codes import CHECK_FAILED
from jobfn.database.connection import has_database, pool, shown
from jobfn.devserver.state import DevState
from jobfn.errors import DatabaseUnreachable, SchemaError
from jobfn.operations import open_operations
from jobfn.worker.settings import ServiceSettings

if TYPE_CHECKING:
    from jobfn.operations.doctor import Check

#: So long may a function or the callback server take to answer.
_ANSWER_SECONDS = 5.0


def register_commands(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "doctor", epilog="example: jobfn doctor; with the environment of the service: set -a; . ./.env; jobfn doctor"
    )(doctor_command)


def doctor_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Check schema, clocks, workers, callback server and functions. Exits with 3 when something is not in order.

    It reads the variables that the service reads, and is best run where the service runs.
    """
    checks = in_loop(_examine(database_url, shows=not as_json))
    if as_json:
        typer.echo(render_jobs.as_json(checks))
    if any(check.verdict == "bad" for check in checks):
        raise typer.Exit(CHECK_FAILED)


async def _examine(database_url: str | None, *, shows: bool) -> "list[Check]":
    import httpx  # noqa: PLC0415  - each verb loads what it runs

    from jobfn.operations.doctor import Check, Verdict, examine  # noqa: PLC0415

    checks: list[Check] = []

    def note(check: Check) -> None:
        checks.append(check)
        if shows:
            _show(check)

    dsn = database_of(database_url)
    settings = _settings(database_url)
    try:
        async with (
            pool(dsn, application_name="jobfn-doctor", size=2) as connections,
            httpx.AsyncClient(timeout=_ANSWER_SECONDS, trust_env=False) as http,
        ):
            note(Check("database", Verdict.GOOD, f"{shown(dsn)} answers"))
            try:
                operations = await open_operations(connections, settings.schema_name)
            except SchemaError:
                operations = None  # the check of the schema says why
            async for check in examine(connections, operations, settings, http):
                note(check)
    except DatabaseUnreachable as error:
        note(Check("database", Verdict.BAD, str(error), "start PostgreSQL, or name another (--database-url)"))
    return checks


def _settings(database_url: str | None) -> ServiceSettings:
    """The service's settings; where a ``jobfn dev`` runs here and is meant, its addresses."""
    given: dict[str, Any] = {}
    if database_url is None and not has_database(os.environ):
        state = DevState.find(Path.cwd())
        if state is not None:
            given = {"gateway_url": state.function_url, "own_callback_url": state.callback_url}
    return ServiceSettings.from_environ(os.environ, **given)


def _show(check: "Check") -> None:
    marks = {"good": ("ok", "green"), "doubtful": ("??", "yellow"), "bad": ("NO", "red")}
    mark, colour = marks[check.verdict]
    typer.echo(f"{typer.style(mark, fg=colour, bold=True)}  {check.name}: {check.found}")
    if check.advice:
        typer.echo(f"      -> {check.advice}")
    sys.stdout.flush()
