"""``jobfn explain``: explain an error code."""

from typing import Annotated

import typer

from jobfn.cli.output import echo
from jobfn.errors import ConfigurationError


def register_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain", epilog="example: jobfn explain F422")(explain_command)


def explain_command(
    code: Annotated[
        str | None, typer.Argument(metavar="CODE", help="A code of an error or an HTTP answer; none lists all.")
    ] = None,
) -> None:
    """Explain an error code.

    Error lines end with a code, HTTP answers have it in the field code. Works offline.
    """
    from jobfn.explain import explanations  # noqa: PLC0415  - only for this command

    known = explanations()
    if code is None:
        echo("\n".join(f"{each.code}  {each.title}" for each in known.values()))
        return
    found = known.get(code.strip("[]").upper())
    if found is None:
        raise ConfigurationError(f"the code {code!r} is unknown: `jobfn explain` lists all codes")
    echo(f"{found.code}  {found.title}\n\n{found.text}\n\n{found.url}")
