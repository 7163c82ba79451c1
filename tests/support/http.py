"""Tests of the HTTP server: the running server, a client that speaks raw bytes, and small ASGI apps."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from jobfn.http.messages import read_body
from jobfn.http.server import HttpServer, bind
from support.network import LOOPBACK

#: Run a test in asyncio's loop and in uvloop, because their transports differ.
BOTH_LOOPS = pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"]
)
TEST_TIMEOUT_SECONDS = 15
#: More bytes than the kernel buffers for a peer that does not read.
HUGE = 30_000_000


@dataclass(frozen=True)
class RawResponse:
    """A response with header names in lower case."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


@dataclass
class RawClient:
    """One connection to a server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *packets: bytes) -> None:
        """Write packets so that the server receives each one separately."""
        for packet in packets:
            self.writer.write(packet)
            await self.writer.drain()
            await turns(3)  # the socket becomes readable, is read, and its data is parsed

    async def read_response(self) -> RawResponse:
        """Read a response that has a Content-Length."""
        status_line, *lines = (await self.reader.readuntil(b"\r\n\r\n"))[:-4].lower().split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines)
        assert len(headers) == len(lines), "a header is repeated"
        body = await self.reader.readexactly(int(headers[b"content-length"]))
        return RawResponse(int(status_line.split(b" ")[1]), headers, body)

    async def read_until_closed(self) -> bytes:
        """Read everything until the server closes or resets the connection."""
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while data := await self.reader.read(65_536):
                received += data
        return received


@dataclass
class RunningServer:
    """A server under test and its clients."""

    server: HttpServer
    clients: list[RawClient] = field(default_factory=list)

    async def connect(self) -> RawClient:
        client = RawClient(*await asyncio.open_connection(LOOPBACK, self.server.port))
        self.clients.append(client)
        return client


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp, *, max_connections: int | None = None, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[RunningServer]:
    """Serve an app while the block runs."""
    server = HttpServer(
        app,
        bind(LOOPBACK, 0),
        shutdown_timeout_seconds=5,
        lifespan=False,
        max_connections=max_connections,
        clock=clock,
    )
    await server.start()
    running = RunningServer(server)
    try:
        async with asyncio.timeout(TEST_TIMEOUT_SECONDS):
            yield running
    finally:
        for client in running.clients:
            client.writer.close()
        async with asyncio.timeout(TEST_TIMEOUT_SECONDS):
            await server.stop()


@contextlib.asynccontextmanager
async def connected(app: ASGIApp) -> AsyncIterator[RawClient]:
    """Serve an app, with one client."""
    async with serving(app) as running:
        yield await running.connect()


async def turns(count: int) -> None:
    """Let the event loop run this many times."""
    for _ in range(count):
        await asyncio.sleep(0)


def request(target: bytes = b"/", *lines: bytes, method: bytes = b"GET", body: bytes | None = None) -> bytes:
    """Return a request, with a Content-Length if it has a body."""
    head = [b"%b %b HTTP/1.1" % (method, target), b"Host: x", *lines]
    if body is not None:
        head.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + (body or b"")


async def respond(send: Send, body: bytes, *headers: tuple[bytes, bytes], status: int = 200) -> None:
    """Send a response in ASGI messages, with a Content-Length."""
    raw_headers = [(b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": raw_headers})
    await send({"type": "http.response.body", "body": body})


async def read_all(receive: Receive) -> bytes:
    return await read_body(receive, limit=2 * HUGE)


class GatedApp:
    """App that reads the body and responds with the path and the body's length when the gate of that path is open.

    Attributes:
        started: Paths of the requests that arrived.
        completed: Paths of the requests whose body was read.
    """

    def __init__(self, *open_paths: str) -> None:
        self.started: list[str] = []
        self.completed: list[str] = []
        self._arrived: dict[str, asyncio.Event] = {}
        self._gates: dict[str, asyncio.Event] = {}
        for path in open_paths:
            self.gate(path).set()

    def arrived(self, path: str) -> asyncio.Event:
        """Return the event of a request for this path."""
        return self._arrived.setdefault(path, asyncio.Event())

    def gate(self, path: str) -> asyncio.Event:
        """Return the event that lets the app respond."""
        return self._gates.setdefault(path, asyncio.Event())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        self.started.append(path)
        self.arrived(path).set()
        body = await read_all(receive)
        self.completed.append(path)
        await self.gate(path).wait()
        await respond(send, b"%s %d" % (path.encode(), len(body)))


class RecordingApp:
    """Wrapper that records exceptions and the end of each request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.raised: list[BaseException] = []
        self.finished: asyncio.Queue[str] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except BaseException as error:
            self.raised.append(error)
            raise
        finally:
            self.finished.put_nowait(scope["path"])
