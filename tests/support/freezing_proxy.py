"""A TCP proxy that can stop forwarding, as a proxy does whose server has vanished: it accepts and says nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, unquote, urlsplit

from support.network import LOOPBACK


class FreezingProxy:
    """Forwards to a PostgreSQL server until it is frozen.

    Args:
        dsn: Address of the server, by TCP or a Unix socket.

    Attributes:
        drops_notifications: Whether notifications of the server are left out, as by a pooler.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = urlsplit(dsn)
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.drops_notifications = False

    @property
    def dsn(self) -> str:
        """Return the address of the database through the proxy."""
        user = self._dsn.username or "postgres"
        return f"postgresql://{user}@{LOOPBACK}:{self.port}{self._dsn.path}?sslmode=disable"

    def freeze(self) -> None:
        """Forward nothing any more, in no direction."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Forward again, also what was held back."""
        self._thawed.set()

    @contextlib.asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator["FreezingProxy"]:
        """Listen on a port while the block runs. Default: a free one."""
        server = await asyncio.start_server(self._start, LOOPBACK, port)
        self.port = int(server.sockets[0].getsockname()[1])
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._thawed.wait()
            server_reader, server_writer = await self._connect()
            try:
                directions = {
                    asyncio.create_task(self._copy(reader, server_writer)),
                    asyncio.create_task(self._copy_messages(server_reader, writer)),
                }
                try:
                    await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for direction in directions:
                        direction.cancel()
                    await asyncio.gather(*directions, return_exceptions=True)
            finally:
                server_writer.transport.abort()
        finally:
            writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        folder = parse_qs(self._dsn.query).get("host")
        if folder:
            return await asyncio.open_unix_connection(f"{unquote(folder[0])}/.s.PGSQL.5432")
        return await asyncio.open_connection(self._dsn.hostname, self._dsn.port or 5432)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._thawed.wait()
                writer.write(data)
                await writer.drain()

    async def _copy_messages(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy the server's messages: a byte for the type, four for the length of the rest and themselves."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(5)
                body = await reader.readexactly(int.from_bytes(head[1:], "big") - 4)
                await self._thawed.wait()
                if not (self.drops_notifications and head[:1] == b"A"):
                    writer.write(head + body)
                    await writer.drain()
