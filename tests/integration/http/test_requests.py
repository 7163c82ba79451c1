"""Requests as the ASGI app sees them: scope and body."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from jobfn.http.messages import buffered_body
from jobfn.http.request_parser import MAX_HEAD_BYTES
from support.http import connected, part, read_all, request, respond, serving, start
from support.network import LOOPBACK

CHUNKED_POST = request(b"/", b"Transfer-Encoding: chunked", method=b"POST")


class ScopeApp:
    """App that records scopes."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        await respond(send, await read_all(receive))


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        (b"/", "/", b"/", b""),
        (b"/a%20b/%C3%A4?x=%20&y", "/a b/ä", b"/a%20b/%C3%A4", b"x=%20&y"),
        (b"//a/../b?c?d", "//a/../b", b"//a/../b", b"c?d"),
        (b"/a?b#c", "/a", b"/a", b"b"),
        (b"/a#c", "/a", b"/a", b""),
        (b"http://x/a%20?b", "/a ", b"/a%20", b"b"),
        (b"http://x", "/", b"/", b""),
        (b"*", "*", b"*", b""),
    ],
)
async def test_scope_has_the_decoded_path_and_the_raw_query(
    target: bytes, path: str, raw_path: bytes, query: bytes
) -> None:
    app = ScopeApp()
    async with connected(app) as client:
        await client.send(request(target))
        assert (await client.read_response()).status == 200
    (scope,) = app.scopes
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw_path, query)


async def test_scope_has_method_version_headers_and_addresses() -> None:
    app = ScopeApp()
    async with serving(app) as running:
        client = await running.connect()
        await client.send(request(b"/", b"X-Two:  a", b"X-Empty:", b"x-two: \xff", method=b"PATCH"))
        await client.read_response()
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        await client.read_response()
        first, second = app.scopes
        assert (first["type"], first["method"], first["http_version"]) == ("http", "PATCH", "1.1")
        assert (second["method"], second["http_version"], second["headers"]) == ("GET", "1.0", [])
        assert first["headers"] == [(b"host", b"x"), (b"x-two", b"a"), (b"x-empty", b""), (b"x-two", b"\xff")]
        assert first["client"] == client.writer.get_extra_info("sockname")
        assert first["server"] == (LOOPBACK, running.server.port)
        assert (first["scheme"], first["root_path"]) == ("http", "")


async def test_each_request_has_its_own_copy_of_the_lifespan_state() -> None:
    async def page(request: Request) -> Response:
        count = request.state.count
        request.state.count += 1
        return JSONResponse(count)

    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, int]]:
        yield {"count": 7}

    app = Starlette(routes=[Route("/", page)], lifespan=contextlib.asynccontextmanager(lifespan))
    async with connected(app, lifespan=True) as client:
        for _ in range(2):
            await client.send(request())
            assert (await client.read_response()).body == b"7"


async def test_body_in_many_packets_or_chunks_is_joined_and_its_trailer_ignored() -> None:
    app = ScopeApp()
    body = b"".join(b"%03d" % number for number in range(300))
    pieces = [body[start : start + 3] for start in range(0, len(body), 3)]
    trailer = b"X-Trailer: y\r\n"
    async with connected(app) as client:
        await client.send(request(b"/", b"Content-Length: %d" % len(body), method=b"POST"), *pieces)
        assert (await client.read_response()).body == body
        await client.send(CHUNKED_POST, *(b"3;x\r\n%b\r\n" % piece for piece in pieces), b"0\r\n", trailer, b"\r\n")
        assert (await client.read_response()).body == body
        chunks = b"".join(b"3\r\n%b\r\n" % piece for piece in pieces)
        await client.send(CHUNKED_POST + chunks + b"0\r\n" + trailer + b"\r\n")
        assert (await client.read_response()).body == body
        await client.send(request())
        assert (await client.read_response()).body == b""
    chunked = [(b"host", b"x"), (b"transfer-encoding", b"chunked")]
    assert [scope["headers"] for scope in app.scopes[1:]] == [chunked, chunked, [(b"host", b"x")]]


async def test_chunk_may_be_larger_than_the_head_limit() -> None:
    size = 20 * MAX_HEAD_BYTES
    async with connected(ScopeApp()) as client:
        await client.send(CHUNKED_POST + b"%x\r\n" % size, *([b"x" * MAX_HEAD_BYTES] * 20), b"\r\n0\r\n\r\n")
        assert len((await client.read_response()).body) == size


async def test_buffered_body_needs_a_complete_body_that_was_not_read() -> None:
    bodies: list[bytes | None] = []
    arrived = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        bodies.append(buffered_body(receive, limit=5))
        arrived.set()
        if bodies[-1] is None:
            bodies.append(await read_all(receive))
        bodies.append(buffered_body(receive, limit=5))
        await respond(send, b"")
        assert (await receive())["type"] == "http.disconnect"

    async def bodies_of(*packets: bytes) -> list[bytes | None]:
        bodies.clear()
        arrived.clear()
        for packet in packets:
            await client.send(packet)
            await arrived.wait()
        await client.read_response()
        return bodies.copy()

    async with connected(app) as client:
        assert await bodies_of(request(method=b"POST", body=b"hello")) == [b"hello", None]
        assert await bodies_of(CHUNKED_POST + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n") == [b"hello", None]
        assert await bodies_of(request()) == [b"", None]
        assert await bodies_of(CHUNKED_POST, b"5\r\nhello\r\n0\r\n\r\n") == [None, b"hello", None]
        assert await bodies_of(CHUNKED_POST + b"2\r\nhe\r\n", b"3\r\nllo\r\n0\r\n\r\n") == [None, b"hello", None]


@pytest.mark.parametrize("expect", [b"Expect: 100-continue", b"expect: 100-Continue"])
async def test_100_continue_is_sent_once_when_the_app_reads(expect: bytes) -> None:
    received: asyncio.Queue[Message] = asyncio.Queue()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            received.put_nowait(message)
            more = message["more_body"]
        await respond(send, b"done")

    async with connected(app) as client:
        await client.send(request(b"/", expect, b"Content-Length: 5", method=b"POST"))
        assert (await client.read_head()).status_line == b"HTTP/1.1 100 Continue"
        await client.send(b"he")
        assert (await received.get())["body"] == b"he"
        await client.send(b"llo")
        assert (await received.get())["body"] == b"llo"
        assert (await client.read_response()).body == b"done"


@pytest.mark.parametrize(
    ("sent", "reads", "starts_first"),
    [
        (request(b"/", b"Expect: 100-continue", method=b"POST", body=b"hello"), True, False),
        (request(b"/", b"Expect: 100-continue", b"Content-Length: 5", method=b"POST"), False, False),
        (request(b"/", b"Expect: 100-continue", b"Content-Length: 5", method=b"POST"), True, True),
        (request(b"/", b"Expect: something", b"Content-Length: 5", method=b"POST"), True, True),
    ],
)
async def test_100_continue_is_not_sent_with_a_body_without_a_reader_or_after_the_response_started(
    sent: bytes, *, reads: bool, starts_first: bool
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if starts_first:
            await send(start())
        if reads:
            assert (await receive())["body"] == b"hello"
        if not starts_first:
            await send(start())
        await send(part(b"done", more=False))

    async with connected(app) as client:
        await client.send(sent)
        if starts_first:
            assert (await client.read_head()).status == 200
            await client.send(b"hello")
            assert [await client.read_chunk() for _ in range(2)] == [b"done", b""]
        else:
            assert (await client.read_response()).body == b"done"
