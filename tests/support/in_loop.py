"""Services in the event loop of a test, and functions for them."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from starlette.types import ASGIApp

from jobfn.http.server import HttpServer, bind
from jobfn.worker.settings import ServiceSettings
from support.fixtures import ConnectTo, Serve, Service, StartService, StartWorker
from support.functions import RecordingFunction
from support.jobs import WORKER
from support.network import LOOPBACK
from support.service import start_in_loop


@pytest.fixture
def function() -> RecordingFunction:
    return RecordingFunction()


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serve an ASGI app on a free port; return its base URL."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(app: ASGIApp) -> str:
            server = HttpServer(app, bind(LOOPBACK, 0), shutdown_timeout_seconds=1)
            await server.start()
            stack.push_async_callback(server.stop)
            return f"http://{LOOPBACK}:{server.port}"

        yield start


@pytest.fixture
async def start_service(database: str) -> AsyncIterator[StartService]:
    """Run a service on ``database``; settings by field name."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(gateway_url: str, **settings: object) -> Service:
            listener = bind(LOOPBACK, 0)
            callback_url = f"http://{LOOPBACK}:{listener.getsockname()[1]}/callback"
            defaults: dict[str, object] = {
                "database_url": database,
                "gateway_url": gateway_url,
                "own_callback_url": callback_url,
                "worker_id": WORKER,
                "report_grace_seconds": 0.0,
                "shutdown_timeout_seconds": 5.0,
            }
            stop = await start_in_loop(
                stack, ServiceSettings.from_environ({}, **(defaults | settings)), listener=listener
            )
            return Service(callback_url, stop)

        yield start


@pytest.fixture
def start_worker(function: RecordingFunction, serve: Serve, start_service: StartService) -> StartWorker:
    """Run a service for ``function``; settings by field name."""

    async def start(**settings: object) -> Service:
        return await start_service(await serve(function.app), **settings)

    return start


@pytest.fixture
async def pool(database: str) -> AsyncIterator["asyncpg.Pool[Any]"]:
    """A connection pool on ``database``."""
    async with asyncpg.create_pool(database, min_size=1, max_size=2) as opened:
        yield opened


@pytest.fixture
async def connect_to() -> AsyncIterator[ConnectTo]:
    """Open connections to a database, closed after the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_connection(dsn: str, **settings: str) -> "asyncpg.Connection[Any]":
            # a statement that waits for a lock which is never released fails instead of hanging
            connection = await asyncpg.connect(dsn, server_settings={"statement_timeout": "20s"} | settings)
            stack.push_async_callback(connection.close, timeout=5)
            return connection

        yield open_connection
