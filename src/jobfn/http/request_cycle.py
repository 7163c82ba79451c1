"""One request on a connection and its answer, as ASGI has them: ``receive`` gives the body, ``send`` writes the answer.

``http_requests.py`` parses requests into these. An answer's framing is checked: its body is as long as it says, and no
header holds what would end a line.
"""

import asyncio
import http
import re
from collections.abc import Iterable
from typing import Final, Protocol

from starlette.types import ASGIApp, Message, Scope

from jobfn.telemetry import logs

Headers = Iterable[tuple[bytes, bytes]]

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
#: How answers begin, by status.
STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b" % (status.value, status.phrase.encode()) for status in http.HTTPStatus
}
_WITHOUT_A_BODY: Final = frozenset({204, 304})
_LAST_CHUNK: Final = b"0\r\n\r\n"
_CONTENT_LENGTH, _TRANSFER_ENCODING, _CONNECTION = b"content-length: ", b"transfer-encoding: ", b"connection: "
_FRAMING: Final = frozenset({_CONTENT_LENGTH, _TRANSFER_ENCODING, _CONNECTION})
#: Names of headers as they stand in their lines.
_FIELDS: Final[dict[bytes, bytes]] = {}
_MAX_FIELDS: Final = 1000


class Connection(Protocol):
    """What an exchange needs of the connection that it is from.

    Attributes:
        writable: Set when the client has read enough of what was written; None: it has.
    """

    writable: asyncio.Event | None

    @property
    def default_lines(self) -> bytes:
        """The end of every answer's head."""

    def write(self, data: bytes) -> None:
        """Send; to a client that is gone, nothing."""

    async def drained(self) -> None:
        """Wait until the client has read enough of what was written."""

    def read_on(self) -> None:
        """All that came was taken: more may come."""

    def answered(self, exchange: "RequestCycle") -> None:
        """An exchange has ended."""

    def done(self, task: "asyncio.Task[None] | None") -> None:
        """The task of an exchange is at its end."""

    def abort(self) -> None:
        """End at once."""


