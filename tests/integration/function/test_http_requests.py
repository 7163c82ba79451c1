"""Requests of our HTTP server: what the app is told of them."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from jobfn.http.messages import buffered_body
from jobfn.http.request_parser import MAX_HEAD_BYTES
from jobfn.http.server import HttpServer
from support.http import (
    BOTH_LOOPS,
    Client,
    part,
    request,
    say,
    serving,
    start,
    whole,
)
from support.network import LOOPBACK

pytestmark = BOTH_LOOPS

POST = request(b"/", b"Transfer-Encoding: chunked", method=b"POST")


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        (b"/", "/", b"/", b""),
        (b"/a%20b/%C3%A4?x=%20&y", "/a b/ä", b"/a%20b/%C3%A4", b"x=%20&y"),
        (b"//a/../b?c?d", "//a/../b", b"//a/../b", b"c?d"),
        (b"/a?", "/a", b"/a", b""),
        (b"/a?b#c", "/a", b"/a", b"b"),
        (b"/a#c", "/a", b"/a", b""),
        (b"http://x/a%20?b", "/a ", b"/a%20", b"b"),
        (b"http://x", "/", b"/", b""),
        (b"http://x?b", "/", b"/", b"b"),
        (b"*", "*", b"*", b""),
    ],
)
async def test_targets(target: bytes, path: str, raw_path: bytes, query: bytes) -> None:
    """A path is unquoted, a query is not; of a whole URL that is what counts; a fragment is dropped."""
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await say(send, b"")

    async with serving(app) as served:
        client = await served.connect()
        await client.send(request(target))
        assert (await client.answer()).status == 200
    found = scopes[0]
    assert (found["path"], found["raw_path"], found["query_string"]) == (path, raw_path, query)


async def test_what_else_a_scope_tells() -> None:
    """As ASGI has it: names of headers in lower case, in their order, and both addresses."""
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await say(send, b"")

    async with serving(app) as served:
        client = await served.connect()
        await client.send(request(b"/", b"X-Two:  a", b"X-Empty:", b"x-two: \xff", method=b"PATCH"))
        await client.answer()
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        await client.answer()
        first, second = scopes
        assert (first["type"], first["method"], first["http_version"]) == ("http", "PATCH", "1.1")
        assert (second["method"], second["http_version"], second["headers"]) == ("GET", "1.0", [])
        assert first["headers"] == [(b"host", b"x"), (b"x-two", b"a"), (b"x-empty", b""), (b"x-two", b"\xff")]
        assert first["client"] == client.writer.get_extra_info("sockname")
        assert first["server"] == (LOOPBACK, served.server.port)
        assert (first["scheme"], first["root_path"]) == ("http", "")


async def test_what_the_lifespan_yields_is_each_request_s_own() -> None:
    """A request that writes into it changes it for no other."""

    async def page(request: Request) -> Response:
        counted = request.state.count
        request.state.count += 1
        return JSONResponse(counted)

    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, int]]:
        yield {"count": 7}

    app = Starlette(routes=[Route("/", page)], lifespan=contextlib.asynccontextmanager(lifespan))
    async with serving(app, lifespan=True) as served:
        client = await served.connect()
        for _ in range(2):
            await client.send(request())
            assert (await client.answer()).body == b"7"


async def test_a_client_on_a_unix_socket_has_no_address(tmp_path: Path) -> None:
    """Nor has the server."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await say(send, repr((scope["client"], scope["server"])).encode())

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    listener.listen()
    listener.setblocking(False)
    server = HttpServer(app, listener, shutdown_timeout_seconds=5, lifespan=False)
    await server.start()
    async with asyncio.timeout(5):
        client = Client(*await asyncio.open_unix_connection(tmp_path / "socket"))
        await client.send(request())
        assert (await client.answer()).body == b"(None, None)"
        client.writer.close()
        await server.stop()


