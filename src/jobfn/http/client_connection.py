"""One HTTP/1.1 connection out: a request is written, its answer read, and then the next one.

``transport.py`` keeps these in a pool. What is parsed is parsed by httptools; here is what a client must know beside
that: where an answer ends, when a connection can be used again, and what it means that it broke.
"""

import asyncio
from typing import Final, cast

import httptools
from starlette.datastructures import Headers

#: Of an answer's body only this much is read; it is kept for error messages.
MAX_ANSWER_BYTES: Final = 1024 * 1024
#: Statuses below this one announce the answer; they are none.
_FIRST_FINAL_STATUS: Final = 200
_WITHOUT_A_BODY: Final = frozenset({204, 304})


class Broken(Exception):
    """The connection ended before the answer did, or what came is no answer."""


class HttpConnection(asyncio.Protocol):
    """See the module. One exchange at a time.

    Attributes:
        idle_since: When its last exchange ended, by the loop's clock; the pool writes it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.idle_since = 0.0
        self._loop = loop
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answered: asyncio.Future[tuple[int, Headers, bytes]] | None = None
        self._received_any = False
        self._begin_answer()

    def _begin_answer(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._size = 0
        self._has_headers = False

    @property
    def is_open(self) -> bool:
        """Whether another request can be written into it."""
        return self._transport is not None and not self._transport.is_closing()

    def exchange(self, request: bytes) -> "asyncio.Future[tuple[int, Headers, bytes]]":
        """Write a whole request. The future gives the answer: status, headers and body.

        The future raises ``Broken``, or an ``OSError`` where the operating system says why. Whoever gives up
        waiting calls ``abort``: an answer that comes later must not be taken for the next one's.
        """
        answered = self._answered = self._loop.create_future()
        if self._transport is None or self._transport.is_closing():
            answered.set_exception(Broken("Server disconnected"))
        else:
            self._received_any = False
            self._transport.write(request)
        return answered

    def abort(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Some of an answer; or, between two exchanges, what nobody asked for: then the server is confused."""
        if self._answered is None:
            self.abort()
            return
        self._received_any = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(Broken("the server wants to switch protocols"))
        except httptools.HttpParserError as error:
            self._fail(Broken(f"no HTTP answer: {error}"))

    def eof_received(self) -> bool:
        """The server says no more. An answer without a length ends so."""
        if self._has_headers and not self._is_bounded():
            self._complete()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._transport = None
        if exc is not None:
            self._fail(exc)
        elif self._received_any:
            self._fail(Broken("the connection ended in the middle of the answer"))
        else:
            self._fail(Broken("Server disconnected"))

    # What the parser calls.

    def on_message_begin(self) -> None:
        """An answer begins, or the announcement of one. A second one to the same request is nobody's."""
        if self._answered is None:
            self.abort()
        self._begin_answer()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The body begins."""
        self._has_headers = True

    def on_body(self, body: bytes) -> None:
        """Some of the body. More of it than is kept is not waited for."""
        self._body.append(body)
        self._size += len(body)
        if self._size > MAX_ANSWER_BYTES:
            self._complete()
            self.abort()

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._parser.get_status_code() < _FIRST_FINAL_STATUS:
            return
        keep = self._parser.should_keep_alive()
        self._complete()
        if not keep:
            self.abort()

    def _is_bounded(self) -> bool:
        """Whether the answer says where it ends."""
        names = {name for name, _ in self._headers}
        return (
            bool(names & {b"content-length", b"transfer-encoding"}) or self._parser.get_status_code() in _WITHOUT_A_BODY
        )

    def _complete(self) -> None:
        answered, self._answered = self._answered, None
        if answered is not None and not answered.done():
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            answered.set_result((self._parser.get_status_code(), Headers(raw=self._headers), body[:MAX_ANSWER_BYTES]))

    def _fail(self, error: Exception) -> None:
        self.abort()
        answered, self._answered = self._answered, None
        if answered is not None and not answered.done():
            answered.set_exception(error)