class RequestCycle:
    """See the module.

    Args:
        connection: Where it is from.
        scope: ASGI's.
        keep_alive: Whether another request may follow.

    Attributes:
        keep_alive: As given; the answer may say otherwise.
        has_begun: Whether some of the answer is written.
        unread_bytes: How much of the body has come that the app has not taken.
    """

    # Defaults stand here and not in __init__: one is made for each request, and most of these never change.
    has_begun = False
    has_ended = False
    is_gone = False
    unread_bytes = 0
    _is_whole = False
    _was_told_any = False
    _was_told_whole = False
    _news: asyncio.Event | None = None
    # Of the answer: whether it has no body, whether that goes in chunks, and how much of one with a length is missing;
    # None: it has none.
    _is_bodiless = False
    _is_chunked = False
    _left: int | None = None
    #: A head that the body is to follow at once.
    _head = b""

    def __init__(self, connection: Connection, scope: Scope, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self._connection = connection
        self._scope = scope
        self._chunks: list[bytes] = []

    # What the connection calls.

    def take(self, chunk: bytes) -> None:
        """Some of the body; once it is answered, that is nobody's."""
        if not self.has_ended:
            self._chunks.append(chunk)
            self.unread_bytes += len(chunk)
            if self._news is not None:
                self._news.set()

    def complete(self) -> None:
        """The body is whole."""
        self._is_whole = True
        if self._news is not None:
            self._news.set()

    def disconnect(self) -> None:
        """The client is gone, or what it sends can be no body: nobody will read an answer."""
        self.is_gone = True
        if self._news is not None:
            self._news.set()

    async def run(self, app: ASGIApp) -> None:
        """Let an app answer, in a task of its own. Whatever it does, that is logged here and goes no further."""
        try:
            await app(self._scope, self.receive, self.send)
        except BaseException as error:  # noqa: BLE001  - an app may raise anything; a stop cancels it, too
            logs.get_logger("jobfn.http").error("the app broke", path=self._scope["path"], exc_info=error)
        if not self.has_ended and not self.is_gone:
            await self._break()
        self._connection.done(asyncio.current_task())

    # What the app calls.

    async def receive(self) -> Message:
        """Some of the body; then, when there is any news, that the client is gone or needs nothing more."""
        while not (self._chunks or self.is_gone or self.has_ended or (self._is_whole and not self._was_told_whole)):
            if self._news is None:
                self._news = asyncio.Event()
                self._invite()
            self._connection.read_on()  # that had stopped if much had come, or behind another
            self._news.clear()
            await self._news.wait()
        if self.is_gone or self.has_ended:
            return {"type": "http.disconnect"}
        chunks, self._chunks = self._chunks, []
        self.unread_bytes = 0
        self._was_told_any = True
        self._was_told_whole = self._is_whole
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return {"type": "http.request", "body": body, "more_body": not self._is_whole}

    async def send(self, message: Message) -> None:
        """Write some of the answer; to a client that is gone, nothing.

        Raises:
            RuntimeError: It is no message for now, or no answer that HTTP has.
        """
        if self._connection.writable is not None:
            await self._connection.drained()
        if self.is_gone:
            return
        kind = message["type"]
        if kind == "http.response.start" and not self.has_begun:
            self._begin(message["status"], message.get("headers", ()))
        elif kind == "http.response.body" and self.has_begun and not self.has_ended:
            self._go_on(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"{kind} is no message that can be sent now")

    # The same without messages, for an app that nobody stands before: ``asgi.py``.

    def take_all(self) -> bytes | None:
        """The body, if it has come whole and nobody has taken any of it; else None."""
        if not self._is_whole or self._was_told_any:
            return None
        self._was_told_any = self._was_told_whole = True
        chunks, self._chunks = self._chunks, []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def answer(self, status: int, headers: Headers, body: bytes) -> bool:
        """Write all of the answer; False: it is to be sent, as it was begun already or the client reads too slowly.

        Raises:
            RuntimeError: It is no answer that HTTP has.
        """
        if self._connection.writable is not None or self.has_begun:
            return False
        if not self.is_gone:
            self._begin(status, headers)
            self._go_on(body, more=False)
        return True

    def _begin(self, status: int, headers: Headers) -> None:
        length: int | None = None
        chunked = closes = False
        lines = [STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status]
        for name, value in headers:
            field = _FIELDS.get(name) or _field(name)
            if 10 in value or 13 in value or 0 in value:  # as numbers they are found quicker than as bytes
                raise RuntimeError(f"the value of {name!r} holds the end of a line, or a NUL")
            if field in _FRAMING:
                if field == _CONTENT_LENGTH:
                    length = int(value)
                elif field == _TRANSFER_ENCODING:
                    chunked = value.lower() == b"chunked"
                else:
                    closes = b"close" in value.lower()
            lines.append(field + value)
        if not self.keep_alive and not closes:
            lines.append(b"connection: close")
        bodiless = status in _WITHOUT_A_BODY or self._scope["method"] == "HEAD"
        if length is None and not chunked and not bodiless and self._scope["http_version"] == "1.1":
            chunked = True
            lines.append(b"transfer-encoding: chunked")
        lines.append(self._connection.default_lines)
        head = b"\r\n".join(lines)
        if closes:
            self.keep_alive = False
        self._left = length
        self._is_chunked = chunked
        self._is_bodiless = bodiless
        self.has_begun = True
        if length is None:
            self._connection.write(head)
        else:
            self._head = head  # who knows the length has the body: both go in one write

    def _go_on(self, body: bytes, *, more: bool) -> None:
        if self._is_bodiless:
            body = b""
        elif self._is_chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else _LAST_CHUNK)
        elif self._left is not None:  # else it ends with the connection
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the answer's body is not as long as its Content-Length says")
        self._connection.write(self._head + body)
        self._head = b""
        if not more:
            self.has_ended = True
            self._chunks.clear()
            self.unread_bytes = 0
            if self._news is not None:
                self._news.set()
            self._connection.answered(self)

    async def _break(self) -> None:
        """The app has left its answer unfinished: the client must see that."""
        if self.has_begun:
            logs.get_logger("jobfn.http").error("an answer was not finished", path=self._scope["path"])
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

    def _invite(self) -> None:
        """More is waited for: if nothing of a body has come, some clients wait until they are asked for it."""
        if self.has_begun or self._was_told_any:
            return
        if any(name == b"expect" and value.lower() == b"100-continue" for name, value in self._scope["headers"]):
            self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _field(name: bytes) -> bytes:
    """A header's name as it stands in its line; so many are kept.

    Raises:
        RuntimeError: It is none.
    """
    if _TOKEN.fullmatch(name) is None:
        raise RuntimeError(f"{name!r} is no header's name")
    field = name.lower() + b": "
    if len(_FIELDS) < _MAX_FIELDS:
        _FIELDS[name] = field
    return field