async def test_a_body_in_pieces() -> None:
    """In many packets, with a length or in chunks; a trailer is no header and no body."""
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await say(send, await whole(receive))

    body = b"".join(b"%03d" % number for number in range(300))
    pieces = [body[start : start + 3] for start in range(0, len(body), 3)]
    trailer = b"X-Trailer: y\r\n"
    async with serving(app) as served:
        client = await served.connect()
        await client.send(request(b"/", b"Content-Length: %d" % len(body), method=b"POST"), *pieces)
        assert (await client.answer()).body == body
        await client.send(POST, *(b"3;x\r\n%b\r\n" % piece for piece in pieces), b"0\r\n", trailer, b"\r\n")
        assert (await client.answer()).body == body
        await client.send(POST + b"".join(b"3\r\n%b\r\n" % piece for piece in pieces) + b"0\r\n" + trailer + b"\r\n")
        assert (await client.answer()).body == body
        await client.send(request())
        assert (await client.answer()).body == b""
    chunked = [(b"host", b"x"), (b"transfer-encoding", b"chunked")]
    assert [scope["headers"] for scope in scopes[1:]] == [chunked, chunked, [(b"host", b"x")]]


async def test_a_chunk_longer_than_a_head_may_be() -> None:
    """However many packets it fills, it is a body."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await say(send, b"%d" % len(await whole(receive)))

    size = 20 * MAX_HEAD_BYTES
    async with serving(app) as served:
        client = await served.connect()
        await client.send(POST + b"%x\r\n" % size, *([b"x" * MAX_HEAD_BYTES] * 20), b"\r\n0\r\n\r\n")
        assert (await client.answer()).body == b"%d" % size


async def test_a_body_at_hand() -> None:
    """There is one only when all of it has come and nobody has taken any."""
    found: list[bytes | None] = []
    arrived = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(buffered_body(receive, limit=5))
        arrived.set()
        if found[-1] is None:
            found.append(await whole(receive))
        found.append(buffered_body(receive, limit=5))
        await say(send, b"")
        assert (await receive())["type"] == "http.disconnect"

    async def ask(*packets: bytes) -> list[bytes | None]:
        found.clear()
        arrived.clear()
        for packet in packets:
            await client.send(packet)
            await arrived.wait()
        await client.answer()
        return found.copy()

    async with serving(app) as served:
        client = await served.connect()
        assert await ask(request(method=b"POST", body=b"hello")) == [b"hello", None]
        assert await ask(POST + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n") == [b"hello", None]
        assert await ask(request()) == [b"", None]
        assert await ask(POST, b"5\r\nhello\r\n0\r\n\r\n") == [None, b"hello", None]
        assert await ask(POST + b"2\r\nhe\r\n", b"3\r\nllo\r\n0\r\n\r\n") == [None, b"hello", None]


@pytest.mark.parametrize("expect", [b"Expect: 100-continue", b"expect: 100-Continue"])
async def test_a_client_that_waits_is_asked_for_its_body(expect: bytes) -> None:
    """When the app waits for it, and once."""
    received: asyncio.Queue[Message] = asyncio.Queue()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            received.put_nowait(message)
            more = message["more_body"]
        await say(send, b"done")

    async with serving(app) as served:
        client = await served.connect()
        await client.send(request(b"/", expect, b"Content-Length: 5", method=b"POST"))
        assert (await client.head()).line == b"HTTP/1.1 100 Continue"
        await client.send(b"he")
        assert (await received.get())["body"] == b"he"
        await client.send(b"llo")
        assert (await received.get())["body"] == b"llo"
        assert (await client.answer()).body == b"done"


@pytest.mark.parametrize(
    ("sent", "reads", "begins"),
    [
        (request(b"/", b"Expect: 100-continue", method=b"POST", body=b"hello"), True, False),
        (request(b"/", b"Expect: 100-continue", b"Content-Length: 5", method=b"POST"), False, False),
        (request(b"/", b"Expect: 100-continue", b"Content-Length: 5", method=b"POST"), True, True),
        (request(b"/", b"Expect: something", b"Content-Length: 5", method=b"POST"), True, True),
    ],
)
async def test_a_client_that_need_not_wait_is_not_asked(sent: bytes, *, reads: bool, begins: bool) -> None:
    """The body is there already, nobody wants it, or the answer has begun: the first line is that of the answer."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if begins:
            await send(start())
        if reads:
            assert (await receive())["body"] == b"hello"
        if not begins:
            await send(start())
        await send(part(b"done", more=False))

    async with serving(app) as served:
        client = await served.connect()
        await client.send(sent)
        if begins:
            assert (await client.head()).status == 200
            await client.send(b"hello")
            assert [await client.chunk() for _ in range(2)] == [b"done", b""]
        else:
            assert (await client.answer()).body == b"done"
