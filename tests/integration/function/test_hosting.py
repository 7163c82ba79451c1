"""Servers inside a loop of ours: they bind first, stop when told, and leave the process alone."""

import asyncio
import os
import signal
import socket
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from jobfn import ConfigurationError
from jobfn.http.protocol import LINGER_TIMEOUT_SECONDS
from jobfn.http.server import HttpServer, bind, stop_signals
from support.function_app import exchange
from support.network import LOOPBACK


class Gate:
    """An app that answers when it is let."""

    def __init__(self) -> None:
        self.arrived, self.opened = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            raise NotImplementedError  # as apps do that know no lifespan
        self.arrived.set()
        await self.opened.wait()
        await JSONResponse("done")(scope, receive, send)


def served(app: Any, *, shutdown_timeout_seconds: float = 5) -> HttpServer:
    """A server on a free port."""
    return HttpServer(app, bind(LOOPBACK, 0), shutdown_timeout_seconds=shutdown_timeout_seconds)


async def test_a_stop_waits_for_what_runs(http: httpx.AsyncClient) -> None:
    """Nothing new is accepted, what runs is answered; an app without a lifespan is served all the same."""
    gate = Gate()
    listener = bind(LOOPBACK, 0)
    server = HttpServer(gate, listener, shutdown_timeout_seconds=5)
    await server.start()
    port = server.port
    running = asyncio.create_task(http.get(f"http://{LOOPBACK}:{port}"))
    await gate.arrived.wait()
    stopping = asyncio.create_task(server.stop())
    while listener.fileno() != -1:  # noqa: ASYNC110  - a socket has no event for its end
        await asyncio.sleep(0.005)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(LOOPBACK, port)
    assert not stopping.done()
    gate.opened.set()
    response = await running
    assert (response.json(), response.headers["connection"]) == ("done", "close")
    await stopping


async def test_a_stop_waits_only_so_long(http: httpx.AsyncClient) -> None:
    """After shutdown_timeout_seconds what runs is cancelled."""
    gate = Gate()
    server = served(gate, shutdown_timeout_seconds=0.1)
    await server.start()
    running = asyncio.create_task(http.get(f"http://{LOOPBACK}:{server.port}"))
    await gate.arrived.wait()
    async with asyncio.timeout(5):
        await server.stop()
    assert (await running).status_code == 500


