"""PostgreSQL ends a connection of a service that starts.

Its last message arrives before a statement, and its close after it. The driver then raises ``InternalClientError``: it
has read the end of a statement that it never sent.
"""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from urllib.parse import unquote, urlsplit

import pytest

from jobfn.service import run_service
from jobfn.worker.settings import ServiceSettings
from support.network import LOOPBACK

#: A FATAL ErrorResponse, as of a server that shuts down.
FATAL = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
FATAL_MESSAGE = b"E" + struct.pack("!I", len(FATAL) + 4) + FATAL
READY_FOR_QUERY = b"Z\0\0\0\x05I"


class DyingServer:
    """A proxy whose server ends one connection after the end of a statement.

    Args:
        dsn: Address of the server, by a Unix socket or TCP.
        statement: Number of the statement, counted over all connections.

    Attributes:
        statements: Number of statements that have ended.
    """

    def __init__(self, dsn: str, statement: int) -> None:
        self._dsn = urlsplit(dsn)
        self._statement = statement
        self.statements = 0
        self._connections: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Listen while the block runs. Yields the address."""

        def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._connections.add(asyncio.create_task(self._forward(reader, writer)))

        server = await asyncio.start_server(forward, LOOPBACK, 0)
        port = server.sockets[0].getsockname()[1]
        try:
            yield f"postgresql://postgres@{LOOPBACK}:{port}{self._dsn.path}?sslmode=disable"
        finally:
            server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.wait(self._connections)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._address()
        if host.startswith("/"):
            server_reader, server_writer = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            server_reader, server_writer = await asyncio.open_connection(host, port)
        dead = asyncio.Event()

        async def send() -> None:
            with contextlib.suppress(OSError):
                while data := await reader.read(65536):
                    if dead.is_set():
                        return
                    server_writer.write(data)

        async def receive() -> None:
            while data := await server_reader.read(65536):
                if data.endswith(READY_FOR_QUERY):
                    self.statements += 1
                    if self.statements == self._statement:
                        dead.set()
                        writer.write(data + FATAL_MESSAGE)
                        return
                writer.write(data)

        try:
            with contextlib.suppress(OSError):
                async with asyncio.TaskGroup() as tasks:
                    sending = tasks.create_task(send())
                    await receive()
                    if not dead.is_set():
                        sending.cancel()
        finally:
            server_writer.close()
            writer.close()

    def _address(self) -> tuple[str, int]:
        query = dict(part.split("=", 1) for part in self._dsn.query.split("&") if "=" in part)
        host = unquote(query.get("host", self._dsn.hostname or LOOPBACK))
        return host, int(query.get("port", self._dsn.port or 5432))


@pytest.mark.parametrize("statement", [1, 2, 4, 6, 10, 16])
async def test_service_starts_although_its_server_ends_a_connection(
    statement: int, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stop, ready = asyncio.Event(), asyncio.Event()
    server = DyingServer(database, statement)
    async with server.serve() as dsn:
        settings = ServiceSettings.from_environ(
            {}, database_url=dsn, health_port=0, callback_port=0, own_callback_url=f"http://{LOOPBACK}:9/callback"
        )
        running = asyncio.create_task(run_service(settings, stop, on_ready=ready.set))
        starting = asyncio.create_task(ready.wait())
        async with asyncio.timeout(60):
            await asyncio.wait({running, starting}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            stop.set()
            await running
    assert "Traceback" not in capsys.readouterr().out
