"""``jobfn inspect`` and ``jobfn build``: list the tasks of a function, and build its image."""

import json
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from jobfn.cli.options import AsJson
from jobfn.cli.output import echo
from jobfn.deploy.images import Builder, check_context, find_builder, image_commands
from jobfn.deploy.inspection import TaskInfo, inspect_tasks, resolve_target
from jobfn.errors import ConfigurationError, JobfnError
from jobfn.wire.dns_names import dns_name

BUILD_EXAMPLE = (
    "examples: jobfn build --tag registry.example.com/orders:1.0 --push; with options of the builder after --: "
    "jobfn build --tag orders -- --build-arg BASE_IMAGE=debian-with-python"
)


class BuildFailed(JobfnError):
    """The image builder failed; its own output says why."""


def register_commands(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("inspect", epilog="example: jobfn inspect functions.py --json")(inspect_command)
    app.command("build", epilog=BUILD_EXAMPLE)(build_command)


def inspect_command(
    target: Annotated[
        str, typer.Argument(metavar="PATH_OR_MODULE[:app]", help="functions.py, its folder, or shop.functions.")
    ] = ".",
    as_json: AsJson = False,
) -> None:
    """List the tasks of a function and their payloads.

    Imports the function, but runs no task.
    """
    path = Path(target)
    tasks = inspect_tasks(resolve_target(path) if path.exists() else target)
    if as_json:
        echo(json.dumps([task.model_dump() for task in tasks], indent=2))
    else:
        _print_tasks(tasks)


def build_command(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH] [-- BUILDER_OPTIONS]", help="The folder. Default: this one.")
    ] = None,
    tag: Annotated[str, typer.Option(help="Name of the image.", metavar="NAME")] = ...,  # type: ignore[assignment]  # makes the option required
    push: Annotated[bool, typer.Option("--push", help="Push the image to its registry.")] = False,
    builder: Annotated[Builder | None, typer.Option("--with", help="Default: the first that is installed.")] = None,
) -> None:
    """Build a function's image with docker, podman or buildah."""
    extra = list(arguments or ())
    folder = Path(extra.pop(0)) if extra and not extra[0].startswith("-") else Path()
    if extra and not extra[0].startswith("-"):
        raise ConfigurationError(f"{extra[0]!r} is not expected: give one folder, and options of the builder after --")
    check_context(folder)
    _print_tasks(inspect_tasks(resolve_target(folder)))
    build_image, push_image = image_commands(find_builder(builder), folder, tag=tag, extra=extra)
    for command in (build_image, push_image) if push else (build_image,):
        _run(command)


def _run(command: Sequence[str]) -> None:
    echo(f"$ {shlex.join(command)}")
    code = subprocess.run(command, check=False).returncode  # noqa: S603  - no shell; printed above
    if code != 0:
        raise BuildFailed(f"{shlex.join(command[:2])} failed with exit code {code}: see its output above")


def _print_tasks(tasks: Sequence[TaskInfo]) -> None:
    for task in tasks:
        echo(f"{task.identifier}  {task.description}".rstrip())
        echo(f"  location  {task.location}")
        limit = "none" if task.timeout_seconds is None else f"{task.timeout_seconds:g} s"
        echo(f"  timeout   {limit}{', in the background' if task.background else ''}")
        echo(f"  DNS name  {dns_name(task.identifier)}")
        echo(f"  payload   {_type_text(task.payload)}")
        for line in _field_lines(task.payload):
            echo(f"    {line}")


def _field_lines(schema: dict[str, Any]) -> list[str]:
    required = schema.get("required", ())
    properties = schema.get("properties", {})
    width = max(map(len, properties), default=0)
    return [
        f"{name:{width}}  {_type_text(field)}{', required' if name in required else ''}"
        for name, field in properties.items()
    ]


def _type_text(schema: Any) -> str:
    """Describe a JSON Schema in a few words: its types, or the model that it refers to."""
    if not isinstance(schema, dict):
        return "anything"
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return " or ".join(dict.fromkeys(_type_text(choice) for choice in choices))
    if schema.get("type") == "array":
        return f"list of {_type_text(schema.get('items'))}"
    return str(schema.get("type") or "anything")
