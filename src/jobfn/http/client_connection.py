"""One HTTP/1.1 client connection. ``client.py`` keeps a pool of them.

httptools parses. This module adds what it leaves to a client: where a response ends, whether the connection can be
reused, and which error a broken connection means.
"""

import asyncio
from typing import Final, cast

import httptools
from starlette.datastructures import Headers

from jobfn.http import NO_BODY_STATUSES

#: Maximum size of a response body; the rest is not read. Bodies are only needed for results and error messages.
MAX_RESPONSE_BYTES: Final = 1024 * 1024


class RemoteProtocolError(Exception):
    """The server closed the connection before the end of its response, or sent something that is not a response."""


class HttpConnection(asyncio.Protocol):
    """A client connection that sends one request at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.idle_since = 0.0
        self._loop = loop
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._response: asyncio.Future[tuple[int, Headers, bytes]] | None = None
        self._stream: asyncio.StreamReader | None = None
        self._stream_error: Exception | None = None
        self._received_any = False
        self._reset_response()

    def _reset_response(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []
        self._size = 0
        self._head_complete = False

    @property
    def is_idle(self) -> bool:
        """Whether the next request can be written."""
        is_open = self._transport is not None and not self._transport.is_closing()
        return is_open and self._response is None and (self._stream is None or self._stream.at_eof())

    def send(
        self, request: bytes, *, stream: asyncio.StreamReader | None = None
    ) -> "asyncio.Future[tuple[int, Headers, bytes]]":
        """Write a whole request and return the future of its response: status, headers and body.

        The future raises ``RemoteProtocolError`` or ``OSError``. A caller that stops waiting must call ``abort``, so
        that a late response is not taken for the response to the next request.

        Args:
            request: The bytes of the request.
            stream: Receives the body. The future is then done when the head has arrived, with an empty body.
        """
        response = self._response = self._loop.create_future()
        self._stream, self._stream_error = stream, None
        if self._transport is None or self._transport.is_closing():
            response.set_exception(RemoteProtocolError("Server disconnected"))
        else:
            self._received_any = False
            if stream is not None:
                stream.set_transport(self._transport)  # which it pauses while the buffer is full
            self._transport.write(request)
        return response

    def raise_stream_error(self) -> None:
        """Raise what ended a streamed body early."""
        if self._stream_error is not None:
            raise self._stream_error

    def abort(self) -> None:
        """Close the connection without sending pending data."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse a part of the response. Data without a request means that the server is out of step."""
        if self._response is None:
            self.abort()
            return
        self._received_any = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(RemoteProtocolError("the server wants to switch protocols"))
        except httptools.HttpParserError as error:
            self._fail(RemoteProtocolError(f"invalid HTTP response: {error}"))

    def eof_received(self) -> bool:
        """Complete a response that has no length."""
        if self._head_complete and not self._has_length():
            self._complete()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the current request."""
        self._transport = None
        if exc is not None:
            self._fail(exc)
        elif self._received_any:
            self._fail(RemoteProtocolError("the connection was closed in the middle of the response"))
        else:
            self._fail(RemoteProtocolError("Server disconnected"))

    # httptools callbacks.

    def on_message_begin(self) -> None:
        """Start a response, final or informational. A second response to one request closes the connection."""
        if self._response is None:
            self.abort()
        self._reset_response()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Start the body."""
        self._head_complete = True
        if self._stream is not None and self._parser.get_status_code() >= 200:
            self._resolve()

    def on_body(self, body: bytes) -> None:
        """Add a part of the body. A body beyond the maximum completes the response and closes the connection."""
        if self._stream is not None:
            if self._response is not None:
                self._stream.feed_data(body)
            return
        self._chunks.append(body)
        self._size += len(body)
        if self._size > MAX_RESPONSE_BYTES:
            self._complete()
            self.abort()

    def on_message_complete(self) -> None:
        """Complete a final response; informational ones (1xx) are skipped."""
        if self._parser.get_status_code() < 200:
            return
        keep_alive = self._parser.should_keep_alive()
        self._complete()
        if not keep_alive:
            self.abort()

    def _has_length(self) -> bool:
        names = {name for name, _ in self._headers}
        return (
            bool(names & {b"content-length", b"transfer-encoding"})
            or self._parser.get_status_code() in NO_BODY_STATUSES
        )

    def _complete(self) -> None:
        self._resolve()
        self._response = None
        if self._stream is not None:
            self._stream.feed_eof()

    def _resolve(self) -> None:
        if self._response is not None and not self._response.done():
            body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
            status, headers = self._parser.get_status_code(), Headers(raw=self._headers)
            self._response.set_result((status, headers, body[:MAX_RESPONSE_BYTES]))

    def _fail(self, error: Exception) -> None:
        self.abort()
        response, self._response = self._response, None
        if response is None:
            return
        if not response.done():
            response.set_exception(error)
        elif self._stream is not None:
            self._stream_error = error  # raised after the data that arrived before
            self._stream.feed_eof()
