"""HTTP/1.1 protocol of the embedded server: one instance per connection. uvicorn's server creates them.

A connection serves its requests one after the other and in order. This module decides which request is served next,
when reading pauses and when the connection closes. ``request_parser.py`` parses requests, ``request_cycle.py`` runs
one of them; uvicorn does the rest: listening, the app's lifespan, shutdown.
"""

import asyncio
from collections import deque
from typing import Any, Final, cast

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from jobfn.http.request_cycle import RequestCycle
from jobfn.http.request_parser import RequestParser

#: Timeout of a lingering close: see ``HttpProtocol``.
LINGER_TIMEOUT_SECONDS: Final = 5.0
#: Maximum size of a request body that the app has not read; beyond it, reading pauses.
MAX_UNREAD_BYTES: Final = 64 * 1024
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}


class HttpProtocol(asyncio.Protocol):
    """One connection of the embedded server.

    Closing lingers if the response was sent before the request was complete, for example a 413. A close at that moment
    would send a reset, and many clients then discard the response that tells them why. The server shuts down its own
    half of the connection instead, and discards what it still receives, for at most ``LINGER_TIMEOUT_SECONDS``.

    Args:
        config: uvicorn's configuration: the app and the keep-alive timeout.
        server_state: uvicorn's state: open connections, running tasks, default headers.
        app_state: State that the app's lifespan yielded.

    Attributes:
        writable: Event that ends a write pause, or None while writing is not paused.
    """

    _parser: RequestParser

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._app: ASGIApp = config.loaded_app
        self._keep_alive_seconds: float = config.timeout_keep_alive
        self._server_state = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._default_headers: object = None
        self._default_header_lines = b""
        self._is_reading = True
        self.writable: asyncio.Event | None = None
        self._cycle: RequestCycle | None = None  # the request that is being served
        self._pipelined: deque[RequestCycle] = deque()  # requests that wait behind it
        self._closing = False  # no further request is accepted
        self._error_response: bytes | None = None  # sent after the pipelined requests are served
        self._lingering = False
        self._idle_since = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    # Called by uvicorn's server and by the cycles.

    def shutdown(self) -> None:
        """Close the connection now, or after the current response."""
        self._closing = True
        self._pipelined.clear()
        if self._cycle is not None:
            self._cycle.keep_alive = False
        elif self._transport is not None:
            self._transport.close()

    @property
    def default_header_lines(self) -> bytes:
        """Last lines of every response head: the date."""
        headers = self._server_state.default_headers
        if headers is not self._default_headers:  # uvicorn replaces the list once a second
            self._default_headers = headers
            self._default_header_lines = b"".join(b"%b: %b\r\n" % header for header in headers) + b"\r\n"
        return self._default_header_lines

    def write(self, data: bytes) -> None:
        """Write to the client; does nothing after a disconnect."""
        transport = self._transport
        if transport is not None and not self._lingering and not transport.is_closing():
            transport.write(data)

    async def drain(self) -> None:
        """Wait until the client has read enough of what was written."""
        while self.writable is not None:
            await self.writable.wait()

    def resume_reading(self) -> None:
        """Continue to read, unless pipelined requests wait."""
        if not self._is_reading and not self._pipelined and self._transport is not None:
            self._is_reading = True
            self._transport.resume_reading()

    def on_response_complete(self, cycle: RequestCycle) -> None:
        """Serve the next request, or close."""
        self._server_state.total_requests += 1
        self._idle_since = self._loop.time()
        self._cycle = None
        if not cycle.keep_alive:
            self._closing = True
            self._pipelined.clear()
        if self._closing or self._pipelined or not self._is_reading:
            self._process_next()

    def on_task_done(self, task: "asyncio.Task[None] | None") -> None:
        """Forget the task of a cycle."""
        tasks: set[Any] = self._server_state.tasks
        tasks.discard(task)

    def abort(self) -> None:
        """Close the connection without sending pending data."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection."""
        self._transport = cast("asyncio.Transport", transport)
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "server": _address(transport.get_extra_info("sockname")),
            "client": _address(transport.get_extra_info("peername")),
            "scheme": "http",
            "root_path": "",
        }
        self._parser = RequestParser(self, self._on_request, scope, self._app_state)
        connections: set[Any] = self._server_state.connections  # uvicorn only calls shutdown() on them
        connections.add(self)
        self._schedule_timeout(self._keep_alive_seconds)

    def data_received(self, data: bytes) -> None:
        """Parse requests and serve the first one."""
        parser = self._parser
        if self._closing and parser.current is None:
            return  # data after the last request is ignored
        error_response = parser.feed(data)
        if error_response is not None:
            self._reject(error_response)
        if self._cycle is None:
            self._process_next()
        current = parser.current
        if self._pipelined or (current is not None and current.unread_bytes > MAX_UNREAD_BYTES):
            self._pause_reading()

    def pause_writing(self) -> None:
        """Pause: the client reads too slowly."""
        self.writable = asyncio.Event()

    def resume_writing(self) -> None:
        """End the pause."""
        writable, self.writable = self.writable, None
        if writable is not None:
            writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Disconnect the current request."""
        del exc  # the cause does not matter
        connections: set[Any] = self._server_state.connections
        connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None
        self._closing = True
        self._pipelined.clear()
        if self._cycle is not None:
            self._cycle.disconnect()
        self._parser.close()
        self.resume_writing()

    def _on_request(self, cycle: RequestCycle) -> bool:
        """Queue a request. Returns False if it comes after the last one that is served."""
        if self._closing:
            return False
        self._closing = not cycle.keep_alive
        self._pipelined.append(cycle)
        return True

    def _process_next(self) -> None:
        """Serve the next request, send the error response, close, or read on."""
        if self._pipelined:
            cycle = self._cycle = self._pipelined.popleft()
            self._server_state.tasks.add(self._loop.create_task(cycle.run(self._app)))
        elif self._error_response is not None:
            self.write(self._error_response)
            self._close()
        elif self._closing:
            self._close()
        else:
            self.resume_reading()

    def _reject(self, error_response: bytes) -> None:
        """Stop parsing, and send the error response after the responses to earlier requests."""
        if self._closing and self._parser.current is None:
            return  # data after the last request is ignored
        self._closing = True
        self._error_response = error_response
        incomplete = self._parser.abort()
        if incomplete is None:
            return
        if incomplete is self._cycle:
            self._cycle = None
            if incomplete.response_started:
                self.abort()
        elif self._pipelined and self._pipelined[-1] is incomplete:
            self._pipelined.pop()

    def _pause_reading(self) -> None:
        if self._is_reading and self._transport is not None:
            self._is_reading = False
            self._transport.pause_reading()

    def _close(self) -> None:
        """Close, lingering if the client may still be sending."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._parser.current is None and self._error_response is None:
            self._transport.close()
        elif not self._lingering:
            self._lingering = True
            self._transport.write_eof()
            self.resume_reading()
            self._schedule_timeout(LINGER_TIMEOUT_SECONDS)

    def _schedule_timeout(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._check_idle)

    def _check_idle(self) -> None:
        """Close an idle connection. One timer per connection is cheaper than one per request."""
        if self._transport is None:
            return
        if self._lingering:
            self._transport.abort()
            return
        remaining = self._keep_alive_seconds
        if self._cycle is None:
            remaining += self._idle_since - self._loop.time()
        if remaining > 0:
            self._schedule_timeout(remaining)
        else:
            self._transport.close()


def _address(info: object) -> tuple[str, int] | None:
    """Return an address as ASGI expects it, None for a client that is already gone or a Unix socket."""
    return (info[0], info[1]) if isinstance(info, tuple) else None
