"""``jobfn init``: create a project with tests, image and manifest."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from jobfn.cli.output import echo
from jobfn.deploy.handler_project import summary_of
from jobfn.deploy.own_wheel import pack_own_wheel
from jobfn.deploy.scaffold import Project, create_project
from jobfn.handler_json import HandlerJson
from jobfn.install import wheel_command


def register_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command("init", epilog="example: jobfn init my-function --task process_invoice")(init_command)


def init_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The new folder, and the project's name.")],
    task: Annotated[str | None, typer.Option(help="The task identifier. Default: the project's name.")] = None,
    description: Annotated[str | None, typer.Option(help="Description of the project, one line.")] = None,
    handler_json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A handler.json of the platform, with task, payload, secrets and configs."),
    ] = None,
    image: Annotated[str | None, typer.Option(help="Name of the image, with registry.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Use the defaults without asking.")] = False,
) -> None:
    """Create a function project with tests, image and manifest.

    Overwrites no file. In a terminal it asks for the options that are missing.
    """
    from_file = None if handler_json is None else HandlerJson.read(handler_json)
    if from_file is not None:
        task = task or from_file.task
        description = description or summary_of(from_file) or None
    defaults = Project.from_folder(folder, task=task, description=description, image=image)
    if not yes and sys.stdin.isatty() and sys.stdout.isatty():
        task = task or typer.prompt("Task identifier", default=defaults.task)
        description = description or typer.prompt("Description", default=defaults.description)
        image = image or typer.prompt("Image", default=defaults.image)
    project = Project.from_folder(folder, task=task, description=description, image=image)
    for path in create_project(project, folder, from_file):
        echo(f"created {folder / path}")
    wheels = folder / "wheels"
    wheel = pack_own_wheel(wheels)
    echo(f"next: {wheel_command(wheels)}" if wheel is None else f"created {wheel}")
    echo(f"next: read {folder / 'README.md'}")
