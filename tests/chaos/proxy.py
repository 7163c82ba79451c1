"""The base of the proxies between the parts of a chaos run. They cut, delay and repeat requests and record them.

``function_gateway.py`` is in front of the functions, like a cluster's gateway. ``report_gateway.py`` is in front of the
callback servers, like a load balancer. If a client disconnects, they close the connection to the server too.
"""

import asyncio
import contextlib
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from chaos.faults import Fault, FaultKind
from chaos.http_messages import DISCONNECTED, LOOPBACK, Message, connect, read_message

CUT_KINDS = {FaultKind.CUT_REQUEST, FaultKind.CUT_BEFORE_RESPONSE}

ClientWriter = asyncio.StreamWriter
Handler = Callable[[Message, ClientWriter], Coroutine[None, None, None]]


class ConnectionCut(Exception):
    """Ends the connection to the client."""


class _ClientProtocol(asyncio.StreamReaderProtocol):
    """Notices that a client has disconnected, also while nothing is read."""

    def __init__(self, on_connection: Callable[..., Any]) -> None:
        super().__init__(asyncio.StreamReader(), on_connection)
        self.disconnected = asyncio.Event()

    def eof_received(self) -> bool | None:
        self.disconnected.set()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.disconnected.set()
        super().connection_lost(exc)


@contextlib.asynccontextmanager
async def serve(handler: Handler, errors: list[str]) -> AsyncIterator[int]:
    """Serve HTTP/1.1 on a free port, one request at a time on each connection. Cancel requests of gone clients.

    Args:
        handler: Handles a request.
        errors: Receives unexpected errors of the handler.
    """
    open_connections: set[asyncio.StreamWriter] = set()

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_connections.add(writer)
        protocol = writer.transport.get_protocol()
        assert isinstance(protocol, _ClientProtocol)
        disconnected = asyncio.create_task(protocol.disconnected.wait())
        try:
            while (request := await read_message(reader)) is not None:
                handling = asyncio.create_task(handler(request, writer))
                await asyncio.wait({handling, disconnected}, return_when=asyncio.FIRST_COMPLETED)
                handling.cancel()
                await handling
        except (ConnectionCut, asyncio.CancelledError, *DISCONNECTED):
            pass
        except Exception:  # noqa: BLE001  - a violation of the run
            errors.append(traceback.format_exc())
        finally:
            disconnected.cancel()
            open_connections.discard(writer)
            with contextlib.suppress(OSError):
                writer.close()
                await writer.wait_closed()

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _ClientProtocol(on_connection), LOOPBACK, 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for writer in list(open_connections):
            writer.transport.abort()


async def cut_request(port: int, request: Message, fault: Fault) -> None:
    """Send a part of a request, or all of it without reading the response. Raise ConnectionCut."""
    async with connect(port) as (_, writer):
        if fault.kind is FaultKind.CUT_REQUEST:
            writer.write(request.raw[: int(len(request.raw) * fault.fraction)])
        else:
            writer.write(request.raw)
            await asyncio.sleep(fault.delay_seconds)
        await writer.drain()
    raise ConnectionCut


class Repetitions:
    """Pending repetitions of requests."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, repetition: Coroutine[None, None, None]) -> None:
        """Send a request again in the background."""
        task = asyncio.create_task(self._run(repetition))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Wait for all repetitions."""
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _run(self, repetition: Coroutine[None, None, None]) -> None:
        with contextlib.suppress(*DISCONNECTED):
            await repetition
