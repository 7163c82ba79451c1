"""Serve a function app in its own process: what ``python -m jobfn.function`` and ``jobfn serve`` run.

``PORT`` is the port to listen on (Knative sets it). On SIGTERM or SIGINT the server stops accepting requests, finishes
and reports what runs, and exits with 0.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Mapping

from starlette.types import ASGIApp

from jobfn.errors import ConfigurationError
from jobfn.function.app import FunctionApp
from jobfn.function.settings import FunctionSettings
from jobfn.function.threads import count_pending_handlers
from jobfn.http.loopback import LoopbackGuard, is_loopback_address
from jobfn.http.server import HttpServer, bind, run, stop_signals
from jobfn.telemetry import logs, otel
from jobfn.telemetry.misspelt_settings import warn_of_misspelt

DEFAULT_PORT = 8080
#: Delay of the "serving" log line: the first one imports structlog, which must not delay the first request.
_LOG_DELAY_SECONDS = 0.02


def port_from(environ: Mapping[str, str]) -> int:
    """Return the port of ``PORT``, by default 8080 (contract, section 5)."""
    text = environ.get("PORT") or str(DEFAULT_PORT)
    if not text.isdecimal() or int(text) > 65535:
        raise ConfigurationError(f"PORT={text!r} is not a port: use a number from 1 to 65535")
    return int(text)


def serve(
    app: ASGIApp, *, host: str, port: int, listener_fd: int | None = None, until_stdin_closes: bool = False
) -> None:
    """Serve until SIGTERM or SIGINT. Exits the process if sync handlers still run after the shutdown timeout.

    Args:
        app: A function app, or any ASGI app.
        host: The address to listen on.
        port: The TCP port; 0 for any free one.
        listener_fd: A listening socket inherited from the parent process, used instead of ``host`` and ``port``.
        until_stdin_closes: Also stop when standard input closes, which means that the parent process ended.

    Raises:
        ConfigurationError: The port is not available, a variable that a task requires is not set, or the app does not
            start.
    """
    if isinstance(app, FunctionApp):
        app.check_environment()  # before the lifespan does, whose errors are logged with a traceback
    settings = app.settings if isinstance(app, FunctionApp) else FunctionSettings.from_environ(os.environ)
    warn_of_misspelt(os.environ, FunctionSettings, logger="jobfn.serve")
    listener = bind(host, port, option="--port or PORT") if listener_fd is None else socket.socket(fileno=listener_fd)
    run(_serve(app, listener, settings, until_stdin_closes=until_stdin_closes))
    _exit_without_joining()


async def _serve(
    app: ASGIApp, listener: socket.socket, settings: FunctionSettings, *, until_stdin_closes: bool
) -> None:
    if "structlog" in sys.modules:  # the user's module imported it and may log before jobfn does
        logs.apply_config()
    loop = asyncio.get_running_loop()
    with stop_signals() as stop:
        if until_stdin_closes:
            loop.add_reader(sys.stdin.fileno(), stop.set)  # nothing is written to it: readable means closed
        guarded = LoopbackGuard(app) if is_loopback_address(listener.getsockname()[0]) else app
        server = HttpServer(guarded, listener, shutdown_timeout_seconds=settings.shutdown_timeout_seconds)
        await server.start()
        log_serving = loop.call_later(_LOG_DELAY_SECONDS, _log_serving, server.port, app)
        await stop.wait()
        log_serving.cancel()
        if until_stdin_closes:
            loop.remove_reader(sys.stdin.fileno())
        log = logs.get_logger("jobfn.serve")
        log.info("stopping: finishing running jobs")
        await server.stop()
    log.info("stopped")


def _log_serving(port: int, app: ASGIApp) -> None:
    logs.get_logger("jobfn.serve").info("serving", port=port, tasks=sorted(getattr(app, "tasks", ())))


def _exit_without_joining() -> None:
    """Exit at once if sync handlers still run: Python would join their threads, perhaps forever."""
    handlers = count_pending_handlers()
    if handlers:
        logs.get_logger("jobfn.serve").error("stopped with running sync handlers", handlers=handlers)
        otel.flush()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
