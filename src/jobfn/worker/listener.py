"""Hearing that there is work: LISTEN, for as long as the worker runs, through every loss of connection.

A notification only says "look"; what there is, ``worker.py`` asks the store. Missing one costs a poll interval.
"""

import asyncio
from typing import Any

import asyncpg

from jobfn.database.connection import RECONNECTS, connect, until_connected
from jobfn.telemetry import logs

CHANNEL = "jobs:insert"


class Listener:
    """Rings a bell at every notification, and once after each (re)connection: something may have been missed.

    Args:
        dsn: The database; None for ``PG*``.
        bell: Set at every notification.
        channel: What to listen to.
    """

    def __init__(self, dsn: str | None, bell: asyncio.Event, *, channel: str = CHANNEL) -> None:
        self._dsn = dsn
        self._bell = bell
        self._channel = channel

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            connection = await until_connected(self._listen)
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _connection, lost=lost: lost.set())
            if connection.is_closed():
                lost.set()
            self._bell.set()
            try:
                await lost.wait()
                RECONNECTS.add()
                logs.get_logger("jobfn.worker").warning("notifications lost, listening again", channel=self._channel)
            finally:
                if not connection.is_closed():
                    await connection.close(timeout=1)

    async def _listen(self) -> "asyncpg.Connection[Any]":
        connection = await connect(self._dsn, application_name="jobfn-listener")
        try:
            await connection.add_listener(self._channel, self._ring)
        except BaseException:  # cancelled too: nobody else would close it
            connection.terminate()
            raise
        return connection

    def _ring(self, *_notification: object) -> None:
        self._bell.set()
