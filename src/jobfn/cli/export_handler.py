"""``jobfn export-handler``: write ``handler.json``, the platform's description of a function."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from jobfn.cli.options import Target
from jobfn.cli.output import echo
from jobfn.errors import ConfigurationError
from jobfn.function.execution import AnyTask
from jobfn.function.handler_manifest import handler_manifest
from jobfn.function.loading import load_function_app
from jobfn.handler_json import FILE_NAME, read_object
from jobfn.wire.dns_names import dns_names

EXAMPLE = "example: jobfn export-handler functions.py --output handler.json"


def register_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export-handler", epilog=EXAMPLE)(export_handler_command)


def export_handler_command(
    target: Target,
    task: Annotated[str | None, typer.Option(help="The task. Default: all tasks.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Write or update this file; in a folder, NAME/handler.json for each task. Default: print.",
        ),
    ] = None,
) -> None:
    """Export tasks as handler.json of the platform.

    It has the payload, the ports, the secrets and the configs. Fields that a task does not determine, such as version,
    port and icon, are kept.
    """
    app = load_function_app(target)
    tasks = list(app.tasks.values()) if task is None else [_find(app.tasks, task)]
    if output is not None and output.is_dir():
        names = dns_names(each.identifier for each in tasks)
        for each in tasks:
            _write(each, output / names[each.identifier] / FILE_NAME)
    elif len(tasks) > 1:
        raise ConfigurationError(
            f"{target} has several tasks, and {FILE_NAME} describes one: choose it with --task, or name an existing "
            f"folder with --output. Tasks: {', '.join(sorted(app.tasks))}"
        )
    elif output is None:
        echo(_to_json(handler_manifest(tasks[0])))
    else:
        _write(tasks[0], output)


def _find(tasks: dict[str, AnyTask], identifier: str) -> AnyTask:
    if identifier not in tasks:
        raise ConfigurationError(f"--task {identifier!r} is not a task here: use one of {', '.join(sorted(tasks))}")
    return tasks[identifier]


def _write(task: AnyTask, path: Path) -> None:
    existing = read_object(path) if path.exists() else {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{_to_json(handler_manifest(task, existing))}\n", "utf-8")
    except OSError as error:
        raise ConfigurationError(f"--output {path} cannot be written: {error.strerror}") from error
    echo(f"wrote {path}: {task.identifier}")


def _to_json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)
