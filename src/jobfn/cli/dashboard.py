"""``jobfn dashboard``: serve the dashboard alone."""

import os
from pathlib import Path
from typing import Annotated

import typer

from jobfn.cli.database import jobs_schema, resolve_database_url, run_async
from jobfn.cli.options import DatabaseUrl
from jobfn.cli.output import echo
from jobfn.dashboard.settings import DashboardSettings
from jobfn.database.connection import connect, wait_for_database
from jobfn.devserver.state import DevState
from jobfn.http.server import stop_signals
from jobfn.telemetry import logs
from jobfn.worker.settings import ServiceSettings

EXAMPLE = "example: DATABASE_URL=postgresql://localhost/shop jobfn dashboard --read-only"


def register_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command("dashboard", epilog=EXAMPLE)(dashboard_command)


def dashboard_command(
    database_url: DatabaseUrl = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on; all but loopback require JOBFN_DASHBOARD_TOKEN. "
            "Default: JOBFN_DASHBOARD_HOST or 127.0.0.1."
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port; 0 for a free one. Default: JOBFN_DASHBOARD_PORT or 8081."),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Turn off all changes.")] = False,
) -> None:
    """Serve the dashboard alone."""
    from jobfn.dashboard.server import serve_dashboard  # noqa: PLC0415  - only for this command
    from jobfn.worker.function_urls import load_routes  # noqa: PLC0415

    logs.configure()
    settings = DashboardSettings.from_environ(os.environ, host=host, port=port, read_only=read_only or None)
    if database_url is None and os.environ.get("JOBS_DATABASES"):
        _serve_databases(settings)
        return
    service = ServiceSettings.from_environ(os.environ, database_url=resolve_database_url(database_url))
    dev = DevState.find(Path.cwd())
    if dev is not None and dev.database_url == service.database_url:
        service = service.model_copy(update={"gateway_url": dev.function_url})

    async def work() -> None:
        with stop_signals() as stop:
            connection = await wait_for_database(
                lambda: connect(service.database_url, application_name="jobfn-dashboard"),
                seconds=service.database_wait_seconds,
                stop=stop,
            )
            if connection is None:
                return
            try:
                routes = await load_routes(service, connection)
            finally:
                await connection.close()
            async with serve_dashboard(
                settings,
                database_url=service.database_url,
                schema=jobs_schema(),
                routes=routes,
            ) as url:
                _print_url(url, settings)
                await stop.wait()

    run_async(work())


def _serve_databases(settings: DashboardSettings) -> None:
    from jobfn.databases.dashboards import serve_dashboards  # noqa: PLC0415  - only with the setting

    async def work() -> None:
        with stop_signals() as stop:
            service = ServiceSettings.from_environ(os.environ)
            await serve_dashboards(service, settings, stop, on_url=lambda url: _print_url(url, settings))

    run_async(work())


def _print_url(url: str, settings: DashboardSettings) -> None:
    echo(f"dashboard  {url}/{'  (read-only)' if settings.read_only else ''}")
