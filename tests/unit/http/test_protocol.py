"""Timeouts of a connection and its Date header, with a clock that the test moves."""

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from jobfn.http.protocol import LINGER_TIMEOUT_SECONDS, HttpProtocol
from support.clock import ManualClock
from support.http import request, respond

KEEP_ALIVE_SECONDS = 75


class FakeLoop:
    """The part of an event loop that the protocol uses, with the test's clock."""

    def __init__(self, clock: ManualClock) -> None:
        self.time = clock
        self.call_later = clock.call_later

    def create_task(self, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        return asyncio.get_running_loop().create_task(coroutine)


class FakeTransport(asyncio.Transport):
    """Transport that records what is written and how it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed: str | None = None

    def write(self, data: Any) -> None:
        self.written += data

    def write_eof(self) -> None:
        self.written += b"<EOF>"

    def is_closing(self) -> bool:
        return self.closed is not None

    def close(self) -> None:
        self.closed = "closed"

    def abort(self) -> None:
        self.closed = "aborted"


class FakeConnection:
    """A protocol on fakes. The app waits for ``gate``."""

    def __init__(self) -> None:
        self.clock, self.transport, self.state, self.gate = (
            ManualClock(),
            FakeTransport(),
            ServerState(),
            asyncio.Event(),
        )
        config = Config(self._app, interface="asgi3", timeout_keep_alive=KEEP_ALIVE_SECONDS, log_config=None)
        config.load()
        self.protocol = HttpProtocol(config, self.state, {}, cast("asyncio.AbstractEventLoop", FakeLoop(self.clock)))
        self.protocol.connection_made(self.transport)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.gate.wait()
        await respond(send, b"done")

    async def serve(self, data: bytes) -> bytes:
        """Receive a request and finish its response; returns it."""
        self.transport.written = b""
        self.protocol.data_received(data)
        self.gate.set()
        await asyncio.gather(*self.state.tasks)
        self.gate.clear()
        return self.transport.written


@pytest.mark.parametrize("received", [b"", b"GET / HTTP/1.1\r\nX-Slow"])
def test_connection_without_a_complete_request_is_closed_after_the_timeout(received: bytes) -> None:
    connection = FakeConnection()
    connection.clock.advance(KEEP_ALIVE_SECONDS - 1)
    if received:
        connection.protocol.data_received(received)
    assert connection.transport.closed is None
    connection.clock.advance(1)
    assert connection.transport.closed == "closed"


async def test_each_response_restarts_the_idle_timeout() -> None:
    connection = FakeConnection()
    for _ in range(3):
        connection.clock.advance(50)
        assert (await connection.serve(request())).endswith(b"done")
    connection.clock.advance(KEEP_ALIVE_SECONDS - 1)
    assert connection.transport.closed is None
    connection.clock.advance(1)
    assert connection.transport.closed == "closed"


async def test_connection_with_a_request_in_flight_is_not_closed() -> None:
    connection = FakeConnection()
    connection.protocol.data_received(request())
    connection.clock.advance(10 * KEEP_ALIVE_SECONDS)
    assert connection.transport.closed is None
    assert (await connection.serve(b"")).endswith(b"done")
    connection.clock.advance(2 * KEEP_ALIVE_SECONDS)
    assert connection.transport.closed == "closed"


async def test_response_before_the_end_of_a_last_request_lingers_then_aborts() -> None:
    connection = FakeConnection()
    response = await connection.serve(request(b"/", b"Connection: close", b"Content-Length: 9", method=b"POST"))
    assert response.endswith(b"done<EOF>")
    connection.protocol.data_received(b"x")
    connection.clock.advance(LINGER_TIMEOUT_SECONDS - 1)
    assert connection.transport.closed is None
    connection.clock.advance(1)
    assert connection.transport.closed == "aborted"


async def test_lingering_connection_is_closed_at_the_end_of_the_body_and_ignores_later_requests() -> None:
    connection = FakeConnection()
    await connection.serve(request(b"/", b"Connection: close", b"Content-Length: 9", method=b"POST"))
    connection.protocol.data_received(b"x" * 9 + request())
    assert connection.transport.closed == "closed"
    assert connection.state.total_requests == 1
    assert not connection.state.tasks


async def test_timer_of_a_lost_connection_does_nothing() -> None:
    connection = FakeConnection()
    connection.protocol.connection_lost(None)
    connection.clock.advance(2 * KEEP_ALIVE_SECONDS)
    assert connection.transport.closed is None


async def test_date_header_follows_uvicorn_s_state() -> None:
    connection = FakeConnection()
    connection.state.default_headers = [(b"date", b"one")]
    assert b"\r\ndate: one\r\n" in await connection.serve(request())
    connection.state.default_headers = [(b"date", b"two")]
    assert b"\r\ndate: two\r\n" in await connection.serve(request())
