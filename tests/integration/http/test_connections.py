"""Order of pipelined requests, paused reading, and shutdown. Timeouts: unit/http/test_protocol.py."""

import asyncio
import hashlib
import os

import pytest
from starlette.types import Receive, Scope, Send

from support.http import (
    BOTH_LOOPS,
    HUGE,
    GatedApp,
    connected,
    read_all,
    request,
    respond,
    serving,
    turns,
    wait_until_stalled,
)

pytestmark = BOTH_LOOPS


async def test_pipelined_requests_are_served_in_order() -> None:
    app = GatedApp("/b", "/c")
    async with connected(app) as client:
        await client.send(request(b"/a") + request(b"/b", method=b"POST", body=b"12345") + request(b"/c"))
        await app.arrived("/a").wait()
        await turns(10)
        assert app.log == ["+/a"]
        app.gate("/a").set()
        assert [(await client.read_response()).body for _ in "abc"] == [b"/a 0", b"/b 5", b"/c 0"]
        assert app.log == ["+/a", "-/a", "+/b", "-/b", "+/c", "-/c"]


async def test_reading_pauses_while_pipelined_requests_wait() -> None:
    app = GatedApp("/")
    count, one = 600, request(method=b"POST", body=b"x" * 50_000)
    async with connected(app) as client:
        await client.send(request(b"/a"))
        await app.arrived("/a").wait()
        sending = asyncio.create_task(client.send(one * count))
        await wait_until_stalled(client.unsent_bytes)
        assert not sending.done()
        app.gate("/a").set()
        assert (await client.read_response()).body == b"/a 0"
        for _ in range(count):
            assert (await client.read_response()).body == b"/ 50000"
        await sending
        assert len(app.log) == 2 * (count + 1)


async def test_reading_resumes_for_the_body_of_a_pipelined_request() -> None:
    app = GatedApp("/b")
    async with connected(app) as client:
        await client.send(request(b"/a") + request(b"/b", b"Content-Length: 5", method=b"POST"))
        await app.arrived("/a").wait()
        await client.send(b"hello")
        app.gate("/a").set()
        assert (await client.read_response()).body == b"/a 0"
        assert (await client.read_response()).body == b"/b 5"


async def test_reading_resumes_to_notice_the_disconnect_of_a_pipelined_request() -> None:
    disconnected, continue_ = asyncio.Event(), asyncio.Event()
    arrived = {"/a": asyncio.Event(), "/b": asyncio.Event()}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_all(receive)
        arrived[scope["path"]].set()
        await continue_.wait()
        if scope["path"] == "/b":
            assert (await receive())["type"] == "http.disconnect"
            disconnected.set()
        await respond(send, b"done")

    async with connected(app) as client:
        await client.send(request(b"/a") + request(b"/b"))
        await arrived["/a"].wait()
        continue_.set()
        await arrived["/b"].wait()
        assert (await client.read_response()).body == b"done"
        client.writer.close()
        await disconnected.wait()


async def test_reading_pauses_while_the_app_does_not_read_a_large_body() -> None:
    gate = asyncio.Event()
    body = os.urandom(HUGE)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await respond(send, hashlib.sha256(await read_all(receive)).digest())

    async with connected(app) as client:
        sending = asyncio.create_task(client.send(request(method=b"POST", body=body)))
        await wait_until_stalled(client.unsent_bytes)
        assert not sending.done()
        gate.set()
        assert (await client.read_response()).body == hashlib.sha256(body).digest()
        await sending


async def test_unread_body_is_skipped_before_the_next_request() -> None:
    gate = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await respond(send, scope["raw_path"])

    async with connected(app) as client:
        sending = asyncio.create_task(client.send(request(method=b"POST", body=b"x" * HUGE), request(b"/next")))
        await wait_until_stalled(client.unsent_bytes)
        assert not sending.done()
        gate.set()
        assert [(await client.read_response()).body for _ in range(2)] == [b"/", b"/next"]
        await sending


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /a HTTP/1.0\r\n\r\n",
        b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        request(b"/a", b"Connection: close"),
        request(b"/a", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
    ],
)
@pytest.mark.parametrize("rest", [b"", request(b"/a")])
async def test_http_1_0_close_and_upgrade_end_the_connection(sent: bytes, rest: bytes) -> None:
    app = GatedApp()
    async with connected(app) as client:
        await client.send(sent + rest, rest)
        app.gate("/a").set()
        response = await client.read_response()
        assert (response.status, response.headers[b"connection"], response.body) == (200, b"close", b"/a 0")
        assert await client.read_until_closed() == b""
        assert app.log == ["+/a", "-/a"]


async def test_shutdown_finishes_only_the_current_request() -> None:
    app = GatedApp("/b")
    async with serving(app) as running:
        client = await running.connect()
        idle = await running.connect()
        await client.send(request(b"/a") + request(b"/b"))
        await app.arrived("/a").wait()
        stopping = asyncio.create_task(running.server.stop())
        assert await idle.read_until_closed() == b""
        app.gate("/a").set()
        response = await client.read_response()
        assert (response.body, response.headers[b"connection"]) == (b"/a 0", b"close")
        assert await client.read_until_closed() == b""
        await stopping
        assert app.log == ["+/a", "-/a"]
