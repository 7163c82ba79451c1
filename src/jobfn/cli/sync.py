"""``jobfn sync``: write the options of tasks in code to the database, after a plan."""

import json
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from jobfn.cli.database import jobs_schema, with_connection
from jobfn.cli.exit_codes import CHECK_FAILED
from jobfn.cli.options import AsJson, DatabaseUrl
from jobfn.cli.output import echo
from jobfn.cli.render_tasks import plan_as_json, plan_as_text
from jobfn.cli.schedules import load_tasks
from jobfn.cli.session import confirm
from jobfn.errors import ConfigurationError

if TYPE_CHECKING:
    from jobfn.operations.task_settings import DeclaredTask

_with_connection = partial(with_connection, application_name="jobfn-sync", grant="operator")


def register_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sync", epilog="example: jobfn sync functions.py")(sync_command)


def sync_command(
    targets: Annotated[
        list[str], typer.Argument(metavar="FILE_OR_MODULE[:app]...", help="functions.py, shop.functions.")
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Show the plan only; exit with 3 if there are changes.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove options that other code has declared, in none of these files.")
    ] = False,
    database_url: DatabaseUrl = None,
    json_output: AsJson = False,
) -> None:
    """Sync the options of tasks in the code to the database.

    SQL, triggers and other processes then use queue, priority, max_attempts, unique and limits of @task. What an
    operator has set stays. Shows a plan first.
    """
    from jobfn.operations.task_settings import Change, plan_sync, sync  # noqa: PLC0415  - only for this command

    tasks = declared_tasks(targets)
    plan = _with_connection(lambda connection: plan_sync(connection, jobs_schema(), tasks, prune=prune), database_url)
    echo(json.dumps(plan_as_json(plan), indent=2) if json_output else plan_as_text(plan))
    if all(change.change in {Change.UNCHANGED, Change.KEPT} for change in plan):
        return
    if plan_only:
        raise typer.Exit(CHECK_FAILED)
    confirm("Apply these changes?", yes=yes)
    _with_connection(lambda connection: sync(connection, jobs_schema(), tasks, prune=prune), database_url)
    if not json_output:
        echo("applied")


def declared_tasks(targets: list[str]) -> "list[DeclaredTask]":
    """Load the tasks of files.

    Raises:
        ConfigurationError: Two files have a task with the same name.
    """
    from jobfn.operations.task_settings import DeclaredTask  # noqa: PLC0415  - only for this command

    tasks: dict[str, DeclaredTask] = {}
    for target in targets:
        for task in load_tasks(target):
            declared = DeclaredTask(task.identifier, task.location, task.defaults)
            other = tasks.setdefault(task.identifier, declared)
            if other.location != declared.location:
                raise ConfigurationError(
                    f"{declared.location}: task {task.identifier!r} is also at {other.location}: rename one of them"
                )
    return list(tasks.values())
