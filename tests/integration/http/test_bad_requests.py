"""Bytes that the HTTP server cannot serve: it responds with the reason and closes the connection."""

import asyncio
import contextlib

import pytest
from starlette.types import Receive, Scope, Send

from jobfn.http.request_parser import MAX_HEAD_BYTES
from support.http import GatedApp, RawClient, connected, part, request, respond, start

CHUNKED_POST = request(b"/", b"Transfer-Encoding: chunked", method=b"POST")


@pytest.mark.parametrize(
    ("sent", "served_before"),
    [
        (b"\x16\x03\x01\x02\x00", 0),
        (b"GET / HTTP/1.1\r\nHost x\r\n\r\n", 0),
        (b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n", 0),
        (request(b"http://[x/"), 0),
        (request(b"/a") + request(b"/a") + request(b"http://[x/") + request(b"/a"), 2),
        (request(b"/a") + request(method=b"POST", body=b"") + b"\0", 2),
        (request(b"/a") + request(b"/a", b"Transfer-Encoding: chunked", method=b"POST") + b"nonsense\r\n", 1),
    ],
)
async def test_invalid_bytes_get_400_after_the_responses_to_earlier_requests(sent: bytes, served_before: int) -> None:
    app = GatedApp("/a", "/")
    async with connected(app) as client:
        await client.send(sent)
        for _ in range(served_before):
            assert (await client.read_response()).status == 200
        response = await client.read_response()
        assert (response.status, response.headers[b"connection"]) == (400, b"close")
        assert response.body == b"Invalid HTTP request received."
        assert await client.read_until_closed() == b""
        assert len(app.log) == 2 * served_before


async def test_400_waits_for_a_slow_response_and_later_requests_are_ignored() -> None:
    app = GatedApp()
    async with connected(app) as client:
        await client.send(request(b"/a"))
        await app.arrived("/a").wait()
        await client.send(b"nonsense\r\n\r\n", request(b"/a"), b"more\r\n\r\n")
        app.gate("/a").set()
        assert (await client.read_response()).body == b"/a 0"
        assert (await client.read_response()).status == 400
        assert await client.read_until_closed() == b""


async def test_invalid_body_is_a_disconnect_for_the_app_and_400_for_the_client() -> None:
    received: list[str] = []
    arrived, finished = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        received.append((await receive())["type"])
        arrived.set()
        received.append((await receive())["type"])
        await respond(send, b"not sent")
        finished.set()

    async with connected(app) as client:
        await client.send(CHUNKED_POST + b"1\r\nx\r\n")
        await arrived.wait()
        await client.send(b"nonsense\r\n")
        assert (await client.read_response()).status == 400
        await finished.wait()
        assert await client.read_until_closed() == b""
        assert received == ["http.request", "http.disconnect"]


async def test_invalid_body_cuts_off_a_started_response() -> None:
    arrived, finished = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(part(b"begun"))
        await receive()
        arrived.set()
        await receive()
        finished.set()

    async with connected(app) as client:
        await client.send(CHUNKED_POST + b"1\r\nx\r\n")
        await arrived.wait()
        await client.send(b"nonsense\r\n")
        assert (await client.read_until_closed()).endswith(b"5\r\nbegun\r\n")
        await finished.wait()


async def test_invalid_body_after_the_response_gets_400() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"early")

    async with connected(app) as client:
        await client.send(CHUNKED_POST)
        assert (await client.read_response()).body == b"early"
        await client.send(b"nonsense\r\n")
        assert (await client.read_response()).status == 400
        assert await client.read_until_closed() == b""


async def send_until_response(client: RawClient, packet: bytes, *, at_most: int) -> int:
    """Send a packet repeatedly until a response starts; returns the number of bytes sent."""
    sent = 0
    reading = asyncio.create_task(client.reader.readuntil(b"HTTP/1.1 "))
    while not reading.done() and sent < at_most:
        with contextlib.suppress(ConnectionError):
            await client.send(packet)
        sent += len(packet)
    await reading
    return sent


async def test_head_over_the_limit_gets_431_before_it_ends() -> None:
    app = GatedApp("/a")
    async with connected(app) as client:
        await client.send(request(b"/a"))
        assert (await client.read_response()).status == 200
        await client.send(b"GET / HTTP/1.1\r\n")
        sent = await send_until_response(client, b"X-Long: " + b"x" * 1000 + b"\r\n", at_most=20 * MAX_HEAD_BYTES)
        assert MAX_HEAD_BYTES - 2000 < sent < 19 * MAX_HEAD_BYTES
        received = await client.read_until_closed()
        assert received.startswith(b"431 Request Header Fields Too Large\r\n")
        assert received.endswith(b"The request's line and headers are too long.")
        assert app.log == ["+/a", "-/a"]


async def test_body_in_the_same_packet_does_not_count_towards_the_head() -> None:
    app = GatedApp("/", "/b")
    body = b"x" * (2 * MAX_HEAD_BYTES)
    async with connected(app) as client:
        for _ in range(3):
            await client.send(request(method=b"POST", body=body) + b"GET /b HTTP/1.1\r\n", b"X: y\r\n", b"X: y\r\n\r\n")
            assert (await client.read_response()).body == b"/ %d" % len(body)
            assert (await client.read_response()).body == b"/b 0"


@pytest.mark.parametrize(("prefix", "more"), [(b"", b"X-Long: xxxx\r\n" * 100), (b"X-Long: ", b"x" * 1000)])
async def test_trailer_over_the_limit_gets_431(prefix: bytes, more: bytes) -> None:
    app = GatedApp("/")
    async with connected(app) as client:
        chunks = b"10000\r\n" + b"x" * 0x10000 + b"\r\n" + b"1;x\r\nx\r\n0\r\n"
        await client.send(CHUNKED_POST + chunks + prefix)
        await send_until_response(client, more, at_most=20 * MAX_HEAD_BYTES)
        assert (await client.read_until_closed()).startswith(b"431 ")
        assert app.log == ["+/"]
