"""``jobfn check`` and ``jobfn build``: what a function holds, and its image."""

import json
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from jobfn.deploy.images import Builder, check_context, commands, find_builder
from jobfn.deploy.inspection import TaskFacts, target_in, tasks_in
from jobfn.errors import ConfigurationError, JobfnError
from jobfn.wire.dns_names import dns_name

BUILD_EXAMPLE = (
    "example: jobfn build --tag registry.example.com/orders:1.0 --push; what stands after -- is the builder's: "
    "jobfn build --tag orders -- --build-arg BASE_IMAGE=debian-with-python"
)


class BuildFailed(JobfnError):
    """The builder ended with an error, which it has told itself."""


def register_commands(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("check", epilog="example: jobfn check functions.py --json")(check_command)
    app.command("build", epilog=BUILD_EXAMPLE)(build_command)


def check_command(
    target: Annotated[
        str, typer.Argument(metavar="PATH_OR_MODULE[:app]", help="A functions.py, its folder, or shop.functions.")
    ] = ".",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Import a function and list its tasks and what they take. Runs none of them."""
    tasks = tasks_in(_target(target))
    if as_json:
        typer.echo(json.dumps([task.model_dump() for task in tasks], indent=2))
    else:
        _show(tasks)


def build_command(
    extra: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH] [-- BUILDER_OPTIONS]", help="Default: this folder.")
    ] = None,
    tag: Annotated[str, typer.Option(help="The image's name.", metavar="NAME", show_default=False)] = ...,  # type: ignore[assignment]  # typer's word for required
    push: Annotated[bool, typer.Option("--push", help="Then send it to its registry.")] = False,
    builder: Annotated[
        Builder | None, typer.Option("--with", help="Default: the first that is installed.", show_default=False)
    ] = None,
) -> None:
    """Build a function's image with docker, podman or buildah, after a `jobfn check`."""
    words = list(extra or ())
    folder = Path(words.pop(0)) if words and not words[0].startswith("-") else Path()
    if words and not words[0].startswith("-"):
        raise ConfigurationError(f"{words[0]!r} is one path too many: give one folder; the builder's options follow --")
    check_context(folder)
    _show(tasks_in(target_in(folder)))
    found = commands(find_builder(builder), folder, tag=tag, extra=words)
    for command in (found.build, found.push) if push else (found.build,):
        _run(command)


def _target(given: str) -> str:
    """A folder or file that is there as a path, anything else as ``jobfn serve`` reads it."""
    return target_in(Path(given)) if Path(given).exists() else given


def _run(command: Sequence[str]) -> None:
    typer.echo(f"$ {shlex.join(command)}")
    code = subprocess.run(command, check=False).returncode  # noqa: S603  - no shell, and shown the line before
    if code != 0:
        raise BuildFailed(f"{shlex.join(command[:2])} ended with exit code {code}; what it said stands above")


def _show(tasks: Sequence[TaskFacts]) -> None:
    for task in tasks:
        typer.echo(f"{task.identifier}  {task.description}".rstrip())
        typer.echo(f"  at        {task.location}")
        limit = "none" if task.timeout_seconds is None else f"{task.timeout_seconds:g} s"
        typer.echo(f"  timeout   {limit}{', in the background' if task.background else ''}")
        typer.echo(f"  DNS name  {dns_name(task.identifier)}")
        typer.echo(f"  payload   {_kind(task.payload)}")
        for line in _fields(task.payload):
            typer.echo(f"    {line}")


def _fields(schema: dict[str, Any]) -> list[str]:
    required = schema.get("required", ())
    properties = schema.get("properties", {})
    width = max(map(len, properties), default=0)
    return [
        f"{name:{width}}  {_kind(field)}{', required' if name in required else ''}"
        for name, field in properties.items()
    ]


def _kind(schema: Any) -> str:
    """A JSON Schema in a word: its types, or the name of the model that it refers to."""
    if not isinstance(schema, dict):
        return "anything"
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return " or ".join(dict.fromkeys(_kind(choice) for choice in choices))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items'))}"
    return str(schema.get("type") or "anything")
