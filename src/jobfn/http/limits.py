"""Limits on clients that uvicorn does not set: the size of a request's head, and the time to send a request.

A connection costs at most ``MAX_HEAD_BYTES`` for a head and uvicorn's 64 KiB for a body that the app has not read.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Final, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from jobfn.http.connections import LimitedServerState, waits_for_client

#: Maximum size of the request line and headers. The rest of the read that exceeds it is buffered too.
MAX_HEAD_BYTES: Final = 64 * 1024
#: Timeout of a client that is sending a request: for its head, and again for its body.
REQUEST_TIMEOUT_SECONDS: Final = 60.0

_HEAD_TOO_LARGE: Final = f"The request's line and headers are over {MAX_HEAD_BYTES} bytes: send fewer or shorter ones."
_BODY_HEADERS: Final = frozenset({b"content-length", b"transfer-encoding"})
_UPGRADE_HEADERS: Final = frozenset({b"connection", b"upgrade", b"http2-settings"})


class LimitedHttpToolsProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a limit on the size of a head, without upgrades and without trailers.

    httptools does not parse the body of a request that asks for an upgrade: the app would see an empty body, and the
    body's bytes could be taken for another request. Such a request is parsed again without the headers that ask for it:
    proxies add them, and RFC 9110 lets a server ignore them. uvicorn adds a trailer to the request's headers, also to
    those that a proxy has removed.
    """

    _bytes_in_head = 0  # or in a trailer, or in the line before a chunk
    _bytes_in_read = 0
    #: Size of the read that ended the previous head, and may contain the start of this one.
    _bytes_before_head = 0
    _is_head_refused = False
    #: Head of a request with a body, without the upgrade that it asked for, and where its body begins in the read.
    _head_to_parse_again = b""
    _body_offset = 0
    _is_last_request = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Open the connection, if the limits allow it."""
        super().connection_made(transport)
        cast("LimitedServerState", self.server_state).add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        cast("LimitedServerState", self.server_state).remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes; respond with 431 and close if a head is too large."""
        self._bytes_in_read = size = len(data)
        self._bytes_in_head += size
        super().data_received(data)
        if self._head_to_parse_again and not self.transport.is_closing():
            head, self._head_to_parse_again = self._head_to_parse_again, b""
            self.parser = httptools.HttpRequestParser(self)
            self._bytes_in_head = self._bytes_before_head = 0
            self.data_received(head + data[self._body_offset :])
            return
        if self._bytes_in_head > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._is_head_refused = True
            self.send_400_response(_HEAD_TOO_LARGE)

    def send_400_response(self, msg: str) -> None:
        """Respond with 400, or with 431 if a head is too large, and close."""
        if not self._is_head_refused:
            super().send_400_response(msg)
            return
        body = _HEAD_TOO_LARGE.encode("ascii")
        headers = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n" % len(body)
        self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[431], headers, body))
        self.transport.close()

    def on_headers_complete(self) -> None:
        """Start the request; an upgrade is ignored, and the request is the last one of its connection.

        Raises:
            ValueError: The head is too large; ``data_received`` responds with 431.
        """
        if self._bytes_before_head + self._bytes_in_head > MAX_HEAD_BYTES and self._is_head_too_large():
            self._is_head_refused = True
            raise ValueError(_HEAD_TOO_LARGE)
        self._bytes_in_head = 0
        self._bytes_before_head = self._bytes_in_read
        is_upgrade = self.parser.should_upgrade()
        is_connect = self.parser.get_method() == b"CONNECT"  # asks for an upgrade by its method
        if is_upgrade and not is_connect and any(name in _BODY_HEADERS for name, _ in self.headers):
            self._head_to_parse_again = self._head_without_upgrade()
            self._is_last_request = True
            return
        super().on_headers_complete()
        self.headers = []  # a trailer does not reach the scope's list
        if is_upgrade or self._is_last_request:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """End the body, unless the request is parsed again."""
        if not self._head_to_parse_again:
            super().on_message_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """Note where the body begins; called while httptools' exception, which says it, is handled."""
        error = sys.exception()
        if self._head_to_parse_again and error is not None:
            self._body_offset = error.args[0]

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode("ascii")
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] not in _UPGRADE_HEADERS]
        return b"\r\n".join([*lines, b"", b""])

    def on_body(self, body: bytes) -> None:
        """Pass on a part of the body."""
        self._bytes_in_head = 0
        super().on_body(body)

    def _is_head_too_large(self) -> bool:
        line = len(self.parser.get_method()) + len(self.url) + len("  HTTP/1.1\r\n")
        return line + sum(len(name) + len(value) + 4 for name, value in self.headers) + 2 > MAX_HEAD_BYTES


class ConnectionSweeper:
    """Closes connections whose client takes longer than ``REQUEST_TIMEOUT_SECONDS`` to send a request, or to read.

    One pass over all connections is cheaper than a timer for each request.

    Args:
        server_state: uvicorn's state, with its open connections.
        clock: Monotonic time in seconds.
    """

    def __init__(self, server_state: ServerState, clock: Callable[[], float]) -> None:
        self._connections = cast("set[HttpToolsProtocol]", server_state.connections)
        self._clock = clock
        #: The request of each waiting connection when it was first seen waiting, and the time.
        self._waiting: dict[HttpToolsProtocol, tuple[RequestResponseCycle | None, float]] = {}
        #: The number of bytes that each client has not read, and the time when this was first seen.
        self._unread: dict[HttpToolsProtocol, tuple[int, float]] = {}

    def sweep(self) -> None:
        """Close connections that have waited for too long. Call it about once a second."""
        now = self._clock()
        waiting: dict[HttpToolsProtocol, tuple[RequestResponseCycle | None, float]] = {}
        unread: dict[HttpToolsProtocol, tuple[int, float]] = {}
        for connection in self._connections:
            if waits_for_client(connection):
                cycle, since = self._waiting.get(connection, (None, now))
                if cycle is not connection.cycle:  # it has served a request since
                    since = now
                waiting[connection] = connection.cycle, since
                if now - since >= REQUEST_TIMEOUT_SECONDS:
                    connection.transport.close()
            if size := connection.transport.get_write_buffer_size():
                last_size, since = self._unread.get(connection, (0, now))
                unread[connection] = size, since if size == last_size else now
                if size == last_size and now - since >= REQUEST_TIMEOUT_SECONDS:
                    connection.transport.abort()  # a close would wait for the client
        self._waiting, self._unread = waiting, unread
