"""Limits of the HTTP server on the size of a head, slow clients and the number of connections."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config

from jobfn.http.connections import LimitedServerState
from jobfn.http.limits import MAX_HEAD_BYTES, ConnectionSweeper, LimitedHttpToolsProtocol
from jobfn.http.messages import send_response
from jobfn.http.server import KEEP_ALIVE_SECONDS
from support.clock import ManualClock
from support.http import BOTH_LOOPS, HUGE, GatedApp, RawClient, connected, read_all, request, respond, serving, turns
from support.network import LOOPBACK

CHUNKED_POST = request(b"/", b"Transfer-Encoding: chunked", method=b"POST")


async def send_until_closed(client: RawClient, packet: bytes, *, at_most: int) -> int:
    """Send a packet repeatedly until the server closes the connection; returns the number of bytes sent."""
    sent = 0
    reading = asyncio.create_task(client.read_until_closed())
    with contextlib.suppress(ConnectionError):
        while not reading.done() and sent < at_most:
            await client.send(packet)
            sent += len(packet)
    assert (await reading).startswith(b"HTTP/1.1 431 ")
    return sent


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"GET /", b"x" * 1000),
        (b"GET / HTTP/1.1\r\n", b"X-Long: " + b"x" * 1000 + b"\r\n"),
        (b"GET / HTTP/1.1\r\nX-Long: ", b"x" * 1000),
        (CHUNKED_POST + b"1\r\nx\r\n0\r\n", b"X-Long: xxxx\r\n" * 100),
        (CHUNKED_POST + b"1\r\nx\r\n0\r\nX-Long: ", b"x" * 1000),
        (CHUNKED_POST + b"1;", b"x" * 1000),
    ],
    ids=["target", "headers", "value", "trailer", "trailer value", "chunk extension"],
)
async def test_head_or_trailer_over_the_limit_gets_431_before_it_ends(start: bytes, more: bytes) -> None:
    app = GatedApp("/a", "/")
    async with connected(app) as client:
        await client.send(request(b"/a"))
        assert (await client.read_response()).status == 200
        await client.send(start)
        sent = await send_until_closed(client, more, at_most=20 * MAX_HEAD_BYTES)
        assert MAX_HEAD_BYTES - 2000 < sent < 19 * MAX_HEAD_BYTES
        assert app.completed == ["/a"]


@BOTH_LOOPS
@pytest.mark.parametrize("size", [70_000, 140_000, 250_000])
@pytest.mark.parametrize("part", ["target", "header"])
@pytest.mark.parametrize("before", [b"", request(b"/a")], ids=["first", "pipelined"])
async def test_whole_head_over_the_limit_in_one_read_gets_431_and_does_not_run(
    before: bytes, part: str, size: int
) -> None:
    app = GatedApp("/a", "/b")
    large = b"x" * size
    head = request(b"/b?" + large) if part == "target" else request(b"/b", b"X-Long: " + large)
    async with connected(app) as client:
        await client.send(before + head)
        received = await client.read_until_closed()
    assert b"HTTP/1.1 431 Request Header Fields Too Large\r\n" in received
    assert received.endswith(b"The request's line and headers are over 65536 bytes: send fewer or shorter ones.")
    assert "/b" not in app.started


async def test_head_over_the_limit_that_starts_in_the_read_of_another_request_gets_431() -> None:
    app = GatedApp("/a", "/b")
    head = request(b"/b", b"X-Long: " + b"x" * 80_000)
    async with connected(app) as client:
        await client.send(request(b"/a") + head[:40_000])
        assert (await client.read_response()).status == 200
        await client.send(head[40_000:])
        assert (await client.read_until_closed()).startswith(b"HTTP/1.1 431 ")
    assert app.started == ["/a"]


async def test_head_at_the_limit_is_served_although_its_body_came_with_it() -> None:
    app = GatedApp("/")
    fields = len(b"POST / HTTP/1.1\r\nHost: x\r\nX-Long: \r\nContent-Length: 100000\r\n\r\n")
    long = b"X-Long: " + b"x" * (MAX_HEAD_BYTES - fields)
    async with connected(app) as client:
        await client.send(request(b"/", long, method=b"POST", body=b"y" * 100_000))
        assert (await client.read_response()).body == b"/ 100000"
        await client.send(request(b"/", long + b"x", method=b"POST", body=b"y" * 100_000))
        assert (await client.read_until_closed()).startswith(b"HTTP/1.1 431 ")


async def test_bodies_and_many_small_heads_do_not_count_towards_the_limit() -> None:
    app = GatedApp("/")
    head = [b"GET / HTTP/1.1\r\n", b"X-Long: " + b"x" * 40_000 + b"\r\n", b"\r\n"]
    chunk = b"%x\r\n%b\r\n" % (MAX_HEAD_BYTES, b"x" * MAX_HEAD_BYTES)
    async with connected(app) as client:
        for _ in range(3):
            await client.send(*head)
            assert (await client.read_response()).body == b"/ 0"
        await client.send(CHUNKED_POST, *[chunk] * 3, b"0\r\n\r\n")
        assert (await client.read_response()).body == b"/ 196608"


@BOTH_LOOPS
async def test_client_reads_the_response_although_its_body_was_refused() -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"2"), (b"connection", b"close")]
        await send_response(send, 413, headers, b"no", unread=receive)

    async with connected(refuse) as client:
        sending = asyncio.create_task(client.send(request(method=b"POST", body=b"x" * HUGE) + request()))
        response = await client.read_response()
        assert (response.status, response.body) == (413, b"no")
        await sending
        assert await client.read_until_closed() == b""


async def test_refused_client_that_does_not_stop_sending_is_cut_off() -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"2"), (b"connection", b"close")]
        await send_response(send, 413, headers, b"no", unread=receive, linger_seconds=0.01)

    async with connected(refuse) as client:
        await client.send(request(b"/", b"Content-Length: 9", method=b"POST"))
        assert (await client.read_response()).status == 413
        assert await client.read_until_closed() == b""


async def test_request_at_the_maximum_of_connections_gets_a_503_that_is_not_a_job_s_error() -> None:
    app = GatedApp()
    async with serving(app, max_connections=2) as running:
        first = await running.connect()
        await first.send(request(b"/slow"))
        await app.arrived("/slow").wait()
        second = await running.connect()
        await second.send(request())
        response = await second.read_response()
        assert (response.status, response.headers[b"connection"]) == (503, b"close")
        assert b"x-job-error" not in response.headers
        assert await second.read_until_closed() == b""
        app.gate("/slow").set()
        assert (await first.read_response()).status == 200


class Sweeps:
    """uvicorn's protocol on a real socket, with a sweeper whose clock the test moves."""

    def __init__(self) -> None:
        self._state = LimitedServerState(100)
        self._clock = ManualClock()
        self._sweeper = ConnectionSweeper(self._state, self._clock)

    @contextlib.asynccontextmanager
    async def connected(self, app: ASGIApp) -> AsyncIterator[RawClient]:
        config = Config(app, interface="asgi3", lifespan="off", log_config=None, timeout_keep_alive=75)
        config.load()
        server = await asyncio.get_running_loop().create_server(
            lambda: LimitedHttpToolsProtocol(config, self._state, {}), LOOPBACK, 0
        )
        client = RawClient(*await asyncio.open_connection(LOOPBACK, server.sockets[0].getsockname()[1]))
        while not self._state.connections:
            await turns(1)
        try:
            async with asyncio.timeout(15):
                yield client
        finally:
            client.writer.close()
            server.close()

    def sweep(self, after_seconds: float) -> None:
        self._clock.advance(after_seconds)
        self._sweeper.sweep()

    @property
    def unread(self) -> int:
        """Number of bytes that the server holds for its client."""
        return sum(each.transport.get_write_buffer_size() for each in self._state.connections)

    @property
    def is_closing(self) -> bool:
        (connection,) = self._state.connections
        return connection.transport.is_closing()


