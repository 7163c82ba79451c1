"""HTTP out, for the two hot exchanges: the worker's delivery and the function's report.

One small interface, ``Transport``, and its implementation: a pool of ``http_connection.HttpConnection``. It does what
these exchanges need and nothing else, at a fraction of a general client's CPU: POST, keep-alive, TLS, time limits.
Redirects are never followed and cookies never kept: job headers are not for strangers.
"""

import asyncio
import base64
import functools
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote, urlsplit

from jobfn.errors import TransportError
from jobfn.http.client_connection import Broken, HttpConnection
from jobfn.wire import redact_url

#: Idle connections are dropped sooner than servers drop them (uvicorn and Node: 5 seconds), so that a request
#: is not written into a connection that is being closed.
KEEP_ALIVE_SECONDS = 4.0
CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response: status, headers (case-insensitive) and at most ``MAX_ANSWER_BYTES`` of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """What carries a POST. Handed in wherever one is made, so that tests hand in their own."""

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> Answer:
        """Send one POST and read the answer, whatever its status.

        Args:
            url: Absolute http or https URL, already percent-encoded.
            body: The bytes to send.
            headers: Names and values.
            timeout_seconds: For the whole exchange; None waits as long as the connection lives.

        Raises:
            TransportError: No answer came.
        """

    async def aclose(self) -> None:
        """Close the pooled connections."""


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where requests go: what one connection is good for.

    Attributes:
        host: Name or address.
        port: TCP port.
        is_tls: Whether it is https.
        head: The header lines that every request to it has.
    """

    host: str
    port: int
    is_tls: bool
    head: str


class HttpTransport:
    """``Transport`` on a pool of connections. Opens with the first request, and again in another event loop.

    Args:
        limit: Connections open at once, to all hosts together; further requests wait for one.
        connect_seconds: How long one connection may take to be made, in seconds.
        ssl_context: For https. Default: the system's certificate authorities, and those that ``SSL_CERT_FILE``
            and ``SSL_CERT_DIR`` name.
    """

    def __init__(
        self,
        *,
        limit: int = 100,
        connect_seconds: float = CONNECT_SECONDS,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._limit = limit
        self._connect_seconds = connect_seconds
        self._ssl_context = ssl_context
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reset()

    def _reset(self) -> None:
        self._idle: dict[_Origin, list[HttpConnection]] = {}
        self._used: set[HttpConnection] = set()
        self._places = self._limit
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._sweeping: asyncio.TimerHandle | None = None

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> Answer:
        """See ``Transport.post``."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            self._reset()
        try:
            origin, target = _parts(url)
            request = _request(origin, target, body, headers)
            async with asyncio.timeout(timeout_seconds):
                await self._take_place(loop)
                try:
                    return await self._exchange(loop, origin, request)
                finally:
                    self._leave_place()
        except TimeoutError as error:
            within = "in time" if timeout_seconds is None else f"within {timeout_seconds:g} s"
            raise TransportError(f"POST {redact_url(url)} got no answer {within}") from error
        except ConnectTimeout as error:
            raise TransportError(f"POST {redact_url(url)} could not connect in {self._connect_seconds:g} s") from error
        except (Broken, OSError, ValueError) as error:
            raise TransportError(f"POST {redact_url(url)} failed: {str(error) or type(error).__name__}") from error

    async def aclose(self) -> None:
        """See ``Transport.aclose``. Exchanges under way are broken off."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for connection in [*self._used, *(idle for pooled in self._idle.values() for idle in pooled)]:
            connection.abort()
        self._idle.clear()
        await asyncio.sleep(0)  # the loop tells them that they are closed

    async def _exchange(self, loop: asyncio.AbstractEventLoop, origin: _Origin, request: bytes) -> Answer:
        connection = self._pooled(loop, origin) or await self._connect(loop, origin)
        self._used.add(connection)
        try:
            status, headers, body = await connection.exchange(request)
        except BaseException:  # whatever it was, what comes now belongs to nobody
            connection.abort()
            raise
        finally:
            self._used.discard(connection)
        if connection.is_open:
            connection.idle_since = loop.time()
            self._idle.setdefault(origin, []).append(connection)
            if self._sweeping is None:
                self._sweeping = loop.call_later(KEEP_ALIVE_SECONDS, self._sweep, loop)
        return Answer(status, headers, body)

    def _pooled(self, loop: asyncio.AbstractEventLoop, origin: _Origin) -> HttpConnection | None:
        """The connection that was used last: the others may be dropped in time."""
        pooled = self._idle.get(origin)
        while pooled:
            connection = pooled.pop()
            if connection.is_open and loop.time() - connection.idle_since < KEEP_ALIVE_SECONDS:
                return connection
            connection.abort()
        return None

    async def _connect(self, loop: asyncio.AbstractEventLoop, origin: _Origin) -> HttpConnection:
        if len(self._used) + sum(map(len, self._idle.values())) >= self._limit:
            self._drop_one()
        limit = asyncio.timeout(self._connect_seconds)
        try:
            async with limit:
                _, connection = await loop.create_connection(
                    functools.partial(HttpConnection, loop),
                    origin.host,
                    origin.port,
                    ssl=self._tls() if origin.is_tls else None,
                )
        except TimeoutError as error:
            if limit.expired():
                raise ConnectTimeout from error
            raise OSError(str(error)) from error  # the operating system's own patience is over
        except OSError as error:
            raise OSError(f"Cannot connect to {origin.host}:{origin.port}: {error}") from error
        return connection

    def _tls(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            self._ssl_context = ssl.create_default_context()
        return self._ssl_context

    async def _take_place(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait until fewer than ``limit`` exchanges are under way. First come, first served."""
        if self._places > 0:
            self._places -= 1
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave_place()  # it came at the same moment: to the next one
            raise

    def _leave_place(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._places += 1

    def _drop_one(self) -> None:
        """Make room: one that lies idle longest goes."""
        oldest = min(
            (pooled for pooled in self._idle.values() if pooled), key=lambda pooled: pooled[0].idle_since, default=None
        )
        if oldest is not None:
            oldest.pop(0).abort()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Drop what has been idle for too long."""
        self._sweeping = None
        now = loop.time()
        for origin, pooled in list(self._idle.items()):
            kept = [each for each in pooled if each.is_open and now - each.idle_since < KEEP_ALIVE_SECONDS]
            for each in set(pooled).difference(kept):
                each.abort()
            if kept:
                self._idle[origin] = kept
            else:
                del self._idle[origin]
        if self._idle:
            self._sweeping = loop.call_later(KEEP_ALIVE_SECONDS, self._sweep, loop)


class ConnectTimeout(Exception):
    """No connection within the time for one."""


def _parts(url: str) -> tuple[_Origin, str]:
    """Where a URL leads, and its path with its query.

    Raises:
        ValueError: It is no absolute http or https URL.
    """
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("the URL holds characters that must be percent-encoded")
    begin = url.find("/", url.find("//") + 2)
    query = url.find("?")
    if begin == -1 or -1 < query < begin:
        begin = query if query != -1 else len(url)
    origin = _origin(url[:begin].partition("#")[0])
    target = url[begin:].partition("#")[0]
    return origin, target if target.startswith("/") else f"/{target}"


@functools.lru_cache(maxsize=1024)
def _origin(base: str) -> _Origin:
    parts = urlsplit(base)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("no absolute URL that begins with http:// or https://")
    is_tls = parts.scheme == "https"
    authority = parts.netloc.rpartition("@")[2]
    head = f"Host: {authority}\r\nAccept: */*\r\nAccept-Encoding: identity\r\nUser-Agent: jobfn\r\n"
    if parts.username is not None:
        known = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        head += f"Authorization: Basic {base64.b64encode(known.encode()).decode()}\r\n"
    return _Origin(parts.hostname, parts.port or (443 if is_tls else 80), is_tls, head)


def _request(origin: _Origin, target: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """A request as it goes over the wire.

    Raises:
        ValueError: A header would end its line, and begin what nobody meant to send.
    """
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or "\0" in lines:
        raise ValueError("a header holds a line break")
    return f"POST {target} HTTP/1.1\r\n{origin.head}{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body
