"""One HTTP request and its response as an ASGI exchange: ``receive`` returns the body, ``send`` writes the response.

``request_parser.py`` creates the cycles. The framing of a response is checked: the body has the length that its
headers declare, and no header can break out of its line.
"""

import asyncio
import http
import re
from collections.abc import Iterable
from typing import Final, Protocol

from starlette.types import ASGIApp, Message, Scope

from jobfn.http import NO_BODY_STATUSES
from jobfn.telemetry import logs

Headers = Iterable[tuple[bytes, bytes]]

STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b" % (status.value, status.phrase.encode()) for status in http.HTTPStatus
}
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LAST_CHUNK: Final = b"0\r\n\r\n"
_CONTENT_LENGTH, _TRANSFER_ENCODING, _CONNECTION = b"content-length: ", b"transfer-encoding: ", b"connection: "
_FRAMING_PREFIXES: Final = frozenset({_CONTENT_LENGTH, _TRANSFER_ENCODING, _CONNECTION})
#: Cache of header names as written on the wire, with colon and space.
_HEADER_PREFIXES: Final[dict[bytes, bytes]] = {}
_MAX_HEADER_PREFIXES: Final = 1000


class Connection(Protocol):
    """The part of ``HttpProtocol`` that a cycle uses."""

    writable: asyncio.Event | None

    @property
    def default_header_lines(self) -> bytes:
        """The last lines of every response head."""

    def write(self, data: bytes) -> None:
        """Write to the client; do nothing after a disconnect."""

    async def drain(self) -> None:
        """Wait until the client has read enough."""

    def resume_reading(self) -> None:
        """Continue to read."""

    def on_response_complete(self, cycle: "RequestCycle") -> None:
        """Serve the next request, or close."""

    def on_task_done(self, task: "asyncio.Task[None] | None") -> None:
        """Forget the task of a cycle."""

    def abort(self) -> None:
        """Close without sending pending data."""


