"""``jobfn tasks``: the settings of tasks, and the overrides of operators."""

import json
from functools import partial
from typing import Annotated

import typer

from jobfn.cli.database import jobs_schema, with_connection
from jobfn.cli.options import AsJson, DatabaseUrl
from jobfn.cli.output import echo
from jobfn.cli.render_tasks import values_as_json, values_as_text
from jobfn.cli.session import complete_tasks
from jobfn.errors import ConfigurationError
from jobfn.operations.task_settings import override, read_settings, reset

app = typer.Typer(help="Show and override the settings of tasks.", no_args_is_help=True, rich_markup_mode=None)

Task = Annotated[str, typer.Argument(help="The task identifier.", autocompletion=complete_tasks)]

_with_connection = partial(with_connection, application_name="jobfn-tasks")


@app.command("list", epilog="example: jobfn tasks list --json")
def list_command(database_url: DatabaseUrl = None, json_output: AsJson = False) -> None:
    """List tasks with settings: of the code, and overrides."""
    settings = _with_connection(lambda connection: read_settings(connection, jobs_schema()), database_url)
    if json_output:
        entries = [
            {"task": task, "declared": values_as_json(declared), "overrides": values_as_json(overrides)}
            for task, declared, overrides in settings
        ]
        echo(json.dumps(entries, indent=2))
        return
    for task, values, overrides in settings:
        own = f"  (an operator has set {values_as_text(overrides)})" if overrides else ""
        echo(f"{task}  {values_as_text(values) or '-'}{own}")
    if not settings:
        echo("no task has settings")


@app.command("set", epilog="example: jobfn tasks set sync_customer --queue slow")
def set_command(
    task: Task,
    queue: Annotated[str | None, typer.Option(help="Queue of all new jobs.")] = None,
    priority: Annotated[
        int | None, typer.Option(min=-(2**31), max=2**31 - 1, help="Priority of all new jobs; lower runs first.")
    ] = None,
    max_attempts: Annotated[int | None, typer.Option(min=1, max=2**31 - 1, help="Maximum number of attempts.")] = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Override settings for all new jobs of a task.

    They also replace what the code or a caller gives.
    """
    if queue is None and priority is None and max_attempts is None:
        raise ConfigurationError("nothing to set: give --queue, --priority or --max-attempts")
    if queue is not None and not 1 <= len(queue) <= 126:
        raise ConfigurationError("--queue must have 1 to 126 characters")
    if not 1 <= len(task) <= 126:
        raise ConfigurationError("the task must have 1 to 126 characters")
    _with_connection(
        lambda connection: override(
            connection, jobs_schema(), task, queue=queue, priority=priority, max_attempts=max_attempts
        ),
        database_url,
        grant="operator",
        is_recorded=True,
    )
    echo(f"set {task}")


@app.command("reset", epilog="example: jobfn tasks reset sync_customer")
def reset_command(task: Task, database_url: DatabaseUrl = None) -> None:
    """Remove the overrides of a task."""
    was_set = _with_connection(
        lambda connection: reset(connection, jobs_schema(), task), database_url, grant="operator", is_recorded=True
    )
    echo(f"reset {task}" if was_set else f"{task} has no overrides")
