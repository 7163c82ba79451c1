"""``jobfn dev``: run PostgreSQL, the function app with reload on save, and the platform side, until Ctrl-C."""

import asyncio
import contextlib
import functools
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobfn.dashboard.server import serve_dashboard
from jobfn.dashboard.settings import DEFAULT_PORT, DashboardSettings
from jobfn.database.connection import connect, redact_dsn
from jobfn.database.enqueue import enqueue
from jobfn.database.migrate import SchemaKind, migrate, schema_kind
from jobfn.database.records import NewJob
from jobfn.devserver.blueprints import apply_blueprints, watch_blueprints
from jobfn.devserver.databases import DevDatabases
from jobfn.devserver.hint import command_path, enqueue_hint
from jobfn.devserver.postgres import EmbeddedPostgres, folder_for, project_id
from jobfn.devserver.reload import FunctionProcess, watch_python_files
from jobfn.devserver.schedules import sync_schedules
from jobfn.devserver.state import DevState, only_server
from jobfn.errors import ConfigurationError
from jobfn.http.server import bind, stop_signals
from jobfn.service import run_service
from jobfn.telemetry import logs
from jobfn.triggers.blueprint import load_blueprints
from jobfn.worker.routes import Routes
from jobfn.worker.settings import ServiceSettings

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class DevOptions:
    """Options of ``jobfn dev``.

    Attributes:
        target: ``FILE_OR_MODULE[:app]``.
        project: The folder in which it runs.
        database_url: The database; None for the embedded one.
        port: Port of the function app; 0 for a free one.
        concurrency: Maximum concurrent requests; None for the default of the settings.
        enqueue: Task and JSON payload of a job to add once everything runs.
        blueprints: Files whose triggers are applied at start and when a file is saved.
        dashboard_port: Port of the dashboard; None for 8081, or a free one if it is taken.
    """

    target: str
    project: Path
    database_url: str | None = None
    port: int = 8080
    callback_port: int = 0
    concurrency: int | None = None
    reload: bool = True
    enqueue: tuple[str, str] | None = None
    blueprints: tuple[Path, ...] = ()
    dashboard: bool = True
    dashboard_port: int | None = None


async def run_dev(options: DevOptions) -> None:
    """Run everything until SIGINT or SIGTERM.

    Raises:
        ConfigurationError: The file does not exist, a port is taken, or PostgreSQL does not start.
        DatabaseError: The database cannot be reached or migrated.
    """
    folder = _watched_folder(options)
    load_blueprints(options.blueprints)  # reports invalid files before anything starts
    async with contextlib.AsyncExitStack() as stack:
        stop = stack.enter_context(stop_signals())
        stack.enter_context(only_server(options.project))
        function_listener = stack.enter_context(contextlib.closing(_bind_function(options.port)))
        callback_listener = stack.enter_context(
            contextlib.closing(bind(LOOPBACK, options.callback_port, option="--callback-port"))
        )
        dashboard_listener = _bind_dashboard(options)
        if dashboard_listener is not None:
            stack.enter_context(contextlib.closing(dashboard_listener))
        database_url, loopback_url = await stack.enter_async_context(_database(options))
        function_url = f"http://{LOOPBACK}:{function_listener.getsockname()[1]}"
        callback_url = f"http://{LOOPBACK}:{callback_listener.getsockname()[1]}/callback"
        worker_id = _worker_id(options.project)
        settings = ServiceSettings.from_environ(
            os.environ,
            database_url=database_url,
            worker_id=worker_id,
            scheduler_id=worker_id,
            gateway_url=function_url,
            own_callback_url=callback_url,
            concurrency=options.concurrency,
        ).model_copy(update={"databases": None})  # its own database only
        await _migrate(settings)
        await apply_blueprints(options.blueprints, settings)
        function = FunctionProcess(options.target, function_listener)
        await function.start()
        stack.push_async_callback(function.stop)
        sync = functools.partial(
            sync_schedules,
            function_url,
            target=options.target,
            database_url=database_url,
            schema=settings.schema_name,
            prune=options.database_url is None,
        )
        supervisor = asyncio.create_task(_supervise(function, folder if options.reload else None, sync, stop))
        stack.push_async_callback(_cancel, supervisor)
        if options.blueprints and options.reload:
            watcher = asyncio.create_task(watch_blueprints(options.blueprints, folder, settings))
            stack.push_async_callback(_cancel, watcher)
        dashboard_url = None
        if dashboard_listener is not None:
            dashboard_url = await stack.enter_async_context(
                serve_dashboard(
                    DashboardSettings(host=LOOPBACK),
                    database_url=database_url,
                    schema=settings.schema_name,
                    routes=Routes.from_settings(settings),
                    listener=dashboard_listener,
                )
            )
        state = DevState(
            pid=os.getpid(),
            database_url=database_url,
            function_url=function_url,
            callback_url=callback_url,
            dashboard_url=dashboard_url,
            loopback_url=loopback_url,
        )
        stack.enter_context(state.published(options.project))

        ready = asyncio.Event()
        banner = asyncio.create_task(_print_banner(ready, options, settings, state))
        stack.push_async_callback(_cancel, banner)
        await run_service(settings, stop, listener=callback_listener, on_ready=ready.set)
        if supervisor.done() and not supervisor.cancelled():
            supervisor.result()


