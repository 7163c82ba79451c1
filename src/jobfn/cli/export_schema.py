"""``jobfn schema``: what tasks take, for callers in other languages."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from jobfn.errors import ConfigurationError
from jobfn.function.describe import json_schema, openapi
from jobfn.function.loading import load_function_app

EXAMPLE = "example: jobfn schema functions.py --format openapi --output openapi.json"


class Format(StrEnum):
    """The form of the document."""

    JSON_SCHEMA = "json-schema"
    OPENAPI = "openapi"


def register_commands(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("schema", epilog=EXAMPLE)(schema_command)


def schema_command(
    target: Annotated[
        str, typer.Argument(metavar="FILE_OR_MODULE[:app]", help="functions.py, or shop.functions.", show_default=False)
    ],
    form: Annotated[
        Format, typer.Option("--format", help="json-schema: the payloads; openapi: results and failures too.")
    ] = Format.JSON_SCHEMA,
    title: Annotated[str, typer.Option(help="Of an OpenAPI document.")] = "Job functions",
    version: Annotated[str, typer.Option(help="Of an OpenAPI document.")] = "1.0.0",
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it there instead of printing it.")] = None,
) -> None:
    """Print what the tasks take as JSON Schema, or as an OpenAPI 3.1 document: for generators of types."""
    app = load_function_app(target)
    tasks = app.tasks.values()
    document = json_schema(tasks) if form is Format.JSON_SCHEMA else openapi(tasks, title=title, version=version)
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if output is None:
        typer.echo(text)
        return
    try:
        output.write_text(f"{text}\n", "utf-8")
    except OSError as error:
        raise ConfigurationError(f"--output {output}: {error.strerror}") from error
    typer.echo(f"wrote {output}: {', '.join(app.tasks)}")
