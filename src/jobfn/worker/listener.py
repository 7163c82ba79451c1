"""LISTEN for new jobs, across lost connections.

A notification only wakes the worker, which then claims. A missed notification costs at most one poll interval, so the
loss of all of them would go unnoticed: the listener also notifies itself now and then.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import asyncpg

from jobfn.database.connection import DATABASE_ERRORS, RECONNECTS, connect, retry
from jobfn.errors import error_text
from jobfn.telemetry import logs

CHANNEL = "jobs:insert"
PAUSES_CHANNEL = "jobs:pause"
CANCEL_CHANNEL = "jobs:cancel"
#: Called with the payload of a notification, and with an empty one after each (re)connect.
NotificationHandler = Callable[[str], None]
NO_HANDLERS: Mapping[str, NotificationHandler] = MappingProxyType({})
#: Time without a notification after which the listener notifies itself, and in which that must arrive.
CHECK_INTERVAL_SECONDS = 8.0
CHECK_TIMEOUT_SECONDS = 4.0


class Listener:
    """Sets an event at every notification, and after every (re)connect, as notifications may have been missed.

    Args:
        dsn: The address to listen at.
        wake_event: The event.
        pool: Connections to the same database, for the notifications to itself.
        channel: The channel.
        handlers: What to call at notifications of further channels, on the same connection.
        check_interval_seconds: Time without a notification after which the listener notifies itself.
        check_timeout_seconds: Time in which that must arrive.
    """

    def __init__(
        self,
        dsn: str | None,
        wake_event: asyncio.Event,
        *,
        pool: "asyncpg.Pool[Any]",
        channel: str = CHANNEL,
        handlers: Mapping[str, NotificationHandler] = NO_HANDLERS,
        check_interval_seconds: float = CHECK_INTERVAL_SECONDS,
        check_timeout_seconds: float = CHECK_TIMEOUT_SECONDS,
    ) -> None:
        self._dsn = dsn
        self._wake_event = wake_event
        self._pool = pool
        self._channel = channel
        self._handlers = handlers
        self._check_interval_seconds = check_interval_seconds
        self._check_timeout_seconds = check_timeout_seconds
        self._check_channel = f"jobfn:check:{uuid.uuid4().hex}"
        self._received = asyncio.Event()
        self._received_at = 0.0

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            connection = await retry(self._listen, event="notifications not received")
            self._wake_event.set()
            for handler in self._handlers.values():
                handler("")
            try:
                reason = await self._until_lost(connection)
                RECONNECTS.add()
                logs.get_logger("jobfn.worker").warning(
                    "listener connection lost, reconnecting", channel=self._channel, reason=reason
                )
            except asyncio.CancelledError:
                with contextlib.suppress(*DATABASE_ERRORS):
                    await connection.close(timeout=1)
                raise
            finally:
                connection.terminate()

    async def _listen(self) -> "asyncpg.Connection[Any]":
        connection = await connect(self._dsn, application_name="jobfn-listener")
        try:
            async with asyncio.timeout(self._check_timeout_seconds):
                await connection.add_listener(self._channel, self._on_notification)
                for channel in self._handlers:
                    await connection.add_listener(channel, self._on_handled)
                await connection.add_listener(self._check_channel, self._on_received)
            await self._check()
        except BaseException:  # including cancellation: nothing else closes this connection
            connection.terminate()
            raise
        return connection

    async def _until_lost(self, connection: "asyncpg.Connection[Any]") -> str:
        """Wait until the connection is closed, or brings no notifications. Return the reason."""
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _connection: lost.set())
        while not connection.is_closed():
            try:
                async with asyncio.timeout_at(self._received_at + self._check_interval_seconds):
                    await lost.wait()
            except TimeoutError:
                if asyncio.get_running_loop().time() < self._received_at + self._check_interval_seconds:
                    continue
                try:
                    await self._check()
                except DATABASE_ERRORS as error:
                    return error_text(error)
        return "the connection was closed"

    async def _check(self) -> None:
        """Notify this listener through another connection.

        Raises:
            TimeoutError: The notification did not arrive in time.
        """
        self._received.clear()
        try:
            async with asyncio.timeout(self._check_timeout_seconds):
                await self._pool.execute("select pg_notify($1, '')", self._check_channel)
                await self._received.wait()
        except TimeoutError:
            raise TimeoutError(f"a notification did not arrive within {self._check_timeout_seconds:g} s") from None

    def _on_notification(self, *_notification: object) -> None:
        self._wake_event.set()
        self._on_received()

    def _on_handled(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        self._handlers[channel](str(payload))
        self._on_received()

    def _on_received(self, *_notification: object) -> None:
        self._received_at = asyncio.get_running_loop().time()
        self._received.set()
