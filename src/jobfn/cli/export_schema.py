"""``jobfn export-schema``: export the payload schemas of tasks."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from jobfn.cli.options import Target
from jobfn.cli.output import echo
from jobfn.errors import ConfigurationError
from jobfn.function.describe import json_schema, openapi
from jobfn.function.loading import load_function_app

EXAMPLE = "example: jobfn export-schema functions.py --format openapi --output openapi.json"


class Format(StrEnum):
    """Format of the document."""

    JSON_SCHEMA = "json-schema"
    OPENAPI = "openapi"


def register_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export-schema", epilog=EXAMPLE)(export_schema_command)


def export_schema_command(
    target: Target,
    format_: Annotated[
        Format, typer.Option("--format", help="json-schema: payloads only; openapi: results and errors too.")
    ] = Format.JSON_SCHEMA,
    title: Annotated[str, typer.Option(help="Title of an OpenAPI document.")] = "Job functions",
    version: Annotated[str, typer.Option(help="Version of an OpenAPI document.")] = "1.0.0",
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write to this file. Default: print.")] = None,
) -> None:
    """Export payloads as JSON Schema, or tasks as OpenAPI 3.1."""
    app = load_function_app(target)
    tasks = app.tasks.values()
    document = json_schema(tasks) if format_ is Format.JSON_SCHEMA else openapi(tasks, title=title, version=version)
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if output is None:
        echo(text)
        return
    try:
        output.write_text(f"{text}\n", "utf-8")
    except OSError as error:
        raise ConfigurationError(f"--output {output} cannot be written: {error.strerror}") from error
    echo(f"wrote {output}: {', '.join(app.tasks)}")
