"""``jobfn doctor``: check database, workers, callback server and functions."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from jobfn.cli import render_jobs
from jobfn.cli.database import resolve_database_url, run_async
from jobfn.cli.exit_codes import CHECK_FAILED
from jobfn.cli.options import AsJson, DatabaseUrl
from jobfn.cli.output import echo, without_escapes
from jobfn.database.connection import has_database, open_pool, redact_dsn
from jobfn.devserver.state import DevState
from jobfn.errors import DatabaseError, DatabaseUnreachable, PermissionDenied, SchemaError
from jobfn.operations import Operations, open_operations
from jobfn.operations.statements import translate_errors
from jobfn.worker.settings import ServiceSettings

if TYPE_CHECKING:
    from jobfn.operations.doctor import Check

#: Timeout of a request to a function or the callback server.
CHECK_TIMEOUT_SECONDS = 5.0
#: Label and colour of each status.
_LABELS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "error": ("error", "red")}


def register_commands(app: typer.Typer) -> None:
    """Add the command."""
    example = "examples: jobfn doctor; with the settings of the service: set -a; . ./.env; jobfn doctor"
    app.command("doctor", epilog=example)(doctor_command)


def doctor_command(as_json: AsJson = False, database_url: DatabaseUrl = None) -> None:
    """Check database, workers, callback server and functions.

    Reads the environment variables of the service, so run it where the service runs. Exits with 3 on an error.
    """
    checks = run_async(_run_checks(database_url, print_checks=not as_json))
    if as_json:
        echo(render_jobs.as_json(checks))
    if any(check.status == "error" for check in checks):
        raise typer.Exit(CHECK_FAILED)


async def _run_checks(database_url: str | None, *, print_checks: bool) -> "list[Check]":
    import httpx  # noqa: PLC0415  - only for this command

    from jobfn.operations.doctor import Check, CheckStatus, run_checks  # noqa: PLC0415

    checks: list[Check] = []

    def add(check: Check) -> None:
        checks.append(check)
        if print_checks:
            _print_check(check)

    dsn = resolve_database_url(database_url)
    settings = service_settings(database_url, dsn)
    try:
        async with (
            open_pool(dsn, application_name="jobfn-doctor", size=2) as connections,
            httpx.AsyncClient(timeout=CHECK_TIMEOUT_SECONDS, trust_env=False) as http,
        ):
            add(Check("database", CheckStatus.OK, f"{redact_dsn(dsn)} responds"))
            operations: Operations | PermissionDenied | None
            try:
                operations = await open_operations(connections, settings.schema_name)
            except SchemaError:
                operations = None  # the schema check reports why
            except PermissionDenied as error:
                operations = error
            with translate_errors(settings.schema_name):
                async for check in run_checks(connections, operations, settings, http):
                    add(check)
    except DatabaseUnreachable as error:
        add(Check("database", CheckStatus.ERROR, str(error), "start PostgreSQL, or set --database-url"))
    except DatabaseError as error:
        add(Check("database", CheckStatus.ERROR, str(error), "remove the reason, and run doctor again"))
    return checks


def service_settings(database_url: str | None, dsn: str | None) -> ServiceSettings:
    """Return the service's settings, with the addresses of a running ``jobfn dev`` if its database is checked."""
    overrides: dict[str, Any] = {"database_url": dsn}
    if database_url is None and not has_database(os.environ):
        state = DevState.find(Path.cwd())
        if state is not None:
            overrides |= {"gateway_url": state.function_url, "own_callback_url": state.callback_url}
    return ServiceSettings.from_environ(os.environ, **overrides)


def _print_check(check: "Check") -> None:
    label, colour = _LABELS[check.status]
    typer.echo(
        f"{typer.style(f'{label:<7}', fg=colour, bold=True)}  {without_escapes(f'{check.name}: {check.message}')}"
    )
    if check.advice:
        echo(f"         -> {check.advice}")
    sys.stdout.flush()