@BOTH_LOOPS
@pytest.mark.parametrize("received", [b"", b"GET / HTTP/1.1\r\nX-Slow", request(b"/", b"Content-Length: 9") + b"x"])
async def test_client_that_does_not_complete_its_first_request_is_disconnected(received: bytes) -> None:
    sweeps = Sweeps()
    app = GatedApp("/")
    async with sweeps.connected(app) as client:
        await client.send(received)
        sweeps.sweep(0)
        sweeps.sweep(59)
        assert not sweeps.is_closing
        await client.send(received[:1])  # sending slowly does not extend the time
        sweeps.sweep(1)
        assert await client.read_until_closed() == b""
        assert app.completed == []


async def test_client_that_does_not_complete_its_next_request_is_disconnected() -> None:
    sweeps = Sweeps()
    async with sweeps.connected(GatedApp("/")) as client:
        sweeps.sweep(0)
        for _ in range(3):
            sweeps.sweep(59)
            await client.send(request())
            assert (await client.read_response()).body == b"/ 0"
            await client.send(b"GET / HTTP/1.1\r\n")
            sweeps.sweep(59)
            assert not sweeps.is_closing
            await client.send(b"\r\n")
            assert (await client.read_response()).body == b"/ 0"
        await client.send(b"GET / HTTP/1.1\r\n")
        sweeps.sweep(0)
        sweeps.sweep(60)
        assert await client.read_until_closed() == b""


