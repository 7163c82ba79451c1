"""One HTTP/1.1 connection in: requests are parsed, handed to the ASGI app one after the other, answered in their order.

What both sides serve goes through here, so a request costs little beside what the app does with it. httptools parses;
here is what a server must know beside that: when the next request's turn is, when to stop reading, when a connection
ends. ``http_exchange.py`` is one request and its answer; ``hosting.py`` gives this protocol to uvicorn, whose server
keeps the rest: listening, the app's lifespan, stopping.
"""

import asyncio
from collections import deque
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools
from starlette.types import ASGIApp, Scope
from uvicorn.config import Config
from uvicorn.server import ServerState

from jobfn.http_exchange import NO_REQUEST, TOO_LONG_A_HEAD, Exchange

#: How long a client that was answered before its request was whole may go on sending: see ``ServerConnection``.
LINGER_SECONDS: Final = 5.0
#: A request's line and headers are at most about so long; a packet's rest may come on top.
MAX_HEAD_BYTES: Final = 64 * 1024
#: Of a body so much is kept for an app that does not read it yet; then reading stops.
MAX_UNREAD_BYTES: Final = 64 * 1024
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}


class ServerConnection(asyncio.Protocol):
    """See the module.

    A client that is answered while it still sends its body, such as one that is too large, would be sent a reset if
    the connection were closed at that moment, and many clients then drop the very answer that says why. So its
    connection lingers: the server ends its own half, takes what still comes and throws it away, for a bounded time.

    Args:
        config: uvicorn's: the app, and for how long an idle connection is kept.
        server_state: uvicorn's: open connections, running tasks, the headers of every answer.
        app_state: What the app's lifespan has yielded.

    Attributes:
        writable: Set when the client has read enough of what was written; None: it has.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._config = config
        self._app: ASGIApp = config.loaded_app
        self._keep_alive_seconds = config.timeout_keep_alive
        self._server_state = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._scope: dict[str, Any] = {}  # what is the same for all requests of this connection
        self._default_headers: object = None
        self._default_lines = b""
        self._reading = True
        self.writable: asyncio.Event | None = None
        # The request whose head arrives.
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        # Those that follow it: whose body arrives, whose turn it is, and those that wait for their turn.
        self._arriving: Exchange | None = None
        self._answering: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._is_last = False  # no further request is taken
        self._complaint: bytes | None = None  # what to answer to what was no request, when it is its turn
        self._lingering = False
        self._idle_since = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    # What uvicorn's server and the exchanges call.

    def shutdown(self) -> None:
        """The server stops: end now, or with the answer that is under way."""
        self._is_last = True
        self._waiting.clear()
        if self._answering is not None:
            self._answering.keep_alive = False
        elif self._transport is not None:
            self._transport.close()

    @property
    def default_lines(self) -> bytes:
        """The end of every answer's head: the date."""
        headers = self._server_state.default_headers
        if headers is not self._default_headers:  # made anew each second
            self._default_headers = headers
            self._default_lines = b"".join(b"%b: %b\r\n" % header for header in headers) + b"\r\n"
        return self._default_lines

    def write(self, data: bytes) -> None:
        """Send; to a client that is gone, nothing."""
        transport = self._transport
        if transport is not None and not self._lingering and not transport.is_closing():
            transport.write(data)

    async def drained(self) -> None:
        """Wait until the client has read enough of what was written."""
        while self.writable is not None:
            await self.writable.wait()

    def read_on(self) -> None:
        """All that came was taken: more may come."""
        if not self._reading and not self._waiting and self._transport is not None:
            self._reading = True
            self._transport.resume_reading()

    def answered(self, exchange: Exchange) -> None:
        """An exchange has ended."""
        self._server_state.total_requests += 1
        self._idle_since = self._loop.time()
        self._answering = None
        if not exchange.keep_alive:
            self._is_last = True
            self._waiting.clear()
        if self._is_last or self._waiting or not self._reading:
            self._go_on()

    def done(self, task: "asyncio.Task[None] | None") -> None:
        """The task of an exchange is at its end."""
        tasks: set[Any] = self._server_state.tasks
        tasks.discard(task)

    def abort(self) -> None:
        """End at once."""
        if self._transport is not None:
            self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast("asyncio.Transport", transport)
        self._scope = {
            "type": "http",
            "asgi": _ASGI,
            "server": _address(transport.get_extra_info("sockname")),
            "client": _address(transport.get_extra_info("peername")),
            "scheme": "http",
            "root_path": "",
        }
        connections: set[Any] = self._server_state.connections  # uvicorn asks them for nothing but shutdown()
        connections.add(self)
        self._watch(self._keep_alive_seconds)

    def data_received(self, data: bytes) -> None:
        """Some of a request, or several."""
        if self._is_last and self._arriving is None:
            return  # what follows the last request is nobody's
        headers = self._headers
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # to what is not spoken here: it is answered as any request, the last one
        except httptools.HttpParserError:
            self._refuse(NO_REQUEST)
        if self._head_bytes and self._headers is headers:  # one head, and this was more of it
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(TOO_LONG_A_HEAD)
        if self._answering is None:
            self._go_on()
        if self._waiting or (self._arriving is not None and self._arriving.unread_bytes > MAX_UNREAD_BYTES):
            self._stop_reading()

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self.writable = asyncio.Event()

    def resume_writing(self) -> None:
        """It has caught up."""
        writable, self.writable = self.writable, None
        if writable is not None:
            writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        del exc  # whose fault that was is nothing to us
        connections: set[Any] = self._server_state.connections
        connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None
        self._is_last = True
        self._waiting.clear()
        for exchange in (self._answering, self._arriving):
            if exchange is not None:
                exchange.disconnect()
        self._arriving = None
        self.resume_writing()
        del self._parser  # each holds the other

    # What the parser calls.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url = b""
        self._headers = []
        self._head_bytes = 1

    def on_url(self, url: bytes) -> None:
        """Some of its target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers; or one of its trailer, which nobody reads."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self._head_bytes = 0
        if self._is_last:
            return
        parser = self._parser
        version = parser.get_http_version()
        keep_alive = version == "1.1" and parser.should_keep_alive() and not parser.should_upgrade()
        scope: Scope = self._scope.copy()
        scope["http_version"] = version
        scope["method"] = parser.get_method().decode("ascii")
        scope["headers"] = self._headers
        scope["state"] = self._app_state.copy()
        try:
            _set_target(scope, self._url)
        except (UnicodeDecodeError, httptools.HttpParserInvalidURLError):
            self._refuse(NO_REQUEST)
            return
        self._is_last = not keep_alive
        self._arriving = Exchange(self, scope, keep_alive=keep_alive)
        self._waiting.append(self._arriving)

    def on_chunk_header(self) -> None:
        """A chunk of its body begins; or its trailer, of which no more is taken than of a head."""
        self._headers = []
        self._head_bytes = 1

    def on_body(self, body: bytes) -> None:
        """Some of its body."""
        self._head_bytes = 0
        if self._arriving is not None:
            self._arriving.take(body)

    def on_message_complete(self) -> None:
        """It is whole."""
        arriving, self._arriving = self._arriving, None
        if arriving is not None:
            arriving.complete()

    def _go_on(self) -> None:
        """Nothing is being answered: see what is next."""
        if self._waiting:
            exchange = self._answering = self._waiting.popleft()
            self._server_state.tasks.add(self._loop.create_task(exchange.run(self._app)))
        elif self._complaint is not None:
            self.write(self._complaint)
            self._end()
        elif self._is_last:
            self._end()
        else:
            self.read_on()

    def _refuse(self, complaint: bytes) -> None:
        """What came is no request that can be served: say so when those before it are answered, and read no more."""
        if self._complaint is not None or (self._is_last and self._arriving is None):
            return  # what follows the last request is nobody's
        self._is_last = True
        self._head_bytes = 0
        self._complaint = complaint
        cut, self._arriving = self._arriving, None
        if cut is None:
            return
        cut.disconnect()
        if cut is self._answering:  # it will answer nobody any more
            self._answering = None
            if cut.has_begun:
                self.abort()
        elif self._waiting and self._waiting[-1] is cut:
            self._waiting.pop()

    def _stop_reading(self) -> None:
        if self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def _end(self) -> None:
        """Close; or, on a client that was answered while it still sends, or may do so, linger."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._arriving is None and self._complaint is None:
            self._transport.close()
        elif not self._lingering:
            self._lingering = True
            self._transport.write_eof()
            self.read_on()
            self._watch(LINGER_SECONDS)

    def _watch(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """Whether it has been idle for too long: one timer a connection, and not one a request."""
        if self._transport is None:
            return
        if self._lingering:
            self._transport.abort()
            return
        busy = self._answering is not None
        left = self._keep_alive_seconds if busy else self._idle_since + self._keep_alive_seconds - self._loop.time()
        if left > 0:
            self._watch(left)
        else:
            self._transport.close()


def _address(known: object) -> tuple[str, int] | None:
    """As ASGI has it; None of a client that was gone at once."""
    return (known[0], known[1]) if isinstance(known, tuple) else None


def _set_target(scope: Scope, url: bytes) -> None:
    """What a request asks for.

    Raises:
        UnicodeDecodeError, httptools.HttpParserInvalidURLError: That is no URL.
    """
    if url.startswith(b"/") and b"#" not in url:
        raw_path, _, query = url.partition(b"?")
    else:
        parsed = httptools.parse_url(url)
        raw_path, query = parsed.path or b"/", parsed.query or b""
    path = raw_path.decode("ascii")
    scope["path"] = unquote(path) if "%" in path else path
    scope["raw_path"] = raw_path
    scope["query_string"] = query
