"""``jobfn register``: write a function's tasks to the platform's table of function definitions."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from jobfn.cli.database import with_connection
from jobfn.cli.exit_codes import CHECK_FAILED
from jobfn.cli.options import AsJson, DatabaseUrl
from jobfn.cli.output import echo
from jobfn.database.function_definitions import AUTO, find_definitions_table
from jobfn.deploy.function_definitions import Action, DefinitionChange, apply_definitions, plan_definitions
from jobfn.deploy.inspection import inspect_tasks, resolve_target
from jobfn.errors import ConfigurationError

EXAMPLE = (
    "example: jobfn register orders/ --service-url http://orders.jobs.svc.cluster.local --column is_invocable=true "
    "--apply"
)
_SIGNS = {Action.CREATE: "+", Action.CHANGE: "~", Action.KEEP: "="}


def register_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command("register", epilog=EXAMPLE)(register_command)


def register_command(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Functions: folders with a functions.py, or Python files.")
    ],
    service_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Base URL of the functions, as KNATIVE_SERVICE_URL. Default: do not change URLs."
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Value of a further column, as JSON or text; repeatable."),
    ] = None,
    table: Annotated[
        str, typer.Option(metavar="SCHEMA.TABLE", help="The table. Default: the only one of the database.")
    ] = AUTO,
    apply: Annotated[bool, typer.Option("--apply", help="Write the rows. Default: show the changes.")] = False,
    database_url: DatabaseUrl = None,
    json_output: AsJson = False,
) -> None:
    """Register tasks in the platform's database.

    Shows the changes, and exits with 3 if there are any; writes them with --apply, in one transaction. Other rows, and
    columns that a task does not describe, do not change.
    """
    tasks = [task for path in paths for task in inspect_tasks(resolve_target(path))]
    columns = dict(_parse_column(text) for text in column or ())
    if service_url is not None and not service_url.startswith(("http://", "https://")):
        raise ConfigurationError(f"--service-url {service_url!r} must begin with http:// or https://")

    async def work(connection: Any) -> list[DefinitionChange]:
        found = await find_definitions_table(connection, table)
        if found is None:
            raise ConfigurationError("this database has no table of function definitions: name one with --table")
        changes = await plan_definitions(connection, found, tasks, service_url=service_url, columns=columns)
        if apply:
            await apply_definitions(connection, found, changes)
        return changes

    changes = with_connection(work, database_url, application_name="jobfn-register")
    echo(json.dumps([asdict(change) for change in changes], indent=2) if json_output else _format(changes, apply))
    if not apply and any(change.action is not Action.KEEP for change in changes):
        raise typer.Exit(CHECK_FAILED)


def _parse_column(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ConfigurationError(f"--column {text!r} must have the form NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _format(changes: list[DefinitionChange], applied: bool) -> str:
    lines = []
    for change in changes:
        lines.append(f"{_SIGNS[change.action]} {change.action.value:<6}  {change.task}")
        for name, value in change.after.items():
            if change.action is Action.CHANGE:
                lines.append(f"    - {name}  {json.dumps(change.before[name], ensure_ascii=False)}")
            lines.append(f"    + {name}  {json.dumps(value, ensure_ascii=False)}")
    labels = {Action.CREATE: "created", Action.CHANGE: "changed", Action.KEEP: "unchanged"}
    if not applied:
        labels = {Action.CREATE: "to create", Action.CHANGE: "to change", Action.KEEP: "unchanged"}
    counts = {action: sum(change.action is action for change in changes) for action in Action}
    return "\n".join([*lines, ", ".join(f"{count} {labels[action]}" for action, count in counts.items() if count)])
