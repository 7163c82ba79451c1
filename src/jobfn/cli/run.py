"""``jobfn serve``, ``service`` and ``dev``: long-running processes."""

import functools
import os
from pathlib import Path
from typing import Annotated

import typer

from jobfn.cli.database import run_async
from jobfn.cli.interrupt import exit_at_ctrl_c
from jobfn.cli.options import Target
from jobfn.dashboard.settings import DashboardSettings
from jobfn.database.connection import database_variable
from jobfn.errors import ConfigurationError
from jobfn.function.loading import load_app, load_function_app
from jobfn.function.serve import port_from, serve
from jobfn.http.server import stop_signals
from jobfn.telemetry import logs, otel
from jobfn.telemetry.misspelt_settings import warn_of_misspelt
from jobfn.worker.settings import ServiceRole, ServiceSettings

Concurrency = Annotated[
    int | None, typer.Option(min=1, max=10_000, help="Maximum concurrent requests. Default: JOBS_CONCURRENCY or 16.")
]

SERVICE_EXAMPLE = (
    "examples: DATABASE_URL=postgresql://localhost/shop jobfn service; without the scheduler: "
    "jobfn service --only worker --only callbacks"
)


def register_commands(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("dev", epilog="examples: jobfn dev functions.py; jobfn dev --list; jobfn dev --remove .")(dev_command)
    app.command("serve", epilog="example: jobfn serve functions.py --port 8080")(serve_command)
    app.command("service", epilog=SERVICE_EXAMPLE)(service_command)


def serve_command(
    target: Target,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Default: PORT or 8080.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",  # noqa: S104  - for containers
) -> None:
    """Serve a function app, as its container does."""
    logs.configure()
    otel.configure(os.environ, role="jobfn-function")
    serve(load_app(target), host=host, port=port if port is not None else port_from(os.environ))


def service_command(
    concurrency: Concurrency = None,
    only: Annotated[
        list[ServiceRole] | None, typer.Option(help="Run only this role; repeatable.", show_default="all roles")
    ] = None,
    local: Annotated[
        str | None,
        typer.Option(
            metavar="FILE_OR_MODULE[:app]", help="Run these tasks in this process, without HTTP and callback server."
        ),
    ] = None,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Serve the dashboard too, configured by JOBFN_DASHBOARD_*.")
    ] = False,
) -> None:
    """Run worker, callback server and scheduler.

    Environment variables configure them.
    """
    from jobfn.database_service import DelivererFactory  # noqa: PLC0415  - only for this command

    with exit_at_ctrl_c():
        from jobfn.service import run_service  # noqa: PLC0415  - as above

    logs.configure()
    otel.configure(os.environ, role="jobfn-service")
    warn_of_misspelt(os.environ, ServiceSettings, DashboardSettings, logger="jobfn.service")
    settings = ServiceSettings.from_environ(os.environ, concurrency=concurrency)
    dashboard_settings = DashboardSettings.from_environ(os.environ) if dashboard else None
    deliverer: DelivererFactory | None = None
    if local is not None:
        from jobfn.in_process import local_settings, local_tasks  # noqa: PLC0415

        app = load_function_app(local)
        settings = local_settings(settings, app)
        deliverer = functools.partial(local_tasks, app)
        only = only or [ServiceRole.WORKER, ServiceRole.SCHEDULER]

    async def work() -> None:
        with stop_signals() as stop:
            await run_service(
                settings,
                stop,
                roles=only or (),
                deliverer_factory=deliverer,
                dashboard=dashboard_settings,
                answers_probes=True,
            )

    run_async(work())


def dev_command(
    target: Annotated[
        str | None, typer.Argument(metavar="FILE_OR_MODULE[:app]", help="functions.py or shop.functions.")
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A test database. Default: an embedded PostgreSQL."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the function app; 0 for a free one.")] = 8080,
    callback_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the callback server; 0 for a free one.")
    ] = 0,
    concurrency: Concurrency = None,
    reload: Annotated[bool, typer.Option(help="Restart the function app when a file is saved.")] = True,
    enqueue: Annotated[
        tuple[str, str] | None, typer.Option(metavar="TASK JSON", help="Add this job once everything runs.")
    ] = None,
    blueprint: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Apply the triggers of this file now and on save; repeatable."),
    ] = None,
    dashboard: Annotated[bool, typer.Option(help="Serve the dashboard.")] = True,
    dashboard_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the dashboard. Default: 8081, or a free one.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the development databases, and exit.")] = False,
    remove: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Remove the development database of this folder, and exit.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --remove: do not ask.")] = False,
) -> None:
    """Run everything for development, with reload on save.

    Starts PostgreSQL, function app, worker, callback server, scheduler and dashboard.
    """
    if list_ or remove is not None:
        from jobfn.cli.dev_databases import list_databases, remove_database  # noqa: PLC0415

        if list_ and remove is not None:
            raise ConfigurationError("--list and --remove exclude each other: give one of them")
        if remove is not None:
            remove_database(remove, yes=yes)
        else:
            list_databases()
        return
    if target is None:
        raise ConfigurationError("the file with your tasks is missing: jobfn dev functions.py")
    with exit_at_ctrl_c():
        from jobfn.devserver.dev import DevOptions, run_dev  # noqa: PLC0415  - only for this command

    if database_url is None and (variable := database_variable(os.environ)) is not None:
        option = '"$DATABASE_URL"' if variable == "DATABASE_URL" else "postgresql://"
        raise ConfigurationError(
            f"{variable} names a database, which jobfn dev would migrate and run jobs on: pass --database-url {option} "
            f"if it is a test database, or unset {variable} for an embedded PostgreSQL"
        )
    logs.configure()
    otel.configure(os.environ, role="jobfn-dev")
    warn_of_misspelt(os.environ, ServiceSettings, DashboardSettings, logger="jobfn.dev")
    options = DevOptions(
        target=target,
        project=Path.cwd(),
        database_url=database_url,
        port=port,
        callback_port=callback_port,
        concurrency=concurrency,
        reload=reload,
        enqueue=enqueue,
        blueprints=tuple(blueprint or ()),
        dashboard=dashboard,
        dashboard_port=dashboard_port,
    )
    run_async(run_dev(options))
