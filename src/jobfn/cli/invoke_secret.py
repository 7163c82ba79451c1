"""``jobfn invoke-secret``: print the secret of one function, derived from the worker's key."""

import os
from typing import Annotated

import typer

from jobfn.cli.output import echo
from jobfn.errors import ConfigurationError
from jobfn.worker.invoke_secrets import derive_secret
from jobfn.worker.routes import Routes
from jobfn.worker.settings import ServiceSettings

EXAMPLE = "example: JOBFN_INVOKE_KEY=... jobfn invoke-secret http://orders.jobs.svc.cluster.local"


def register_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command("invoke-secret", epilog=EXAMPLE)(invoke_secret_command)


def invoke_secret_command(
    function: Annotated[
        str,
        typer.Argument(
            metavar="URL|TASK",
            help="The function's URL that the worker uses, or a task, whose URL the settings give.",
        ),
    ],
) -> None:
    """Print the invoke secret of one function.

    The worker derives it from JOBFN_INVOKE_KEY. Set it as JOBFN_INVOKE_SECRET on that function alone.
    """
    settings = ServiceSettings.from_environ(os.environ)
    if not settings.invoke_keys:
        raise ConfigurationError(
            "JOBFN_INVOKE_KEY is not set: set it to the worker's value; make one with `openssl rand -hex 32`"
        )
    url = function if function.startswith(("http://", "https://")) else Routes.from_settings(settings).url_for(function)
    try:
        echo(derive_secret(settings.invoke_keys[0], url))
    except ValueError:
        raise ConfigurationError(f"{function!r} is not a URL: give the function's, or a task") from None
