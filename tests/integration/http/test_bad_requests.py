"""Requests whose bytes could be read in two ways: no part of them runs as a second request."""

import pytest
from starlette.types import Receive, Scope, Send

from support.http import GatedApp, connected, read_all, request, respond

SECOND = request(b"/second")
ZERO_CHUNK = b"0\r\n\r\n"


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return request(b"/first", *lines, method=b"POST") + body


CHUNKED = b"Transfer-Encoding: chunked"
UPGRADE = (b"Connection: Upgrade", b"Upgrade: h2c")
H2C = (b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABk", b"Upgrade: h2c")
LENGTH_OF_SECOND = b"Content-Length: %d" % len(SECOND)
UPGRADE_HEAD = post(*UPGRADE, LENGTH_OF_SECOND)


@pytest.mark.parametrize(
    "packets",
    [
        [post(b"Content-Length: 4", CHUNKED, body=ZERO_CHUNK + SECOND)],
        [post(CHUNKED, b"Content-Length: 4", body=ZERO_CHUNK + SECOND)],
        [post(b"Content-Length: 0", LENGTH_OF_SECOND, body=SECOND)],
        [post(LENGTH_OF_SECOND, LENGTH_OF_SECOND, body=SECOND)],
        [post(b"Content-Length: +2", body=b"{}" + SECOND)],
        [post(b"Content-Length: 2, 2", body=b"{}" + SECOND)],
        [post(b"Transfer-Encoding: xchunked", body=ZERO_CHUNK + SECOND)],
        [post(b"Transfer-Encoding: chunked, gzip", body=ZERO_CHUNK + SECOND)],
        [post(CHUNKED, b"Transfer-Encoding: identity", body=ZERO_CHUNK + SECOND)],
        [post(CHUNKED, body=b"2\n{}\n0\n\n" + SECOND)],
        [post(CHUNKED, body=b"0x2\r\n{}\r\n0\r\n\r\n" + SECOND)],
        [post(b"Content-Length : 2", body=b"{}" + SECOND)],
        [post(b"X-Nul: \0", body=SECOND)],
        [post(*UPGRADE, b"Content-Length: 4", CHUNKED, body=ZERO_CHUNK + SECOND)],
        [b"\x16\x03\x01\x02\x00" + SECOND],
    ],
)
async def test_ambiguous_request_gets_400_and_does_not_run(packets: list[bytes]) -> None:
    app = GatedApp("/first", "/second")
    async with connected(app) as client:
        await client.send(*packets)
        response = await client.read_response()
        assert (response.status, response.headers[b"connection"]) == (400, b"close")
        assert await client.read_until_closed() == b""
        assert app.completed == []


@pytest.mark.parametrize(
    "packets",
    [
        [b"GET /first HTTP/1.0\r\n\r\n" + SECOND],
        [request(b"/first", b"Connection: close") + SECOND],
        [request(b"/first", b"Connection: close"), SECOND],
        [request(b"/first", *UPGRADE) + SECOND],
        [request(b"/first", *UPGRADE), SECOND],
    ],
)
async def test_request_after_the_last_one_of_a_connection_does_not_run(packets: list[bytes]) -> None:
    app = GatedApp("/second")
    async with connected(app) as client:
        await client.send(*packets)
        app.gate("/first").set()
        response = await client.read_response()
        assert (response.status, response.headers[b"connection"], response.body) == (200, b"close", b"/first 0")
        assert await client.read_until_closed() == b""
        assert app.completed == ["/first"]


@pytest.mark.parametrize(
    "packets",
    [
        [post(*UPGRADE, LENGTH_OF_SECOND), SECOND],
        [post(*UPGRADE, LENGTH_OF_SECOND, body=SECOND)],
        [post(*UPGRADE, LENGTH_OF_SECOND, body=SECOND + SECOND)],
        [UPGRADE_HEAD[:-9], UPGRADE_HEAD[-9:] + SECOND[:7], SECOND[7:] + SECOND],
        [post(*UPGRADE, CHUNKED), b"%x\r\n%b\r\n0\r\n\r\n" % (len(SECOND), SECOND)],
        [post(*H2C, LENGTH_OF_SECOND, body=SECOND)],
    ],
)
async def test_body_of_a_request_that_asks_for_an_upgrade_is_read(packets: list[bytes]) -> None:
    """A proxy may add the header. The request is the last one of its connection."""
    app = GatedApp()
    async with connected(app) as client:
        await client.send(*packets)
        app.gate("/first").set()
        response = await client.read_response()
        expected = b"/first %d" % len(SECOND)
        assert (response.status, response.headers[b"connection"], response.body) == (200, b"close", expected)
        assert await client.read_until_closed() == b""
        assert app.completed == ["/first"]


async def test_upgrade_after_another_request_is_answered_in_its_order() -> None:
    app = GatedApp()
    async with connected(app) as client:
        await client.send(post(b"Content-Length: 2", body=b"{}") + post(*UPGRADE, LENGTH_OF_SECOND, body=SECOND))
        app.gate("/first").set()
        assert (await client.read_response()).body == b"/first 2"
        assert (await client.read_response()).body == b"/first %d" % len(SECOND)
        assert await client.read_until_closed() == b""


async def test_head_of_an_upgrade_is_bounded() -> None:
    app = GatedApp("/first")
    async with connected(app) as client:
        await client.send(post(*UPGRADE, LENGTH_OF_SECOND, b"X: " + b"x" * 70_000, body=SECOND))
        assert (await client.read_response()).status == 431
        assert app.completed == []


async def test_invalid_bytes_after_a_request_close_the_connection() -> None:
    app = GatedApp("/first", "/second")
    async with connected(app) as client:
        await client.send(post(b"Content-Length: 2", body=b"{}") + b"nonsense\r\n\r\n" + SECOND)
        assert (await client.read_response()).status == 400
        assert await client.read_until_closed() == b""
        assert app.completed == ["/first"]


async def test_trailer_is_ignored() -> None:
    headers: list[tuple[bytes, bytes]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_all(receive)
        headers.extend(scope["headers"])
        await respond(send, body)

    async with connected(app) as client:
        await client.send(post(CHUNKED, body=b"2\r\n{}\r\n0\r\nX-Job-Id: 7\r\n\r\n"))
        assert (await client.read_response()).body == b"{}"
        await client.send(post(CHUNKED), b"2\r\n{}\r\n0\r\n", b"X-Job-Id: 7\r\n\r\n")
        assert (await client.read_response()).body == b"{}"
    assert headers == [(b"host", b"x"), (b"transfer-encoding", b"chunked")] * 2
