"""``jobfn dashboard``: the dashboard alone, on any database that carries a jobs schema."""

import os
from pathlib import Path
from typing import Annotated

import typer

from jobfn.cli.database import DatabaseUrl, database_of, in_loop, schema_of
from jobfn.dashboard.settings import DashboardSettings
from jobfn.devserver.state import DevState
from jobfn.http.server import stop_signals
from jobfn.telemetry import logs
from jobfn.worker.settings import ServiceSettings

EXAMPLE = "example: DATABASE_URL=postgresql://localhost/shop jobfn dashboard --read-only"


def register_commands(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("dashboard", epilog=EXAMPLE)(dashboard_command)


def dashboard_command(
    database_url: DatabaseUrl = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on; any but loopback needs JOBFN_DASHBOARD_TOKEN. "
            "Default: JOBFN_DASHBOARD_HOST, else 127.0.0.1."
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Default: JOBFN_DASHBOARD_PORT, else 8081; 0: any free one.")
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Show everything, change nothing.")] = False,
) -> None:
    """Serve the dashboard alone: what waits, what fails and why, in a browser."""
    from jobfn.dashboard.server import serving  # noqa: PLC0415  - each verb loads what it runs
    from jobfn.worker.dispatch import Routes  # noqa: PLC0415

    logs.configure()
    settings = DashboardSettings.from_environ(os.environ, host=host, port=port, read_only=read_only or None)
    service = ServiceSettings.from_environ(os.environ, database_url=database_of(database_url))
    running = DevState.find(Path.cwd())
    is_its_own = running is not None and running.database_url == service.database_url
    gateway_url = running.function_url if running is not None and is_its_own else service.gateway_url

    async def work() -> None:
        with stop_signals() as stop:
            async with serving(
                settings,
                database_url=service.database_url,
                schema=schema_of(),
                routes=Routes(gateway_url, service.development_map),
            ) as url:
                typer.echo(f"dashboard  {url}/{'  (read-only)' if settings.read_only else ''}")
                await stop.wait()

    in_loop(work())
