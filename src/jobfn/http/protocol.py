"""One HTTP/1.1 connection in: its requests are handed to the ASGI app one after the other, and answered in their order.

What both sides serve goes through here, so a request costs little beside what the app does with it. Here is what a
server must know of a connection: when the next request's turn is, when to stop reading, when to close.
``http_requests.py`` reads the requests, ``http_exchange.py`` is one with its answer; ``hosting.py`` gives this protocol
to uvicorn, whose server keeps the rest: listening, the app's lifespan, stopping.
"""

import asyncio
from collections import deque
from typing import Any, Final, cast

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from jobfn.http.request_cycle import RequestCycle
from jobfn.http.request_parser import RequestParser

#: How long a client that was answered before its request was whole may go on sending: see ``ServerConnection``.
LINGER_SECONDS: Final = 5.0
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
        self._transport: asyncio.Transport | None = None
        self._default_headers: object = None
        self._default_lines = b""
        self._reading = True
        self.writable: asyncio.Event | None = None
        # The requests of which the head is there: whose turn it is, and those that wait for their turn.
        self._answering: RequestCycle | None = None
        self._waiting: deque[RequestCycle] = deque()
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

    def answered(self, exchange: RequestCycle) -> None:
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
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "server": _address(transport.get_extra_info("sockname")),
            "client": _address(transport.get_extra_info("peername")),
            "scheme": "http",
            "root_path": "",
        }
        self._requests = RequestParser(self, self._take, scope, self._app_state)
        connections: set[Any] = self._server_state.connections  # uvicorn asks them for nothing but shutdown()
        connections.add(self)
        self._watch(self._keep_alive_seconds)

    def data_received(self, data: bytes) -> None:
        """Some of a request, or several."""
        requests = self._requests
        if self._is_last and requests.arriving is None:
            return  # what follows the last request is nobody's
        complaint = requests.feed(data)
        if complaint is not None:
            self._refuse(complaint)
        if self._answering is None:
            self._go_on()
        arriving = requests.arriving
        if self._waiting or (arriving is not None and arriving.unread_bytes > MAX_UNREAD_BYTES):
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
        if self._answering is not None:
            self._answering.disconnect()
        self._requests.close()
        self.resume_writing()

    def _take(self, exchange: RequestCycle) -> bool:
        """A request's head is there. Returns whether it will be answered."""
        if self._is_last:
            return False
        self._is_last = not exchange.keep_alive
        self._waiting.append(exchange)
        return True

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
        if self._is_last and self._requests.arriving is None:
            return  # what follows the last request is nobody's
        self._is_last = True
        self._complaint = complaint
        cut = self._requests.cut()
        if cut is None:
            return
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
        if self._requests.arriving is None and self._complaint is None:
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
