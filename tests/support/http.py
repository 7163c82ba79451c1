"""What the tests of our HTTP server share: that server, a client that speaks bytes, and small answers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobfn.http.messages import read_body
from jobfn.http.server import HttpServer, bind
from support.network import LOOPBACK

#: The tests run in asyncio's loop and in the one that both sides run in: their transports differ.
BOTH_LOOPS = pytest.mark.parametrize(
    "anyio_backend",
    [("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})],
    ids=["asyncio", "uvloop"],
)
#: No test takes longer.
SPINNER_DELAY_SECONDS = 15
#: More than the kernel keeps for a client or a server that does not read.
HUGE = 30_000_000


@dataclass(frozen=True)
class Answer:
    """What came back; the headers' names in lower case."""

    line: bytes
    headers: dict[bytes, bytes]
    body: bytes = b""

    @property
    def status(self) -> int:
        """Its number."""
        return int(self.line.split(b" ")[1])


@dataclass
class Client:
    """One connection to a server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *packets: bytes) -> None:
        """Write them, and let the server take each one by itself."""
        for packet in packets:
            self.writer.write(packet)
            await self.writer.drain()
            for _ in range(3):  # the loop's turns: it is ready to be read, it is read, that is taken
                await asyncio.sleep(0)

    async def head(self) -> Answer:
        """The next answer without its body."""
        line, *rest = (await self.reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        fields = [header.split(b": ", 1) for header in rest]
        headers = {name.lower(): value for name, value in fields}
        assert len(headers) == len(fields), "no header is there twice"
        return Answer(line, headers)

    async def chunk(self) -> bytes:
        """The next chunk of an answer's body; the last one is empty."""
        length = int(await self.reader.readuntil(b"\r\n"), 16)
        chunk = await self.reader.readexactly(length)
        assert await self.reader.readexactly(2) == b"\r\n"
        return chunk

    async def answer(self) -> Answer:
        """The next answer, whole."""
        found = await self.head()
        if b"content-length" in found.headers:
            body = await self.reader.readexactly(int(found.headers[b"content-length"]))
        else:
            assert found.headers[b"transfer-encoding"] == b"chunked"
            chunks = [await self.chunk()]
            while chunks[-1]:
                chunks.append(await self.chunk())
            body = b"".join(chunks)
        return Answer(found.line, found.headers, body)

    async def rest(self) -> bytes:
        """All that comes until the server closes the connection, or cuts it."""
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while data := await self.reader.read(65_536):
                said += data
        return said


@dataclass
class Served:
    """A server under test and its clients."""

    server: HttpServer
    clients: list[Client] = field(default_factory=list)

    async def connect(self) -> Client:
        """A new connection."""
        client = Client(*await asyncio.open_connection(LOOPBACK, self.server.port))
        self.clients.append(client)
        return client


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, *, keep_alive_seconds: float = 60, lifespan: bool = False) -> AsyncIterator[Served]:
    """Serve an app for as long as the block runs, which is not long."""
    server = HttpServer(
        app, bind(LOOPBACK, 0), shutdown_timeout_seconds=5, lifespan=lifespan, keep_alive_seconds=keep_alive_seconds
    )
    await server.start()
    served = Served(server)
    try:
        async with asyncio.timeout(SPINNER_DELAY_SECONDS):
            yield served
    finally:
        for client in served.clients:
            client.writer.close()
        async with asyncio.timeout(SPINNER_DELAY_SECONDS):
            await server.stop()


def request(target: bytes = b"/", *lines: bytes, method: bytes = b"GET", body: bytes | None = None) -> bytes:
    """A request; with a body, its length is told."""
    head = [b"%b %b HTTP/1.1" % (method, target), b"Host: x", *lines]
    if body is not None:
        head.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + (body or b"")


async def say(send: Send, body: bytes, *headers: tuple[bytes, bytes], status: int = 200) -> None:
    """Answer in ASGI's messages, with a Content-Length."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def whole(receive: Receive) -> bytes:
    """A request's body, however long."""
    return await read_body(receive, limit=2 * HUGE)


async def standstill(count: Callable[[], int]) -> int:
    """Wait until something that is counted grows no more; returns how far it came."""
    before = -1
    while before != (now := count()) or now == 0:
        before = now
        await asyncio.sleep(0.2)  # that nothing happens has no event
    return now


def start(*headers: tuple[bytes, bytes], status: int = 200) -> Message:
    """A message: the head of an answer."""
    return {"type": "http.response.start", "status": status, "headers": headers}


def part(body: bytes, *, more: bool = True) -> Message:
    """A message: some of an answer's body."""
    return {"type": "http.response.body", "body": body, "more_body": more}


class Gates:
    """An app that answers a request with its path and its body's length, when the gate of that path is open."""

    def __init__(self, *opened: str) -> None:
        self.log: list[str] = []
        self.scopes: list[Scope] = []
        self._arrived: dict[str, asyncio.Event] = {}
        self._opened: dict[str, asyncio.Event] = {}
        for path in opened:
            self.opened(path).set()

    def arrived(self, path: str) -> asyncio.Event:
        """Set when a request for it is there."""
        return self._arrived.setdefault(path, asyncio.Event())

    def opened(self, path: str) -> asyncio.Event:
        """To be set when such requests may be answered."""
        return self._opened.setdefault(path, asyncio.Event())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path: str = scope["path"]
        self.scopes.append(scope)
        self.log.append(f"+{path}")
        self.arrived(path).set()
        await self.opened(path).wait()
        body = await whole(receive)
        await say(send, b"%s %d" % (path.encode(), len(body)))
        self.log.append(f"-{path}")


class Watched:
    """An app that keeps what another one raises, passes it on, and tells of each end."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.raised: list[BaseException] = []
        self.ends: asyncio.Queue[str] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            await self.app(scope, receive, send)
        except BaseException as error:
            self.raised.append(error)
            raise
        finally:
            self.ends.put_nowait(scope["path"])


def sending(*messages: Message) -> Watched:
    """An app that sends these."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return Watched(app)
