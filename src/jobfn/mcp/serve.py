"""Serve the MCP server over standard input and output, or over HTTP on a loopback address with a token."""

import contextlib
import hmac
import logging
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
from mcp.server.mcpserver import MCPServer
from starlette.types import ASGIApp, Receive, Scope, Send

from jobfn.database.connection import open_pool, redact_dsn
from jobfn.errors import ConfigurationError
from jobfn.http.loopback import LoopbackGuard
from jobfn.http.messages import send_response
from jobfn.http.server import HttpServer, bind, stop_signals
from jobfn.mcp.limits import MAX_REQUEST_BYTES, MAX_SESSIONS
from jobfn.mcp.server import create_server
from jobfn.mcp.settings import McpSettings
from jobfn.operations import open_operations
from jobfn.operations.actor import Source, os_actor
from jobfn.operations.doctor import Check, run_checks
from jobfn.operations.statements import translate_errors
from jobfn.worker.settings import ServiceSettings

#: Connections of the server.
POOL_SIZE = 2
#: Timeout of a statement.
STATEMENT_TIMEOUT_SECONDS = 60.0
#: Timeout of the doctor's requests to a function or the callback server.
CHECK_TIMEOUT_SECONDS = 5.0
SHUTDOWN_TIMEOUT_SECONDS = 5.0
HOST = "127.0.0.1"
PATH = "/mcp"

TOKEN_MISSING = (
    "every program on this machine can reach the port: set JOBFN_MCP_TOKEN to a long random text "  # noqa: S105
    "(openssl rand -hex 32), and send it as a bearer token"
)


@contextlib.asynccontextmanager
async def open_server(
    settings: McpSettings, service: ServiceSettings, *, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[MCPServer[Any]]:
    """Connect to the database of the service's settings, and create the server.

    Raises:
        DatabaseUnreachable: The database is unreachable.
        SchemaError: The jobs schema does not exist or is out of date.
    """
    async with (
        open_pool(
            service.database_url,
            application_name="jobfn-mcp",
            size=POOL_SIZE,
            statement_timeout_seconds=STATEMENT_TIMEOUT_SECONDS,
        ) as pool,
        httpx.AsyncClient(timeout=CHECK_TIMEOUT_SECONDS, trust_env=False) as http,
    ):
        operations = await open_operations(pool, service.schema_name, actor=lambda: os_actor(Source.MCP))

        async def checks() -> AsyncIterator[Check]:
            with translate_errors(service.schema_name):
                async for check in run_checks(pool, operations, service, http):
                    yield check

        yield create_server(
            operations,
            settings,
            pool=pool,
            run_checks=checks,
            database_label=redact_dsn(service.database_url),
            clock=clock,
        )


async def serve_stdio(
    settings: McpSettings, service: ServiceSettings, on_ready: Callable[[], None] = lambda: None
) -> None:
    """Serve over standard input and output, until the input ends."""
    logging.getLogger("mcp").setLevel(logging.WARNING)
    async with open_server(settings, service) as server:
        on_ready()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the thread that reads standard input cannot be interrupted
        await server.run_stdio_async()


@contextlib.asynccontextmanager
async def serve_http(
    settings: McpSettings, service: ServiceSettings, *, listener: socket.socket | None = None
) -> AsyncIterator[str]:
    """Serve over HTTP while the block runs, and return the URL.

    Args:
        settings: Settings of the server.
        service: Settings of the service.
        listener: Bound socket, closed at the end. Default: bind to the port of the settings.

    Raises:
        ConfigurationError: There is no token, or the port is in use.
    """
    if settings.token is None:
        raise ConfigurationError(TOKEN_MISSING)
    logging.getLogger("mcp").setLevel(logging.WARNING)
    with contextlib.closing(listener or bind(HOST, settings.port, option="--port")) as bound:
        async with open_server(settings, service) as server:
            app = server.streamable_http_app(
                streamable_http_path=PATH, max_sessions=MAX_SESSIONS, max_request_body_size=MAX_REQUEST_BYTES
            )
            http = HttpServer(
                LoopbackGuard(TokenGuard(app, settings.token)), bound, shutdown_timeout_seconds=SHUTDOWN_TIMEOUT_SECONDS
            )
            await http.start()
            try:
                yield f"http://{HOST}:{http.port}{PATH}"
            finally:
                await http.stop()


class TokenGuard:
    """Refuses requests without the bearer token.

    Args:
        app: The app.
        token: The token.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or respond with 401."""
        if scope["type"] == "http":
            scheme, _, token = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
            if not hmac.compare_digest(scheme.lower() + b" " + token, self._expected):
                body = b'{"message": "send JOBFN_MCP_TOKEN as a bearer token"}'
                headers = [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(body)),
                    (b"www-authenticate", b"Bearer"),
                    (b"connection", b"close"),
                ]
                await send_response(send, 401, headers, body)
                return
        await self._app(scope, receive, send)


async def run_http(settings: McpSettings, service: ServiceSettings, announce: Callable[[str], None]) -> None:
    """Serve over HTTP until SIGTERM or SIGINT."""
    async with serve_http(settings, service) as url:
        with stop_signals() as stop:
            announce(url)
            await stop.wait()
