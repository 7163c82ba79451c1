"""``jobfn serve``, ``service`` and ``dev``: what keeps running until it is told to stop."""

import functools
import os
from pathlib import Path
from typing import Annotated

import typer

from jobfn.cli.database import in_loop
from jobfn.dashboard.settings import DashboardSettings
from jobfn.database.connection import dsn_from_env, has_database
from jobfn.function.loading import load_app, load_function_app
from jobfn.function.serve import port_from, serve
from jobfn.http.server import stop_signals
from jobfn.telemetry import logs, otel
from jobfn.worker.settings import ServiceRole, ServiceSettings

Target = Annotated[
    str, typer.Argument(metavar="FILE_OR_MODULE[:app]", help="functions.py, or shop.functions.", show_default=False)
]
Concurrency = Annotated[
    int | None, typer.Option(min=1, max=10_000, help="Requests at a time. Default: JOBS_CONCURRENCY, else 16.")
]

SERVICE_EXAMPLE = (
    "example: DATABASE_URL=postgresql://localhost/shop jobfn service; "
    "jobfn service --only worker --only callbacks leaves the scheduler to another"
)


def register_commands(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("dev", epilog="example: jobfn dev functions.py")(dev_command)
    app.command("serve", epilog="example: jobfn serve functions.py --port 8080")(serve_command)
    app.command("service", epilog=SERVICE_EXAMPLE)(service_command)


def serve_command(
    target: Target,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Default: PORT, else 8080.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",  # noqa: S104  - as a container does
) -> None:
    """Run only the function app, as a container does."""
    logs.configure()
    otel.configure(os.environ, role="jobfn-function")
    serve(load_app(target), host=host, port=port if port is not None else port_from(os.environ))


def service_command(
    concurrency: Concurrency = None,
    only: Annotated[
        list[ServiceRole] | None, typer.Option(help="Run only this part; repeatable.", show_default="all of them")
    ] = None,
    local: Annotated[
        str | None,
        typer.Option(
            metavar="FILE_OR_MODULE[:app]",
            help="Run these tasks in this process, without HTTP; no callback server then.",
            show_default=False,
        ),
    ] = None,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Serve the dashboard too; JOBFN_DASHBOARD_* say where, and to whom.")
    ] = False,
) -> None:
    """Run only the platform side: worker, callback server and scheduler, configured by the environment."""
    from jobfn.service import DelivererFactory, run_service  # noqa: PLC0415  - each verb loads what it runs

    logs.configure()
    otel.configure(os.environ, role="jobfn-service")
    settings = ServiceSettings.from_environ(os.environ, concurrency=concurrency)
    shown = DashboardSettings.from_environ(os.environ) if dashboard else None
    deliverer: DelivererFactory | None = None
    if local is not None:
        from jobfn.in_process import local_settings, local_tasks  # noqa: PLC0415

        app = load_function_app(local)
        settings = local_settings(settings, app)
        deliverer = functools.partial(local_tasks, app)
        only = only or [ServiceRole.WORKER, ServiceRole.SCHEDULER]

    async def work() -> None:
        with stop_signals() as stop:
            await run_service(settings, stop, only=only or (), deliverer=deliverer, dashboard=shown)

    in_loop(work())


def dev_command(
    target: Target,
    database_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="A test database. Default: DATABASE_URL, else PG*, else an embedded PostgreSQL."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the function app; 0: any free one.")] = 8080,
    callback_port: Annotated[int, typer.Option(min=0, max=65535, help="Of the callback server; 0: any free one.")] = 0,
    concurrency: Concurrency = None,
    reload: Annotated[bool, typer.Option(help="Restart the function app when a file is saved.")] = True,
    enqueue: Annotated[
        tuple[str, str] | None, typer.Option(metavar="TASK JSON", help="Add this job once everything runs.")
    ] = None,
    blueprint: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Apply its triggers now and on save. May be given several times."),
    ] = None,
    dashboard: Annotated[bool, typer.Option(help="Serve the dashboard.")] = True,
    dashboard_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Of the dashboard. Default: 8081, or any free one where that is taken."),
    ] = None,
) -> None:
    """Run everything: PostgreSQL, function app, worker, callback server, scheduler, with reload on save."""
    from jobfn.devserver.dev import DevOptions, run_dev  # noqa: PLC0415  - each verb loads what it runs

    logs.configure()
    otel.configure(os.environ, role="jobfn-dev")
    named = has_database(os.environ)
    options = DevOptions(
        target=target,
        project=Path.cwd(),
        database_url=database_url or dsn_from_env(os.environ),
        embedded=database_url is None and not named,
        port=port,
        callback_port=callback_port,
        concurrency=concurrency,
        reload=reload,
        enqueue=enqueue,
        blueprints=tuple(blueprint or ()),
        dashboard=dashboard,
        dashboard_port=dashboard_port,
    )
    in_loop(run_dev(options))