async def test_a_stop_closes_idle_connections() -> None:
    """A client that keeps its connection keeps nobody waiting."""
    gate = Gate()
    gate.opened.set()
    server = served(gate)
    await server.start()
    reader, writer = await asyncio.open_connection(LOOPBACK, server.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200 OK" in await reader.readuntil(b'"done"')
    async with asyncio.timeout(5):
        await server.stop()
    assert await reader.read() == b""
    writer.close()


async def test_a_server_that_never_started_is_stopped() -> None:
    """Its port is free again."""
    server = served(Gate())
    port = server.port
    await server.stop()
    bind(LOOPBACK, port).close()


async def test_the_date_is_told(http: httpx.AsyncClient) -> None:
    """Every response has one; who serves it is nobody's business."""
    gate = Gate()
    gate.opened.set()
    server = served(gate)
    await server.start()
    await asyncio.sleep(0)
    response = await http.get(f"http://{LOOPBACK}:{server.port}")
    assert "date" in response.headers
    assert "server" not in response.headers
    await asyncio.sleep(1.1)  # the clock itself is what is looked at
    later = await http.get(f"http://{LOOPBACK}:{server.port}")
    assert later.headers["date"] != response.headers["date"]
    await server.stop()


async def test_signals_are_left_alone() -> None:
    """Serving installs no handler; stop_signals does, and takes it back."""
    before = signal.getsignal(signal.SIGTERM)
    server = served(Gate())
    await server.start()
    assert signal.getsignal(signal.SIGTERM) is before
    await server.stop()
    with stop_signals() as stop:
        for number in (signal.SIGTERM, signal.SIGINT):
            stop.clear()
            os.kill(os.getpid(), number)
            async with asyncio.timeout(5):
                await stop.wait()
    assert signal.getsignal(signal.SIGTERM) is before


async def test_a_port_that_is_taken() -> None:
    """One clear error, before anything was started."""
    with bind(LOOPBACK, 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError) as caught:
            bind(LOOPBACK, port)
    assert str(caught.value) == (
        f"cannot listen on {LOOPBACK}:{port}: Address already in use. Stop the process that uses it, or choose another port"
    )


@pytest.mark.parametrize(
    ("host", "port"), [("203.0.113.1", 0), ("no.such.host.invalid", 0), (LOOPBACK, 70000), (LOOPBACK, -1), ("a..b", 0)]
)
def test_an_address_that_is_not_ours(host: str, port: int) -> None:
    """A foreign address, an unknown host, a port that is none."""
    with pytest.raises(ConfigurationError, match=rf"^cannot listen on {host}:{port}: ."):
        bind(host, port)


def test_an_ipv6_address() -> None:
    """Told by its colons."""
    with bind("::1", 0) as listener:
        assert listener.family is socket.AF_INET6


async def refuse(request: Request) -> Response:
    """Answer without looking at the body."""
    return JSONResponse("no", 413, headers={"Connection": "close"})


async def test_a_client_that_still_sends_reads_why_it_was_refused() -> None:
    """The answer is not lost to a reset; what the client sends is thrown away until it ends; then the end."""
    server = served(Starlette(routes=[Route("/", refuse, methods=["POST"])]))
    await server.start()
    url = f"http://{LOOPBACK}:{server.port}"
    size = 30_000_000
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
    answer = await exchange(url, head + b"x" * size + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b'"no"')
    assert answer.count(b"HTTP/1.1") == 1
    await server.stop()


async def test_a_client_that_never_stops_sending_is_cut_off() -> None:
    """It has its answer at once, and a bounded time to end; stopping the server does not wait for it."""
    server = served(Starlette(routes=[Route("/", refuse, methods=["POST"])]))
    await server.start()
    reader, writer = await asyncio.open_connection(LOOPBACK, server.port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx")
    async with asyncio.timeout(
        2
    ):  # sooner than LINGER_TIMEOUT_SECONDS: the server has nothing more to say, and ends its half
        assert (await reader.read()).endswith(b'"no"')
    writer.write(b"x" * 1000)
    await writer.drain()
    async with asyncio.timeout(4):  # sooner than LINGER_TIMEOUT_SECONDS
        await server.stop()
    writer.close()


async def test_a_refused_client_that_goes_silent_is_forgotten() -> None:
    """After LINGER_TIMEOUT_SECONDS the connection is cut."""
    server = served(Starlette(routes=[Route("/", refuse, methods=["POST"])]))
    await server.start()
    reader, writer = await asyncio.open_connection(LOOPBACK, server.port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx")
    assert (await reader.read()).endswith(b'"no"')

    async def send_until_cut() -> None:
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.1)

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(send_until_cut(), LINGER_TIMEOUT_SECONDS + 2)
    writer.close()
    await server.stop()


async def test_what_a_refused_client_sends_next_is_not_served() -> None:
    """Its body comes after all, and another request behind it: the connection is closed at the body's end."""
    served_requests: list[str] = []

    async def note(request: Request) -> Response:
        served_requests.append(request.method)
        return await refuse(request)

    server = served(Starlette(routes=[Route("/", note, methods=["POST"])]))
    await server.start()
    reader, writer = await asyncio.open_connection(LOOPBACK, server.port)
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
    writer.write(request)
    assert (await reader.read()).endswith(b'"no"')
    writer.write(b"x" * 10 + request + b"x" * 10)

    async def send_until_cut() -> None:
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(send_until_cut(), LINGER_TIMEOUT_SECONDS - 2)
    assert served_requests == ["POST"]
    writer.close()
    await server.stop()


async def test_an_answer_before_a_body_that_is_no_end_keeps_the_connection() -> None:
    """Answered early without Connection: close, the rest is passed over and the next request is served."""

    async def early(request: Request) -> Response:
        return JSONResponse(request.url.path)

    server = served(Starlette(routes=[Route("/{path}", early, methods=["POST"])]))
    await server.start()
    reader, writer = await asyncio.open_connection(LOOPBACK, server.port)
    for name in (b"a", b"b"):
        writer.write(b"POST /%b HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" % name)
        assert b"200 OK" in await reader.readuntil(b'"/%b"' % name)
        writer.write(b"x" * 200_000)
        await writer.drain()
    writer.close()
    await server.stop()
