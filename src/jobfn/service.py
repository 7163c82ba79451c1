"""The platform side in one process: worker and callback server, wired from the settings.

``jobfn service`` runs it, and so does ``python -m jobfn.service``, without a command-line library.
"""

import asyncio
import contextlib
import functools
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

import asyncpg

from jobfn import logs
from jobfn.database.connection import pool
from jobfn.database.jobs import Job, open_store
from jobfn.errors import JobfnError
from jobfn.hosting import HttpServer, bind, stop_signals
from jobfn.transport import AiohttpTransport
from jobfn.wire import report_target, sibling
from jobfn.worker.callbacks import Callbacks, create_callback_app
from jobfn.worker.claim import Listener
from jobfn.worker.dispatch import Dispatcher, Reporting, Routes
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.settle import Settler
from jobfn.worker.tokens import CallbackTokens, Claim
from jobfn.worker.worker import Worker

#: Claims, settlements, the look at the next delayed job, and one to spare.
POOL_SIZE = 4
#: Functions on other machines report here.
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104


async def run_service(
    settings: ServiceSettings,
    stop: asyncio.Event,
    *,
    listener: socket.socket | None = None,
    started: Callable[[], None] | None = None,
) -> None:
    """Run worker and callback server until ``stop`` is set, and leave no job locked.

    Args:
        settings: How.
        stop: Set it to end.
        listener: A bound socket for the callback server, closed at the end. Default: one on every
            address, at the settings' port.
        started: Called when the callback server accepts reports and the worker looks for jobs.

    Raises:
        DatabaseUnreachable: No connection at the start; later ones are waited for.
        SchemaError: The database has no jobs schema.
        ConfigurationError: The callback port cannot be had.
    """
    with contextlib.closing(listener or bind(EVERY_ADDRESS, settings.callback_port)) as reports:
        async with pool(settings.database_url, application_name="jobfn-service", size=POOL_SIZE) as connections:
            await _serve(settings, stop, connections, reports, started)


async def _serve(
    settings: ServiceSettings,
    stop: asyncio.Event,
    connections: "asyncpg.Pool[Any]",
    listener: socket.socket,
    started: Callable[[], None] | None,
) -> None:
    store = await open_store(connections, settings.schema_name)
    settler = Settler(store)
    transport = AiohttpTransport(limit=settings.concurrency)
    bell = asyncio.Event()
    tokens = tokens_of(settings)
    worker = Worker(
        store=store,
        settler=settler,
        dispatcher=Dispatcher(
            transport,
            routes=Routes(settings.gateway_url, settings.development_map),
            worker_id=settings.worker_id,
            reporting=functools.partial(reporting_on, settings, tokens),
            request_seconds=settings.request_seconds,
        ),
        settings=settings,
        bell=bell,
    )
    server = HttpServer(
        create_callback_app(
            Callbacks(settler, store, lease_seconds=settings.lease_seconds, tokens=tokens, settled=worker.heard)
        ),
        listener,
        shutdown_seconds=settings.shutdown_seconds,
        lifespan=False,
    )
    await server.start()
    listening = asyncio.create_task(Listener(settings.database_url, bell).run())
    logs.get_logger("jobfn.service").info("hearing reports", port=server.port, callback_url=settings.callback_url)
    if started is not None:
        started()
    try:
        await worker.run(stop)
    finally:
        listening.cancel()
        await server.stop()
        await settler.drain()
        await transport.aclose()


def tokens_of(settings: ServiceSettings) -> CallbackTokens | None:
    """What signs and reads callback URLs; None without ``JOBS_CALLBACK_SECRET``, which production is told of."""
    if settings.callback_secrets:
        return CallbackTokens(settings.callback_secrets, max_age_seconds=settings.token_seconds)
    if settings.is_production:
        logs.get_logger("jobfn.service").warning(
            "callback URLs are not signed: whoever reaches the callback server can settle jobs. "
            "Set JOBS_CALLBACK_SECRET on every worker and callback server"
        )
    return None


def reporting_on(settings: ServiceSettings, tokens: CallbackTokens | None, job: Job) -> Reporting:
    """How a function is to report on this job."""
    callback_url = report_target(settings.callback_url)
    if tokens is not None:
        callback_url = tokens.url_for(callback_url, Claim(settings.worker_id, job.id, job.attempt))
    return Reporting(
        callback_url=callback_url,
        heartbeat_url=sibling(callback_url, "heartbeat"),
        lease_seconds=settings.lease_seconds,
        invoke_secret=settings.invoke_secrets[0] if settings.invoke_secrets else None,
    )


def main() -> int:
    """``python -m jobfn.service``: run until SIGTERM or SIGINT. Returns the exit code."""

    async def until_stopped(settings: ServiceSettings) -> None:
        with stop_signals() as stop:
            await run_service(settings, stop)

    try:
        logs.configure()
        asyncio.run(until_stopped(ServiceSettings.from_environ(os.environ)))
    except JobfnError as error:
        sys.stderr.write(f"jobfn: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
