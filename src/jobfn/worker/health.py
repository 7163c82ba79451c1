"""``GET /healthz`` and ``GET /readyz`` of a service, on one port for every role."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobfn.errors import ConfigurationError
from jobfn.http.server import HttpServer, bind
from jobfn.telemetry import logs

#: Port if ``JOBS_HEALTH_PORT`` is not set.
DEFAULT_HEALTH_PORT = 12346
_ANY_ADDRESS = "0.0.0.0"  # noqa: S104  - probes come from another host


@contextlib.asynccontextmanager
async def health_server(
    port: int | None, is_ready: Callable[[], bool], states: Callable[[], Mapping[str, str]] | None = None
) -> AsyncIterator[None]:
    """Answer probes until the end of the block.

    Args:
        port: The port; None: the default, if it is free, because several services can run on one machine.
        is_ready: Whether all roles run.
        states: The state of each database, if there are several.

    Raises:
        ConfigurationError: The given port is not available.
    """
    log = logs.get_logger("jobfn.service")
    try:
        listener = bind(_ANY_ADDRESS, DEFAULT_HEALTH_PORT if port is None else port)
    except ConfigurationError:
        if port is not None:
            raise
        log.info(
            "health probes are not answered: another process uses the port. Set JOBS_HEALTH_PORT to another one",
            port=DEFAULT_HEALTH_PORT,
        )
        yield
        return
    server = HttpServer(_health_app(is_ready, states), listener, shutdown_timeout_seconds=1, lifespan=False)
    await server.start()
    log.info("health server started", port=server.port)
    try:
        yield
    finally:
        await server.stop()


def _health_app(is_ready: Callable[[], bool], states: Callable[[], Mapping[str, str]] | None) -> Starlette:
    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_request: Request) -> Response:
        databases = {} if states is None else {"databases": states()}
        if is_ready():
            return JSONResponse({"status": "ok", **databases})
        return JSONResponse({"status": "not ready", **databases}, 503)

    return Starlette(routes=[Route("/healthz", healthz, methods=["GET"]), Route("/readyz", readyz, methods=["GET"])])