async def test_idle_connection_and_running_request_are_not_disconnected() -> None:
    sweeps = Sweeps()
    app = GatedApp()
    async with sweeps.connected(app) as client:
        await client.send(request(method=b"POST", body=b"{}"))
        await app.arrived("/").wait()
        for _ in range(3):
            sweeps.sweep(1000)
        app.gate("/").set()
        assert (await client.read_response()).body == b"/ 2"
        for _ in range(3):
            sweeps.sweep(1000)  # uvicorn's own timer closes idle connections
        await client.send(request())
        assert (await client.read_response()).body == b"/ 0"


async def test_client_is_not_disconnected_while_the_app_does_not_read_its_body() -> None:
    sweeps = Sweeps()
    gate = asyncio.Event()

    async def read_late(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await respond(send, b"%d" % len(await read_all(receive)))

    async with sweeps.connected(read_late) as client:
        sending = asyncio.create_task(client.send(request(method=b"POST", body=b"x" * HUGE)))
        await turns(50)
        assert not sending.done()
        for _ in range(3):
            sweeps.sweep(1000)
        gate.set()
        assert (await client.read_response()).body == b"%d" % HUGE
        await sending


@BOTH_LOOPS
@pytest.mark.parametrize("responds", [False, True], ids=["response in parts", "whole response"])
async def test_client_that_does_not_read_its_response_is_disconnected(*, responds: bool) -> None:
    sweeps = Sweeps()
    is_sent = asyncio.Event()

    async def send_much(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        is_sent.set()
        await send({"type": "http.response.body", "body": b"x" * HUGE, "more_body": not responds})
        await send({"type": "http.response.body", "body": b"x", "more_body": False})

    async with sweeps.connected(send_much) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # open_connection's transport reads too
        await client.send(request())
        await is_sent.wait()
        await turns(50)
        sweeps.sweep(0)
        sweeps.sweep(59)
        assert sweeps.unread > 0
        sweeps.sweep(1)
        await turns(10)
        assert sweeps.unread == 0


async def test_client_that_reads_slowly_is_not_disconnected() -> None:
    sweeps = Sweeps()

    async def send_much(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"x" * HUGE)

    async with sweeps.connected(send_much) as client:
        await client.send(request())
        assert await client.reader.read(1)
        for _ in range(5):
            unread = sweeps.unread
            while unread and sweeps.unread == unread:
                assert await client.reader.read(65_536)
            sweeps.sweep(59)
        assert not sweeps.is_closing


async def test_server_disconnects_slow_clients() -> None:
    a_minute_per_sweep = itertools.count(0, 60).__next__
    async with serving(GatedApp(), clock=a_minute_per_sweep) as running:
        client = await running.connect()
        await client.send(b"GET / HTTP/1.1\r\n")
        assert await client.read_until_closed() == b""


async def test_idle_connection_is_closed_after_its_timeout() -> None:
    async with serving(GatedApp("/")) as running:
        config = running.server._server.config  # noqa: SLF001  - 75 seconds are too long for a test
        assert config.timeout_keep_alive == KEEP_ALIVE_SECONDS
        config.timeout_keep_alive = 0
        client = await running.connect()
        await client.send(request())
        assert (await client.read_response()).status == 200
        assert await client.read_until_closed() == b""