class RequestCycle:
    """One request and its response.

    Args:
        connection: The connection that the request came on.
        scope: ASGI scope.
        keep_alive: Whether another request may follow on this connection.

    Attributes:
        keep_alive: As passed, or False if the response closes the connection.
        response_started: Whether the head of the response is written.
        response_complete: Whether the whole response is written.
        disconnected: Whether nobody will read the response.
        unread_bytes: Size of the received body that the app has not read yet.
    """

    # Class attributes as defaults: one cycle is made for each request, and most of these never change.
    response_started = False
    response_complete = False
    disconnected = False
    unread_bytes = 0
    _request_complete = False
    _body_started = False
    _body_delivered = False
    _message_event: asyncio.Event | None = None
    _has_no_body = False
    _is_chunked = False
    _remaining: int | None = None  # bytes of the response body still expected; None without a Content-Length
    _pending_head = b""  # a head that is written together with the first bytes of the body

    def __init__(self, connection: Connection, scope: Scope, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self._connection = connection
        self._scope = scope
        self._chunks: list[bytes] = []

    # Called by the parser and the connection.

    def feed(self, chunk: bytes) -> None:
        """Add a part of the request body. It is discarded once the response is complete."""
        if not self.response_complete:
            self._chunks.append(chunk)
            self.unread_bytes += len(chunk)
            self._wake_receive()

    def complete(self) -> None:
        """Mark the request body as complete."""
        self._request_complete = True
        self._wake_receive()

    def disconnect(self) -> None:
        """Mark the client as gone, or its request as broken."""
        self.disconnected = True
        self._wake_receive()

    async def run(self, app: ASGIApp) -> None:
        """Run the app. Exceptions are logged, never raised."""
        try:
            await app(self._scope, self.receive, self.send)
        except BaseException as error:  # noqa: BLE001  - an app may raise anything; shutdown cancels it
            logs.get_logger("jobfn.http").error("ASGI app raised", path=self._scope["path"], exc_info=error)
        if not self.response_complete and not self.disconnected:
            await self._send_error()
        self._connection.on_task_done(asyncio.current_task())

    # ASGI.

    async def receive(self) -> Message:
        """Return the next part of the body, later ``http.disconnect`` once client or response have finished."""
        while not (
            self._chunks
            or self.disconnected
            or self.response_complete
            or (self._request_complete and not self._body_delivered)
        ):
            if self._message_event is None:
                self._message_event = asyncio.Event()
                self._send_continue()
            self._connection.resume_reading()  # paused by a large unread body or by pipelined requests
            self._message_event.clear()
            await self._message_event.wait()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        self._body_delivered = self._request_complete
        return {"type": "http.request", "body": self._take_chunks(), "more_body": not self._request_complete}

    async def send(self, message: Message) -> None:
        """Write a part of the response, or nothing if the client has disconnected.

        Raises:
            RuntimeError: The message is out of order, or is not a valid response.
        """
        if self._connection.writable is not None:
            await self._connection.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if kind == "http.response.start" and not self.response_started:
            self._write_head(message["status"], message.get("headers", ()))
        elif kind == "http.response.body" and self.response_started and not self.response_complete:
            self._write_body(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(
                f"unexpected ASGI message {kind!r}: send one start, then bodies until more_body is false"
            )

    # The same without messages: see messages.py.

    def buffered_body(self) -> bytes | None:
        """Return the whole body if it has arrived and no part of it was read yet, else None."""
        if not self._request_complete or self._body_started:
            return None
        self._body_delivered = True
        return self._take_chunks()

    def send_response(self, status: int, headers: Headers, body: bytes) -> bool:
        """Write a whole response.

        Returns:
            False if it has to be sent in messages: another response was started, or writing is paused.

        Raises:
            RuntimeError: This is not a valid response.
        """
        if self._connection.writable is not None or self.response_started:
            return False
        if not self.disconnected:
            self._write_head(status, headers)
            self._write_body(body, more=False)
        return True

    def _wake_receive(self) -> None:
        if self._message_event is not None:
            self._message_event.set()

    def _take_chunks(self) -> bytes:
        chunks, self._chunks = self._chunks, []
        self.unread_bytes = 0
        self._body_started = True
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _write_head(self, status: int, headers: Headers) -> None:
        length: int | None = None
        is_chunked = closes = False
        lines = [STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status]
        for name, value in headers:
            prefix = _HEADER_PREFIXES.get(name) or _header_prefix(name)
            if 10 in value or 13 in value or 0 in value:  # integers are found faster than bytes
                raise RuntimeError(f"header {name!r} must not contain a line break or a NUL")
            if prefix in _FRAMING_PREFIXES:
                if prefix == _CONTENT_LENGTH:
                    length = int(value)
                elif prefix == _TRANSFER_ENCODING:
                    is_chunked = value.lower() == b"chunked"
                else:
                    closes = b"close" in value.lower()
            lines.append(prefix + value)
        if not self.keep_alive and not closes:
            lines.append(b"connection: close")
        has_no_body = status in NO_BODY_STATUSES or self._scope["method"] == "HEAD"
        if length is None and not is_chunked and not has_no_body and self._scope["http_version"] == "1.1":
            is_chunked = True
            lines.append(b"transfer-encoding: chunked")
        lines.append(self._connection.default_header_lines)
        head = b"\r\n".join(lines)
        if closes:
            self.keep_alive = False
        self._remaining = length
        self._is_chunked = is_chunked
        self._has_no_body = has_no_body
        self.response_started = True
        if length is None:
            self._connection.write(head)
        else:
            self._pending_head = head  # with a known length the body follows at once: one write for both

    def _write_body(self, body: bytes, *, more: bool) -> None:
        if self._has_no_body:
            body = b""
        elif self._is_chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else _LAST_CHUNK)
        elif self._remaining is not None:  # without either, the body ends with the connection
            self._remaining -= len(body)
            if self._remaining < 0 or (self._remaining and not more):
                raise RuntimeError("the response body must be as long as its Content-Length")
        self._connection.write(self._pending_head + body)
        self._pending_head = b""
        if not more:
            self.response_complete = True
            self._chunks.clear()
            self.unread_bytes = 0
            self._wake_receive()
            self._connection.on_response_complete(self)

    async def _send_error(self) -> None:
        """Send a 500, or cut the connection if the response was started, so that the client notices."""
        if self.response_started:
            logs.get_logger("jobfn.http").error("ASGI app left its response incomplete", path=self._scope["path"])
            self._connection.abort()
            return
        text = b"Internal Server Error"
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
            (b"connection", b"close"),
        ]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": text})

    def _send_continue(self) -> None:
        """Send ``100 Continue`` to a client that waits for it before it sends its body."""
        if self.response_started or self._body_started:
            return
        if any(name == b"expect" and value.lower() == b"100-continue" for name, value in self._scope["headers"]):
            self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _header_prefix(name: bytes) -> bytes:
    """Return a header name as written on the wire, and cache it.

    Raises:
        RuntimeError: This is not a valid header name.
    """
    if _TOKEN.fullmatch(name) is None:
        raise RuntimeError(f"{name!r} is not a header name")
    prefix = name.lower() + b": "
    if len(_HEADER_PREFIXES) < _MAX_HEADER_PREFIXES:
        _HEADER_PREFIXES[name] = prefix
    return prefix