def _worker_id(project: Path) -> str:
    """Return the folder's worker id: a restart takes over its own jobs, and no jobs of another folder."""
    return f"jobfn-dev-{project_id(project)[:8]}"


def _bind_function(port: int) -> socket.socket:
    try:
        return bind(LOOPBACK, port, option="--port")
    except ConfigurationError:
        project = DevDatabases(os.environ).project_on(port)
        if project is None:
            raise
        raise ConfigurationError(
            f"port {port} is used by the jobfn dev of {project}: stop it, or choose another port with --port"
        ) from None


def _bind_dashboard(options: DevOptions) -> socket.socket | None:
    """Bind the dashboard's port; by default another free one if 8081 is taken, so that two projects can run."""
    if not options.dashboard:
        return None
    if options.dashboard_port is not None:
        return bind(LOOPBACK, options.dashboard_port, option="--dashboard-port")
    try:
        return bind(LOOPBACK, DEFAULT_PORT)
    except ConfigurationError:
        return bind(LOOPBACK, 0)


def _watched_folder(options: DevOptions) -> Path:
    """Return the folder to watch, after checking that the file exists."""
    name = options.target.partition(":")[0]
    if not name.endswith(".py") and "/" not in name:
        return options.project
    path = options.project / name
    if not path.exists():
        raise ConfigurationError(f"no file {name}: give the Python file that holds your tasks")
    return path if path.is_dir() else path.parent


@contextlib.asynccontextmanager
async def _database(options: DevOptions) -> AsyncIterator[tuple[str, str | None]]:
    """Yield the address of the database, and the one with port and password of an embedded database."""
    if options.database_url is not None:
        yield options.database_url, None
        return
    DevDatabases(os.environ).add(options.project)
    postgres = EmbeddedPostgres(folder_for(options.project), on_loopback=True)
    postgres.start()
    try:
        yield postgres.dsn(), await postgres.loopback_dsn()
    finally:
        postgres.stop()


async def _migrate(settings: ServiceSettings) -> None:
    connection = await connect(settings.database_url, application_name="jobfn-dev")
    try:
        if await schema_kind(connection, settings.schema_name) is not SchemaKind.PLATFORM:
            await migrate(connection, settings.schema_name)
    finally:
        await connection.close()


async def _supervise(
    function: FunctionProcess, folder: Path | None, sync: Callable[[], Coroutine[Any, Any, None]], stop: asyncio.Event
) -> None:
    """Restart the function app on save, sync its schedules, and log when it ends by itself."""
    log = logs.get_logger("jobfn.dev")
    tasks = {asyncio.create_task(sync())}
    try:
        if folder is None:
            code = await function.wait()
            if not stop.is_set():
                stop.set()
                raise ConfigurationError(f"the function app ended with exit code {code}: see its output above")
            return
        tasks.add(asyncio.create_task(_log_exit(function, stop)))
        async for files in watch_python_files(folder):
            log.info("file saved, reloading", files=sorted(file.name for file in files))
            await _cancel(*tasks)
            await function.restart()
            tasks = {asyncio.create_task(sync()), asyncio.create_task(_log_exit(function, stop))}
    finally:
        await _cancel(*tasks)


async def _log_exit(function: FunctionProcess, stop: asyncio.Event) -> None:
    code = await function.wait()
    if not stop.is_set():
        logs.get_logger("jobfn.dev").error("function app ended; jobs wait until a file is saved", exit_code=code)


async def _print_banner(ready: asyncio.Event, options: DevOptions, settings: ServiceSettings, state: DevState) -> None:
    await ready.wait()
    hint = await enqueue_hint(Routes.from_settings(settings), options.project)
    lines = [
        "jobfn dev is running. Ctrl-C stops everything.",
        *([f"  dashboard      {state.dashboard_url}/"] if state.dashboard_url else []),
        f"  function app   {state.function_url}/   lists its tasks and their payloads",
        f"  callbacks      {state.callback_url}",
        f"  database       {redact_dsn(state.database_url)}   (schema {settings.schema_name})",
        "  in another terminal, in this folder:",
        f"    {hint}",
        f"    {command_path(options.project)} db shell",
        *([f"    {command_path(options.project)} db url   for other clients"] if state.loopback_url else []),
    ]
    print("\n".join(lines), flush=True)  # noqa: T201  - the banner
    if options.enqueue is not None:
        task, payload = options.enqueue
        connection = await connect(settings.database_url, application_name="jobfn-dev")
        try:
            job_id = await enqueue(connection, settings.schema_name, NewJob(task, payload))
        finally:
            await connection.close()
        print(f"added job {job_id}: {task} {payload}", flush=True)  # noqa: T201  - as above


async def _cancel(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
