"""What comes on a connection, read as requests; ``http_exchange.py`` is one of them, with its answer.

httptools parses. Here is what it leaves open: what ASGI calls the parts of a head, how long one may be, and what is
said to what is no request.
"""

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

import httptools
from starlette.types import Scope

from jobfn.http.request_cycle import STATUS_LINES, Connection, RequestCycle

#: A request's line and headers are at most about so long; a packet's rest may come on top.
MAX_HEAD_BYTES: Final = 64 * 1024


def _complaint(status: int, text: bytes) -> bytes:
    return b"%b\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
        STATUS_LINES[status],
        len(text),
        text,
    )


BAD_REQUEST: Final = _complaint(400, b"Invalid HTTP request received.")
HEADERS_TOO_LARGE: Final = _complaint(431, b"The request's line and headers are too long.")


class RequestParser:
    """See the module.

    Args:
        connection: Where it comes.
        take: Is given each request when its head is there; returns whether that will be answered.
        scope: What is the same for all requests of the connection.
        app_state: What the app's lifespan has yielded.

    Attributes:
        arriving: The request whose body arrives.
    """

    def __init__(
        self,
        connection: Connection,
        take: Callable[[RequestCycle], bool],
        scope: dict[str, Any],
        app_state: dict[str, Any],
    ) -> None:
        self._connection = connection
        self._take = take
        self._scope = scope
        self._app_state = app_state
        self._parser = httptools.HttpRequestParser(self)
        self.arriving: RequestCycle | None = None
        # The request whose head arrives.
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0

    def feed(self, data: bytes) -> bytes | None:
        """Take what came: some of a request, or several.

        Returns:
            None; or, where something came that is no request, what to answer to that. Nothing can follow it.
        """
        headers = self._headers
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # to what is not spoken here: it is answered as any request, the last one
        except httptools.HttpParserError:
            return BAD_REQUEST
        if self._head_bytes and self._headers is headers:  # one head, and this was more of it
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                return HEADERS_TOO_LARGE
        return None

    def cut(self) -> RequestCycle | None:
        """The request whose body has not come whole, which it never will."""
        arriving, self.arriving = self.arriving, None
        if arriving is not None:
            arriving.disconnect()
        return arriving

    def close(self) -> None:
        """The connection is gone: let go of what holds this one."""
        self.cut()
        del self._parser, self._connection, self._take

    # What httptools calls.

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
        """Its head is there. What is raised here, ``feed`` is told of as of what is no request."""
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
        exchange = RequestCycle(self._connection, scope, keep_alive=keep_alive)
        if self._take(exchange):
            self.arriving = exchange

    def on_chunk_header(self) -> None:
        """A chunk of its body begins; or its trailer, of which no more is taken than of a head."""
        self._headers = []
        self._head_bytes = 1

    def on_body(self, body: bytes) -> None:
        """Some of its body."""
        self._head_bytes = 0
        if self.arriving is not None:
            self.arriving.take(body)

    def on_message_complete(self) -> None:
        """It is whole."""
        arriving, self.arriving = self.arriving, None
        if arriving is not None:
            arriving.complete()


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
