"""Listen for notifications, unless a connection pooler in transaction mode keeps them away."""

import asyncio
import contextlib
import functools
from collections.abc import Mapping
from typing import Any, Final, Protocol

import asyncpg

from jobfn.database.connection import connect, retry, shares_sessions
from jobfn.errors import DatabaseUnreachable
from jobfn.telemetry import logs
from jobfn.worker.listener import CHECK_INTERVAL_SECONDS, NO_HANDLERS, Listener, NotificationHandler
from jobfn.worker.settings import ServiceSettings

POOLER_PROBLEM: Final = "no notifications through a connection pooler in transaction mode: new jobs wait for a poll"
POOLER_ADVICE: Final = "set JOBS_LISTEN_URL to PostgreSQL's own address, or to a pooler in session mode"


class StartListener(Protocol):
    """Starts a listener."""

    def __call__(
        self, channel: str, wake_event: asyncio.Event, handlers: Mapping[str, NotificationHandler] = NO_HANDLERS
    ) -> None:
        """Set the event at notifications of the channel, and call the handlers at those of theirs."""


def listen_url(settings: ServiceSettings) -> str | None:
    """Return the address to listen at; None: the one of the ``PG*`` variables."""
    return settings.listen_url or settings.database_url


async def lacks_notifications(pool: "asyncpg.Pool[Any]", settings: ServiceSettings) -> bool:
    """Return whether a pooler in transaction mode is in front of the address to listen at.

    Args:
        pool: Connections to ``settings.database_url``.
        settings: The settings.

    Raises:
        DatabaseUnreachable: ``JOBS_LISTEN_URL`` cannot be reached.
    """
    if settings.listen_url is None:

        async def look() -> bool:
            async with pool.acquire() as connection:
                return await shares_sessions(connection, settings.database_url)

        return await retry(look, event="service not started", only_transient=True)
    direct = await connect(settings.listen_url, application_name="jobfn-listener")
    try:
        return await shares_sessions(direct, settings.listen_url)
    finally:
        direct.terminate()


async def listener_starter(
    settings: ServiceSettings,
    connections: "asyncpg.Pool[Any]",
    stack: contextlib.AsyncExitStack,
    *,
    interval_factor: float = 1.0,
) -> StartListener | None:
    """Return what starts listeners. None, with a warning, if a pooler keeps notifications away.

    Args:
        settings: The settings.
        connections: Connections to the database.
        stack: Stops the listeners.
        interval_factor: Factor of the interval at which a listener checks that notifications arrive.
    """
    start_listener = functools.partial(
        _start_listener,
        listen_url(settings),
        connections,
        stack,
        check_interval_seconds=CHECK_INTERVAL_SECONDS * interval_factor,
    )
    try:
        if not await lacks_notifications(connections, settings):
            return start_listener
    except DatabaseUnreachable:
        return start_listener  # JOBS_LISTEN_URL: the listener logs it, and connects when it can
    logs.get_logger("jobfn.service").warning(
        POOLER_PROBLEM, poll_interval_seconds=settings.poll_interval_seconds, advice=POOLER_ADVICE
    )
    return None


def _start_listener(  # noqa: PLR0917  - the first three are bound
    dsn: str | None,
    connections: "asyncpg.Pool[Any]",
    stack: contextlib.AsyncExitStack,
    channel: str,
    wake_event: asyncio.Event,
    handlers: Mapping[str, NotificationHandler] = NO_HANDLERS,
    *,
    check_interval_seconds: float = CHECK_INTERVAL_SECONDS,
) -> None:
    listener = Listener(
        dsn,
        wake_event,
        pool=connections,
        channel=channel,
        handlers=handlers,
        check_interval_seconds=check_interval_seconds,
    )
    listening = asyncio.create_task(listener.run())

    async def stop() -> None:
        listening.cancel()
        await asyncio.wait({listening})

    stack.push_async_callback(stop)
