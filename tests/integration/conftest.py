"""Servers on real sockets, in the test's loop."""

import contextlib
from collections.abc import AsyncIterator

import pytest
from starlette.types import ASGIApp

from jobfn.hosting import HttpServer, bind
from support import LOOPBACK, Serve


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serve an ASGI app on a free port; returns its base URL."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(app: ASGIApp) -> str:
            server = HttpServer(app, bind(LOOPBACK, 0), shutdown_seconds=1)
            await server.start()
            stack.push_async_callback(server.stop)
            return f"http://{LOOPBACK}:{server.port}"

        yield start
