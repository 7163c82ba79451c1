"""Parse the bytes of a connection into request cycles (``request_cycle.py``).

httptools parses. This module adds the ASGI scope, the limit on the size of a request head, and the responses to bytes
that are not a request.
"""

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

import httptools
from starlette.types import Scope

from jobfn.http.request_cycle import STATUS_LINES, Connection, RequestCycle

#: Maximum size of the request line and headers. The rest of the packet that exceeds it is read too.
MAX_HEAD_BYTES: Final = 64 * 1024


def _error_response(status: int, text: bytes) -> bytes:
    return b"%b\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
        STATUS_LINES[status],
        len(text),
        text,
    )


BAD_REQUEST: Final = _error_response(400, b"Invalid HTTP request received.")
HEADERS_TOO_LARGE: Final = _error_response(431, b"The request's line and headers are too long.")


class RequestParser:
    """Parser of one connection.

    Args:
        connection: The connection.
        on_request: Called with each request when its head is complete; returns whether it will be served.
        scope: Part of the ASGI scope that all requests of the connection share.
        app_state: State that the app's lifespan yielded.

    Attributes:
        current: The request whose body is being received.
    """

    def __init__(
        self,
        connection: Connection,
        on_request: Callable[[RequestCycle], bool],
        scope: dict[str, Any],
        app_state: dict[str, Any],
    ) -> None:
        self._connection = connection
        self._on_request = on_request
        self._scope = scope
        self._app_state = app_state
        self._parser = httptools.HttpRequestParser(self)
        self.current: RequestCycle | None = None
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0  # size of the head that is being received; 0 outside a head

    def feed(self, data: bytes) -> bytes | None:
        """Parse received bytes.

        Returns:
            None, or the response to bytes that are not a request; nothing can follow them.
        """
        headers = self._headers
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # the upgrade is ignored: the request is served as the last one of the connection
        except httptools.HttpParserError:
            return BAD_REQUEST
        if self._head_bytes and self._headers is headers:  # all of the data belongs to the same head
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                return HEADERS_TOO_LARGE
        return None

    def abort(self) -> RequestCycle | None:
        """Disconnect and return the request whose body will not be completed."""
        current, self.current = self.current, None
        if current is not None:
            current.disconnect()
        return current

    def close(self) -> None:
        """Release the references that form a cycle, after the connection was lost."""
        self.abort()
        del self._parser, self._connection, self._on_request

    # httptools callbacks. An exception in one of them surfaces in ``feed`` as a parser error.

    def on_message_begin(self) -> None:
        """Start a request."""
        self._url = b""
        self._headers = []
        self._head_bytes = 1

    def on_url(self, url: bytes) -> None:
        """Add a part of the request target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header, or a trailer field, which is ignored."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Create the request cycle."""
        self._head_bytes = 0
        parser = self._parser
        version = parser.get_http_version()
        scope: Scope = self._scope.copy()
        scope["http_version"] = version
        scope["method"] = parser.get_method().decode("ascii")
        scope["headers"] = self._headers
        scope["state"] = self._app_state.copy()
        _set_target(scope, self._url)
        keep_alive = version == "1.1" and parser.should_keep_alive() and not parser.should_upgrade()
        cycle = RequestCycle(self._connection, scope, keep_alive=keep_alive)
        if self._on_request(cycle):
            self.current = cycle

    def on_chunk_header(self) -> None:
        """Start a chunk, or the trailer, which has the same size limit as a head."""
        self._headers = []
        self._head_bytes = 1

    def on_body(self, body: bytes) -> None:
        """Add a part of the body."""
        self._head_bytes = 0
        if self.current is not None:
            self.current.feed(body)

    def on_message_complete(self) -> None:
        """Complete the request."""
        current, self.current = self.current, None
        if current is not None:
            current.complete()


def _set_target(scope: Scope, url: bytes) -> None:
    """Set path and query of a scope.

    Raises:
        UnicodeDecodeError, httptools.HttpParserInvalidURLError: This is not a valid request target.
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
