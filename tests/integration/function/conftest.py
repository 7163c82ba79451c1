"""A callback server that records, an HTTP client, and a recording task."""

import io
from collections.abc import AsyncIterator

import httpx
import pytest

from jobfn.http.server import HttpServer, bind
from jobfn.telemetry import logs
from support.batch_request import Recorder
from support.function_app import CallbackServer
from support.network import LOOPBACK


@pytest.fixture
async def callbacks() -> AsyncIterator[CallbackServer]:
    """A callback server, with its URL for ``X-Callback-Url``."""
    callbacks = CallbackServer()
    server = HttpServer(callbacks, bind(LOOPBACK, 0), shutdown_timeout_seconds=1, lifespan=False)
    await server.start()
    callbacks.url = f"http://{LOOPBACK}:{server.port}/callback"
    yield callbacks
    callbacks.release()
    await server.stop()


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30) as client:
        yield client


@pytest.fixture
async def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def log_stream(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """The log, as jobfn configures it: a traceback for people would take most of a batch's time."""
    for variable in ("LOG_LEVEL", "K_SERVICE", "K_REVISION"):
        monkeypatch.delenv(variable, raising=False)
    recorded = io.StringIO()
    logs.configure(stream=recorded)
    return recorded
