"""A function app in a process of its own: what ``python -m jobfn.function`` and ``jobfn serve`` run.

``PORT`` says where to listen (Knative sets it). SIGTERM and SIGINT: accept nothing new, finish what runs, report
it, exit with 0.
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
from jobfn.function.threads import handlers_still_running
from jobfn.http.server import HttpServer, bind, run, stop_signals
from jobfn.telemetry import logs, otel

DEFAULT_PORT = 8080
#: That it serves is said so long after it does: whoever waited for a cold start does not wait for the first line, too.
_LOG_DELAY_SECONDS = 0.02


def port_from(environ: Mapping[str, str]) -> int:
    """The port that ``PORT`` names, 8080 without it (contract, section 5).

    Raises:
        ConfigurationError: It is no port number.
    """
    text = environ.get("PORT") or str(DEFAULT_PORT)
    if not text.isdecimal() or int(text) > 65535:
        raise ConfigurationError(f"PORT={text!r} is no port: use a number from 1 to 65535")
    return int(text)


def serve(
    app: ASGIApp, *, host: str, port: int, listener_fd: int | None = None, until_stdin_closes: bool = False
) -> None:
    """Serve until SIGTERM or SIGINT, and then end: the process itself, if sync handlers still run in it.

    Args:
        app: A function app, or any ASGI app.
        host: The address to listen on.
        port: The TCP port; 0 takes any free one.
        listener_fd: A listening socket inherited from a parent process, used instead of ``host`` and ``port``.
        until_stdin_closes: Also stop when standard input ends: the parent that holds it is gone.

    Raises:
        ConfigurationError: The port cannot be had, or the app does not start.
    """
    settings = app.settings if isinstance(app, FunctionApp) else FunctionSettings.from_environ(os.environ)
    listener = bind(host, port) if listener_fd is None else socket.socket(fileno=listener_fd)
    run(_serve(app, listener, settings, until_stdin_closes=until_stdin_closes))
    _exit_without_joining()


async def _serve(
    app: ASGIApp, listener: socket.socket, settings: FunctionSettings, *, until_stdin_closes: bool
) -> None:
    if "structlog" in sys.modules:  # the user's own, who may log before we do
        logs.apply_config()
    with stop_signals() as stop:
        if until_stdin_closes:
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop.set)  # nothing is ever written to it
        server = HttpServer(app, listener, shutdown_timeout_seconds=settings.shutdown_timeout_seconds)
        await server.start()
        saying = asyncio.get_running_loop().call_later(_LOG_DELAY_SECONDS, _say, server.port, app)
        await stop.wait()
        saying.cancel()
        if until_stdin_closes:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        log = logs.get_logger("jobfn.serve")
        log.info("stopping: finishing what runs")
        await server.stop()
    log.info("stopped")


def _say(port: int, app: ASGIApp) -> None:
    logs.get_logger("jobfn.serve").info("serving", port=port, tasks=sorted(getattr(app, "tasks", ())))


def _exit_without_joining() -> None:
    """Python would wait for a sync handler that nobody waits for any more, perhaps for ever."""
    left = handlers_still_running()
    if left:
        logs.get_logger("jobfn.serve").error("stopped without handlers that did not end in time", handlers=left)
        otel.flush()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
