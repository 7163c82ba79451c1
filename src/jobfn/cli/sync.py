"""``jobfn sync``: write the options of tasks in code to the database, after a plan."""

import json
from functools import partial
from typing import Annotated

import typer

from jobfn.cli.database import jobs_schema, with_connection
from jobfn.cli.exit_codes import CHECK_FAILED
from jobfn.cli.options import AsJson, DatabaseUrl, Yes
from jobfn.cli.output import echo
from jobfn.cli.render_tasks import plan_as_json, plan_as_text
from jobfn.cli.schedules import load_tasks
from jobfn.cli.session import confirm
from jobfn.operations.task_settings import Change, DeclaredTask, plan_sync, sync

_with_connection = partial(with_connection, application_name="jobfn-sync", grant="operator")


def register_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sync", epilog="example: jobfn sync functions.py")(sync_command)


def sync_command(
    targets: Annotated[
        list[str], typer.Argument(metavar="FILE_OR_MODULE[:app]...", help="functions.py, shop.functions.")
    ],
    yes: Yes = False,
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
    tasks = [DeclaredTask(task.identifier, task.location, task.defaults) for task in load_tasks(targets)]
    plan = _with_connection(lambda connection: plan_sync(connection, jobs_schema(), tasks, prune=prune), database_url)
    echo(json.dumps(plan_as_json(plan), indent=2) if json_output else plan_as_text(plan))
    if all(change.change in {Change.UNCHANGED, Change.KEPT} for change in plan):
        return
    if plan_only:
        raise typer.Exit(CHECK_FAILED)
    confirm("Apply these changes?", yes=yes)
    _with_connection(
        lambda connection: sync(connection, jobs_schema(), tasks, prune=prune), database_url, is_recorded=True
    )
    if not json_output:
        echo("applied")
