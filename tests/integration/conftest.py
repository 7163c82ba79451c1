"""A platform side that runs in the test's loop, and functions for it to call."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from starlette.types import ASGIApp

from jobfn.http.server import HttpServer, bind
from jobfn.service import run_service
from jobfn.worker.settings import ServiceSettings
from support.fixtures import ConnectTo, Serve, Service, StartService
from support.jobs import WORKER
from support.network import LOOPBACK


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serve an ASGI app on a free port; returns its base URL."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(app: ASGIApp) -> str:
            server = HttpServer(app, bind(LOOPBACK, 0), shutdown_timeout_seconds=1)
            await server.start()
            stack.push_async_callback(server.stop)
            return f"http://{LOOPBACK}:{server.port}"

        yield start


@pytest.fixture
async def start_service(database: str) -> AsyncIterator[StartService]:
    """Run worker and callback server on ``database`` (or another); settings by field name."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(gateway_url: str, **settings: object) -> Service:
            listener = bind(LOOPBACK, 0)
            callback_url = f"http://{LOOPBACK}:{listener.getsockname()[1]}/callback"
            values: dict[str, object] = {
                "database_url": database,
                "gateway_url": gateway_url,
                "own_callback_url": callback_url,
                "worker_id": WORKER,
                "report_grace_seconds": 0.0,
                "shutdown_timeout_seconds": 5.0,
            }
            stop, started = asyncio.Event(), asyncio.Event()
            running = asyncio.create_task(
                run_service(
                    ServiceSettings.from_environ({}, **(values | settings)),
                    stop,
                    listener=listener,
                    on_ready=started.set,
                )
            )
            starting = asyncio.create_task(started.wait())
            await asyncio.wait({running, starting}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                starting.cancel()
                running.result()

            async def end() -> None:
                stop.set()
                await running

            stack.push_async_callback(end)
            return Service(callback_url, end)

        yield start


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
