"""A callback server that records, and a client."""

from collections.abc import AsyncIterator

import httpx
import pytest

from jobfn.http.server import HttpServer, bind
from support.function_app import CallbackServer
from support.network import LOOPBACK


@pytest.fixture
async def callbacks() -> AsyncIterator[CallbackServer]:
    """A callback server; ``url`` is what goes into X-Callback-Url."""
    recorder = CallbackServer()
    server = HttpServer(recorder, bind(LOOPBACK, 0), shutdown_timeout_seconds=1, lifespan=False)
    await server.start()
    recorder.url = f"http://{LOOPBACK}:{server.port}/callback"
    yield recorder
    recorder.release()
    await server.stop()


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A client that waits as long as a test may."""
    async with httpx.AsyncClient(timeout=30) as client:
        yield client
