"""Connections of our HTTP server on which comes what cannot be served: it says why, and ends them."""

import asyncio
import contextlib

import pytest
from starlette.types import Receive, Scope, Send

from jobfn.http.request_parser import MAX_HEAD_BYTES
from support.http import (
    BOTH_LOOPS,
    Client,
    Gates,
    request,
    say,
    serving,
)

pytestmark = BOTH_LOOPS


@pytest.mark.parametrize(
    ("sent", "served_before"),
    [
        (b"\x16\x03\x01\x02\x00", 0),
        (b"GET / HTTP/1.1\r\nHost x\r\n\r\n", 0),
        (b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n", 0),
        (request(b"http://[x/"), 0),
        (request(b"/\xff", method=b"POST", body=b"x"), 0),
        (request(b"/a") + b"nonsense\r\n\r\n", 1),
        (request(b"/a") + request(b"/a") + request(b"http://[x/") + request(b"/a"), 2),
        (request(b"/a") + request(method=b"POST", body=b"") + b"\0", 2),
        (request(b"/a") + request(b"/a", b"Transfer-Encoding: chunked", method=b"POST") + b"nonsense\r\n", 1),
    ],
)
async def test_what_is_no_request_is_refused(sent: bytes, served_before: int) -> None:
    """With a 400, after the answers to those before it; then the connection ends."""
    app = Gates("/a", "/")
    async with serving(app) as served:
        client = await served.connect()
        await client.send(sent)
        for _ in range(served_before):
            assert (await client.answer()).status == 200
        refused = await client.answer()
        assert (refused.status, refused.headers[b"connection"]) == (400, b"close")
        assert refused.body == b"Invalid HTTP request received."
        assert await client.rest() == b""
        assert len(app.log) == 2 * served_before


async def test_a_refused_request_waits_for_those_before_it() -> None:
    """Its 400 comes behind their answers, though they take their time; what comes behind it is nobody's."""
    app = Gates()
    async with serving(app) as served:
        client = await served.connect()
        await client.send(request(b"/a"))
        await app.arrived("/a").wait()
        await client.send(b"nonsense\r\n\r\n", request(b"/a"), b"more\r\n\r\n")
        app.opened("/a").set()
        assert (await client.answer()).body == b"/a 0"
        assert (await client.answer()).status == 400
        assert await client.rest() == b""


async def test_a_body_that_turns_to_garbage() -> None:
    """The app that waits for it is told that the client is gone, the client that it spoke no HTTP."""
    seen: list[str] = []
    ended = asyncio.Event()
    arrived = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((await receive())["type"])
        arrived.set()
        seen.append((await receive())["type"])
        await say(send, b"not sent")
        ended.set()

    async with serving(app) as served:
        client = await served.connect()
        await client.send(request(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"1\r\nx\r\n")
        await arrived.wait()
        await client.send(b"nonsense\r\n")
        assert (await client.answer()).status == 400
        await ended.wait()
        assert await client.rest() == b""
        assert seen == ["http.request", "http.disconnect"]


async def test_a_body_that_turns_to_garbage_while_it_is_answered() -> None:
    """The answer is cut: no second one is put into its midst."""
    arrived, ended = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await receive()
        arrived.set()
        await receive()
        ended.set()

    async with serving(app) as served:
        client = await served.connect()
        await client.send(request(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"1\r\nx\r\n")
        await arrived.wait()
        await client.send(b"nonsense\r\n")
        assert (await client.rest()).endswith(b"5\r\nbegun\r\n")
        await ended.wait()


async def test_a_body_that_turns_to_garbage_after_its_answer() -> None:
    """The answer stands; then comes the complaint."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await say(send, b"early")

    async with serving(app) as served:
        client = await served.connect()
        await client.send(request(b"/", b"Transfer-Encoding: chunked", method=b"POST"))
        assert (await client.answer()).body == b"early"
        await client.send(b"nonsense\r\n")
        assert (await client.answer()).status == 400
        assert await client.rest() == b""


async def send_until_answered(client: Client, packet: bytes, *, at_most: int) -> int:
    """Send the same again and again; returns how many bytes that were."""
    sent = 0
    reading = asyncio.create_task(client.reader.readuntil(b"HTTP/1.1 "))
    while not reading.done() and sent < at_most:
        with contextlib.suppress(ConnectionError):
            await client.send(packet)
        sent += len(packet)
    await reading
    return sent


async def test_a_head_that_is_too_long() -> None:
    """It is refused when it is, not when it ends: after a request before it, too."""
    app = Gates("/a")
    async with serving(app) as served:
        client = await served.connect()
        await client.send(request(b"/a"))
        assert (await client.answer()).status == 200
        await client.send(b"GET / HTTP/1.1\r\n")
        sent = await send_until_answered(client, b"X-Long: " + b"x" * 1000 + b"\r\n", at_most=20 * MAX_HEAD_BYTES)
        assert MAX_HEAD_BYTES - 2000 < sent < 19 * MAX_HEAD_BYTES
        said = await client.rest()
        assert said.startswith(b"431 Request Header Fields Too Large\r\n")
        assert said.endswith(b"The request's line and headers are too long.")
        assert app.log == ["+/a", "-/a"]


async def test_a_head_behind_a_large_body_is_not_too_long() -> None:
    """The packet that ends a body and begins a head counts for neither; a head of many packets is served."""
    app = Gates("/", "/b")
    body = b"x" * (2 * MAX_HEAD_BYTES)
    async with serving(app) as served:
        client = await served.connect()
        for _ in range(3):
            await client.send(request(method=b"POST", body=body) + b"GET /b HTTP/1.1\r\n", b"X: y\r\n", b"X: y\r\n\r\n")
            assert (await client.answer()).body == b"/ %d" % len(body)
            assert (await client.answer()).body == b"/b 0"


@pytest.mark.parametrize(("begin", "more"), [(b"", b"X-Long: xxxx\r\n" * 100), (b"X-Long: ", b"x" * 1000)])
async def test_a_trailer_that_is_too_long(begin: bytes, more: bytes) -> None:
    """It is not kept without a bound, in one line or in many: the connection ends."""
    app = Gates("/")
    async with serving(app) as served:
        client = await served.connect()
        chunks = b"10000\r\n" + b"x" * 0x10000 + b"\r\n" + b"1;x\r\nx\r\n0\r\n"
        await client.send(request(b"/", b"Transfer-Encoding: chunked", method=b"POST") + chunks + begin)
        await send_until_answered(client, more, at_most=20 * MAX_HEAD_BYTES)
        assert (await client.rest()).startswith(b"431 ")
        assert app.log == ["+/"]
