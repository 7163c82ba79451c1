"""Connections of our HTTP server: whose turn it is, when it reads, when they end."""

import asyncio
import contextlib
import hashlib

import pytest
from starlette.types import Receive, Scope, Send

from support.http import (
    BOTH_LOOPS,
    HUGE,
    Gates,
    request,
    say,
    serving,
    whole,
)

pytestmark = BOTH_LOOPS


async def is_stuck(work: "asyncio.Task[None]") -> bool:
    """Whether it makes no end, for so long that it would have been done many times over."""
    await asyncio.wait({work}, timeout=0.5)
    return not work.done()


async def test_pipelined_requests_have_their_turn() -> None:
    """Those of one packet are answered in order; each starts when the one before it is answered."""
    app = Gates("/b", "/c")
    async with serving(app) as served:
        client = await served.connect()
        await client.send(request(b"/a") + request(b"/b", method=b"POST", body=b"12345") + request(b"/c"))
        await app.arrived("/a").wait()
        await asyncio.sleep(0.05)  # what must not happen has no event
        assert app.log == ["+/a"]
        app.opened("/a").set()
        assert [(await client.answer()).body for _ in "abc"] == [b"/a 0", b"/b 5", b"/c 0"]
        assert app.log == ["+/a", "-/a", "+/b", "-/b", "+/c", "-/c"]


async def test_nothing_is_read_while_requests_wait() -> None:
    """A client that goes on pipelining is held up until it is its turn; then all are answered."""
    app = Gates("/")
    count, one = 600, request(method=b"POST", body=b"x" * 50_000)
    async with serving(app) as served:
        client = await served.connect()
        await client.send(request(b"/a"))
        await app.arrived("/a").wait()
        sending = asyncio.create_task(client.send(one * count))
        assert await is_stuck(sending)
        app.opened("/a").set()
        assert (await client.answer()).body == b"/a 0"
        for _ in range(count):
            assert (await client.answer()).body == b"/ 50000"
        await sending
        assert len(app.log) == 2 * (count + 1)


async def test_the_body_of_a_request_that_has_waited_is_read() -> None:
    """Its head came behind another request, so that reading stopped; its body comes when it is its turn."""
    app = Gates("/b")
    async with serving(app) as served:
        client = await served.connect()
        await client.send(request(b"/a") + request(b"/b", b"Content-Length: 5", method=b"POST"))
        await app.arrived("/a").wait()
        await client.send(b"hello")
        app.opened("/a").set()
        assert (await client.answer()).body == b"/a 0"
        assert (await client.answer()).body == b"/b 5"


async def test_that_the_client_of_a_request_that_has_waited_is_gone_is_seen() -> None:
    """It came behind another request, so that reading stopped; whoever then waits for its end learns of it."""
    gone = asyncio.Event()
    turns = {"/a": asyncio.Event(), "/b": asyncio.Event()}
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await whole(receive)
        turns[scope["path"]].set()
        await go_on.wait()
        if scope["path"] == "/b":
            assert (await receive())["type"] == "http.disconnect"
            gone.set()
        await say(send, b"done")

    async with serving(app) as served:
        client = await served.connect()
        await client.send(request(b"/a") + request(b"/b"))
        await turns["/a"].wait()
        go_on.set()
        await turns["/b"].wait()
        assert (await client.answer()).body == b"done"
        client.writer.close()
        await gone.wait()


async def test_nothing_is_read_while_a_body_is_left_alone() -> None:
    """A client is held up that sends what the app does not take; the app then has all of it, as it was sent."""
    opened = asyncio.Event()
    body = b"".join(b"%08d" % number for number in range(HUGE // 8))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await opened.wait()
        await say(send, hashlib.sha256(await whole(receive)).digest())

    async with serving(app) as served:
        client = await served.connect()
        sending = asyncio.create_task(client.send(request(method=b"POST", body=body)))
        assert await is_stuck(sending)
        opened.set()
        assert (await client.answer()).body == hashlib.sha256(body).digest()
        await sending


async def test_a_body_that_is_left_alone_is_passed_over() -> None:
    """Reading stopped for it, and it was answered unread: then the next request is read."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await opened.wait()
        await say(send, scope["raw_path"])

    opened = asyncio.Event()
    async with serving(app) as served:
        client = await served.connect()
        sending = asyncio.create_task(client.send(request(method=b"POST", body=b"x" * HUGE), request(b"/next")))
        assert await is_stuck(sending)
        opened.set()
        assert [(await client.answer()).body for _ in range(2)] == [b"/", b"/next"]
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
async def test_a_last_request(sent: bytes, rest: bytes) -> None:
    """HTTP/1.0, Connection: close, an upgrade that nobody knows: answered, and closed; nothing behind it is served."""
    app = Gates()
    async with serving(app) as served:
        client = await served.connect()
        await client.send(sent + rest, rest)
        app.opened("/a").set()
        answer = await client.answer()
        assert (answer.status, answer.headers[b"connection"], answer.body) == (200, b"close", b"/a 0")
        assert await client.rest() == b""
        assert app.log == ["+/a", "-/a"]


async def test_idle_connections_are_closed() -> None:
    """One that never asks, one that was answered, one that dribbles a head; not one whose request takes long."""
    app = Gates("/")
    async with serving(app, keep_alive_seconds=0.3) as served:
        busy = await served.connect()
        await busy.send(request(b"/busy"))
        await app.arrived("/busy").wait()
        idle = await served.connect()
        answered = await served.connect()
        await answered.send(request())
        assert (await answered.answer()).status == 200
        dribbling = await served.connect()
        await dribbling.send(b"GET / HTTP/1.1\r\n")
        closed = asyncio.create_task(dribbling.reader.read())
        while not closed.done():
            with contextlib.suppress(ConnectionError):
                await dribbling.send(b"X: y\r\n")
            await asyncio.wait({closed}, timeout=0.05)
        assert (await closed, await idle.rest(), await answered.rest()) == (b"", b"", b"")
        another = await served.connect()
        assert await another.rest() == b""
        app.opened("/busy").set()
        assert (await busy.answer()).body == b"/busy 0"
        assert await busy.rest() == b""


async def test_a_connection_is_idle_from_its_last_answer_on() -> None:
    """Each answer gives it the whole time again."""
    app = Gates("/")
    loop = asyncio.get_running_loop()
    async with serving(app, keep_alive_seconds=0.4) as served:
        client = await served.connect()
        began = loop.time()
        while loop.time() < began + 1:
            await client.send(request())
            assert (await client.answer()).status == 200
            await asyncio.sleep(0.1)  # the clock itself is what is looked at
        answered = loop.time()
        assert await client.rest() == b""
        assert loop.time() > answered + 0.2


async def test_a_stop_answers_only_what_is_under_way() -> None:
    """The client is told that it is the last one; what waits behind it is not served."""
    app = Gates("/b")
    async with serving(app) as served:
        client = await served.connect()
        idle = await served.connect()
        await client.send(request(b"/a") + request(b"/b"))
        await app.arrived("/a").wait()
        stopping = asyncio.create_task(served.server.stop())
        assert await idle.rest() == b""
        app.opened("/a").set()
        answer = await client.answer()
        assert (answer.body, answer.headers[b"connection"]) == (b"/a 0", b"close")
        assert await client.rest() == b""
        await stopping
        assert app.log == ["+/a", "-/a"]
