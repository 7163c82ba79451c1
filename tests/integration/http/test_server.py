"""Life cycle of the embedded server."""

import asyncio
import os
import signal
import socket

import httpx
import pytest
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from jobfn import ConfigurationError
from jobfn.http.server import HttpServer, bind, stop_signals
from support.network import LOOPBACK


class GatedApp:
    """App that responds when its gate is open. It does not support lifespan events."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.arrived, self.gate = asyncio.Event(), asyncio.Event()
        if is_open:
            self.gate.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        self.arrived.set()
        await self.gate.wait()
        await JSONResponse("done")(scope, receive, send)


def make_server(app: ASGIApp, *, shutdown_timeout_seconds: float = 5) -> HttpServer:
    return HttpServer(app, bind(LOOPBACK, 0), shutdown_timeout_seconds=shutdown_timeout_seconds)


async def test_stop_accepts_nothing_new_and_finishes_requests_in_flight(http: httpx.AsyncClient) -> None:
    app = GatedApp()
    listener = bind(LOOPBACK, 0)
    server = HttpServer(app, listener, shutdown_timeout_seconds=5)
    await server.start()
    port = server.port
    requesting = asyncio.create_task(http.get(f"http://{LOOPBACK}:{port}"))
    await app.arrived.wait()
    stopping = asyncio.create_task(server.stop())
    while listener.fileno() != -1:  # noqa: ASYNC110  - a socket has no event for its end
        await asyncio.sleep(0.005)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(LOOPBACK, port)
    assert not stopping.done()
    app.gate.set()
    response = await requesting
    assert (response.json(), response.headers["connection"]) == ("done", "close")
    await stopping


async def test_stop_cancels_requests_after_the_shutdown_timeout(http: httpx.AsyncClient) -> None:
    app = GatedApp()
    server = make_server(app, shutdown_timeout_seconds=0.1)
    await server.start()
    requesting = asyncio.create_task(http.get(f"http://{LOOPBACK}:{server.port}"))
    await app.arrived.wait()
    async with asyncio.timeout(5):
        await server.stop()
    assert (await requesting).status_code == 500


async def test_stop_without_start_frees_the_port() -> None:
    server = make_server(GatedApp())
    port = server.port
    await server.stop()
    bind(LOOPBACK, port).close()


async def test_server_installs_no_signal_handlers_and_stop_signals_restores_them() -> None:
    previous = signal.getsignal(signal.SIGTERM)
    server = make_server(GatedApp())
    await server.start()
    assert signal.getsignal(signal.SIGTERM) is previous
    await server.stop()
    with stop_signals() as stop:
        for number in (signal.SIGTERM, signal.SIGINT):
            stop.clear()
            os.kill(os.getpid(), number)
            async with asyncio.timeout(5):
                await stop.wait()
    assert signal.getsignal(signal.SIGTERM) is previous


def test_bind_to_a_port_in_use_is_an_error() -> None:
    with bind(LOOPBACK, 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigurationError) as caught:
            bind(LOOPBACK, port, option="PORT")
    assert str(caught.value) == (
        f"cannot listen on {LOOPBACK}:{port}: Address already in use. "
        "Stop the process that uses it, or choose another port with PORT"
    )


@pytest.mark.parametrize(
    ("host", "port"), [("203.0.113.1", 0), ("no.such.host.invalid", 0), (LOOPBACK, 70000), ("a..b", 0)]
)
def test_bind_to_an_invalid_address_is_an_error(host: str, port: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"^cannot listen on {host}:{port}: ."):
        bind(host, port)


def test_bind_accepts_an_ipv6_address() -> None:
    with bind("::1", 0) as listener:
        assert listener.family is socket.AF_INET6
