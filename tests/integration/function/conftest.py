"""A callback server that records, and an HTTP client."""

from collections.abc import AsyncIterator

import httpx
import pytest

from jobfn.http.server import HttpServer, bind
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
