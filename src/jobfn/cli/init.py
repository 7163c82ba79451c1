"""``jobfn init``: a new project, with its tests, its image and its manifest."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from jobfn.deploy.scaffold import Project, add_own_wheel, create, installed_from


def register_commands(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("init", epilog="example: jobfn init my-function --task process_invoice")(init_command)


def init_command(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The new folder; its name is the project's.", show_default=False)
    ],
    task: Annotated[
        str | None, typer.Option(help="The task's identifier. Default: the project's name.", show_default=False)
    ] = None,
    description: Annotated[str | None, typer.Option(help="One line about it.", show_default=False)] = None,
    image: Annotated[
        str | None, typer.Option(help="What its image is called, with its registry.", show_default=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take the defaults.")] = False,
) -> None:
    """Make a project: a function with a task, tests, image and manifest. Never overwrites a file.

    Asks in a terminal for what no option says; elsewhere the defaults count.
    """
    defaults = Project.named_after(folder, task=task, description=description, image=image)
    if not yes and sys.stdin.isatty() and sys.stdout.isatty():
        task = task or typer.prompt("Task identifier", default=defaults.task)
        description = description or typer.prompt("Description", default=defaults.description)
        image = image or typer.prompt("Image", default=defaults.image)
    project = Project.named_after(folder, task=task, description=description, image=image)
    for path in create(project, folder):
        typer.echo(f"made {folder / path}")
    wheel = add_own_wheel(folder, installed_from())
    if wheel is not None:
        typer.echo(f"made {folder / wheel}")
    else:
        typer.echo(
            f"now put jobfn's wheel into {folder / 'wheels'}: `make dist` in jobfn's repository makes dist/jobfn-*.whl"
        )
    typer.echo(f"read on in {folder / 'README.md'}")
