"""LISTEN for new jobs, across lost connections.

A notification only wakes the worker, which then claims. A missed notification costs at most one poll interval.
"""

import asyncio
from typing import Any

import asyncpg

from jobfn.database.connection import RECONNECTS, connect, retry
from jobfn.telemetry import logs

CHANNEL = "jobs:insert"


class Listener:
    """Sets an event at every notification, and after every (re)connect, as notifications may have been missed."""

    def __init__(self, dsn: str | None, wake_event: asyncio.Event, *, channel: str = CHANNEL) -> None:
        self._dsn = dsn
        self._wake_event = wake_event
        self._channel = channel

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            connection = await retry(self._listen, event="notifications not received")
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _connection, lost=lost: lost.set())
            if connection.is_closed():
                lost.set()
            self._wake_event.set()
            try:
                await lost.wait()
                RECONNECTS.add()
                logs.get_logger("jobfn.worker").warning("listener connection lost, reconnecting", channel=self._channel)
            finally:
                if not connection.is_closed():
                    await connection.close(timeout=1)

    async def _listen(self) -> "asyncpg.Connection[Any]":
        connection = await connect(self._dsn, application_name="jobfn-listener")
        try:
            await connection.add_listener(self._channel, self._on_notification)
        except BaseException:  # including cancellation: nothing else closes this connection
            connection.terminate()
            raise
        return connection

    def _on_notification(self, *_notification: object) -> None:
        self._wake_event.set()
