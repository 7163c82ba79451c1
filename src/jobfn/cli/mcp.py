"""``jobfn mcp``: serve the operations as tools for an assistant."""

import os
import sys
from typing import Annotated

import typer

from jobfn.cli.database import resolve_database_url, run_async
from jobfn.cli.doctor import service_settings
from jobfn.cli.options import DatabaseUrl
from jobfn.cli.output import echo
from jobfn.errors import ConfigurationError
from jobfn.install import install_command
from jobfn.telemetry import logs

EXAMPLE = "examples: jobfn mcp --read-only; with Claude Code: claude mcp add jobs -- jobfn mcp --read-only"


def register_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command("mcp", epilog=EXAMPLE)(mcp_command)


def mcp_command(
    read_only: Annotated[bool, typer.Option("--read-only", help="Offer only the tools that change nothing.")] = False,
    no_payloads: Annotated[bool, typer.Option("--no-payloads", help="Never show payloads and results.")] = False,
    http: Annotated[bool, typer.Option("--http", help="Serve over HTTP on 127.0.0.1; needs JOBFN_MCP_TOKEN.")] = False,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="With --http: port; 0 for a free one. Default: JOBFN_MCP_PORT or 8082."),
    ] = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Serve tools for an assistant (MCP).

    An assistant starts it and talks to it over standard input and output. Changes are confirmed by its user.
    """
    try:
        from jobfn.mcp.serve import run_http, serve_stdio  # noqa: PLC0415  - an extra, and only for this command
        from jobfn.mcp.settings import McpSettings  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "mcp":
            raise
        raise ConfigurationError(f"the MCP SDK is not installed: {install_command('mcp')}") from None

    logs.configure()
    settings = McpSettings.from_environ(
        os.environ, read_only=read_only or None, payloads=False if no_payloads else None, port=port
    )
    service = service_settings(database_url, resolve_database_url(database_url))
    if http:
        run_async(run_http(settings, service, lambda url: echo(f"mcp  {url}")))
        return
    run_async(serve_stdio(settings, service, _explain_silence))


def _explain_silence() -> None:
    """Print a hint in a terminal, where the command would print nothing."""
    if sys.stdin.isatty():
        echo("jobfn mcp waits for an assistant, which writes JSON-RPC to its input. Ctrl-C ends it", err=True)
