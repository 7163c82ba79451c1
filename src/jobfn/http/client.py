"""HTTP client for the hot requests: the worker's deliveries and the function's reports.

``Transport`` is the interface, ``HttpTransport`` its implementation on a pool of ``client_connection.HttpConnection``.
It supports POST, keep-alive, TLS and timeouts, at a fraction of the CPU of a general client. It does not follow
redirects or keep cookies: job headers must not reach another host.
"""

import asyncio
import base64
import contextlib
import functools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote, urlsplit

from jobfn.errors import TransportError
from jobfn.http.client_connection import MAX_RESPONSE_BYTES, HttpConnection, RemoteProtocolError
from jobfn.wire import redact_url

#: Maximum idle time of a pooled connection. Shorter than servers' timeouts (5 seconds in uvicorn and Node), so that
#: a request is not written to a connection that the server is closing.
KEEP_ALIVE_SECONDS = 4.0
#: Default timeout for opening a connection.
CONNECT_TIMEOUT_SECONDS = 10.0
#: Size at which a streamed response stops reading from the network until its reader catches up.
_STREAM_BUFFER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response: status, headers (case-insensitive) and at most ``MAX_RESPONSE_BYTES`` of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class ResponseStream:
    """An HTTP response whose body is read as it arrives. Call ``lines`` or ``read``, once.

    Args:
        status: HTTP status.
        headers: Headers (case-insensitive).
        read_chunk: Returns the next part of the body, and ``b""`` at its end. Raises ``TransportError``.
    """

    def __init__(self, status: int, headers: Mapping[str, str], read_chunk: Callable[[], Awaitable[bytes]], /) -> None:
        self.status = status
        self.headers = headers
        self._read_chunk = read_chunk

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield each line without its line feed when it is complete. The last one may end with the body.

        Raises:
            TransportError: The response broke off, the time is up, or a line exceeds ``MAX_RESPONSE_BYTES``. The
                complete lines before that were yielded.
        """
        parts: list[bytes] = []
        size = 0
        while chunk := await self._read_chunk():
            for index, part in enumerate(chunk.split(b"\n")):
                if index:
                    yield b"".join(parts)
                    parts, size = [], 0
                parts.append(part)
                size += len(part)
                if size > MAX_RESPONSE_BYTES:
                    raise TransportError(f"a line of the response exceeds {MAX_RESPONSE_BYTES} bytes")
        if size:
            yield b"".join(parts)

    async def read(self) -> bytes:
        """Return the body, at most ``MAX_RESPONSE_BYTES`` of it.

        Raises:
            TransportError: The response broke off, or the time is up.
        """
        body = bytearray()
        while len(body) <= MAX_RESPONSE_BYTES and (chunk := await self._read_chunk()):
            body += chunk
        return bytes(body[:MAX_RESPONSE_BYTES])


class Transport(Protocol):
    """Client interface. It is passed in wherever a request is made, so that tests can pass their own."""

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> Response:
        """Send a POST and return the response, whatever its status.

        Raises:
            TransportError: There was no response.
        """

    def stream(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> contextlib.AbstractAsyncContextManager[ResponseStream]:
        """Send a POST and yield the response, whatever its status, when its head has arrived.

        The timeout includes the body. A block that is left before the end of the response closes the connection.

        Raises:
            TransportError: There was no response.
        """

    async def aclose(self) -> None:
        """Close the pooled connections."""


class ConnectTimeout(Exception):
    """Opening a connection took longer than ``connect_timeout_seconds``."""


_ERRORS = (ConnectTimeout, RemoteProtocolError, OSError, ValueError)  # a TimeoutError is an OSError


@dataclass(frozen=True, slots=True)
class _Origin:
    """Key of the pool."""

    host: str
    port: int
    is_tls: bool
    header_lines: str


class HttpTransport:
    """``Transport`` on a connection pool. Connections are opened on demand, and anew in another event loop.

    Args:
        max_connections: Maximum number of open connections to all hosts together. Further requests wait.
        connect_timeout_seconds: Timeout for opening a connection.
        ssl_context: TLS settings. Default: the system's certificate authorities, or ``SSL_CERT_FILE`` and
            ``SSL_CERT_DIR``.
    """

    def __init__(
        self,
        *,
        max_connections: int = 100,
        connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._max_connections = max_connections
        self._connect_timeout_seconds = connect_timeout_seconds
        self._ssl_context = ssl_context
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reset()

    def _reset(self) -> None:
        self._idle: dict[_Origin, list[HttpConnection]] = {}
        self._active: set[HttpConnection] = set()
        self._semaphore = asyncio.Semaphore(self._max_connections)
        self._expiry_timer: asyncio.TimerHandle | None = None

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> Response:
        """See ``Transport.post``."""
        loop = self._current_loop()
        try:
            origin, request = _request(url, body, headers)
            async with asyncio.timeout(timeout_seconds), self._semaphore:
                connection = await self._acquire(loop, origin)
                try:
                    return Response(*await connection.send(request))
                finally:
                    self._release(loop, origin, connection)
        except _ERRORS as error:
            raise self._transport_error(url, timeout_seconds, error) from error

    @contextlib.asynccontextmanager
    async def stream(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> AsyncIterator[ResponseStream]:
        """See ``Transport.stream``."""
        loop = self._current_loop()
        deadline = None if timeout_seconds is None else loop.time() + timeout_seconds
        async with contextlib.AsyncExitStack() as stack:
            try:
                origin, request = _request(url, body, headers)
                async with asyncio.timeout_at(deadline):
                    await stack.enter_async_context(self._semaphore)
                    connection = await self._acquire(loop, origin)
                    stack.callback(self._release, loop, origin, connection)
                    reader = asyncio.StreamReader(_STREAM_BUFFER_BYTES, loop)
                    status, response_headers, _ = await connection.send(request, stream=reader)
            except _ERRORS as error:
                raise self._transport_error(url, timeout_seconds, error) from error

            async def read_chunk() -> bytes:
                try:
                    async with asyncio.timeout_at(deadline):
                        chunk = await reader.read(_STREAM_BUFFER_BYTES)
                    if not chunk:
                        connection.raise_stream_error()
                except _ERRORS as error:
                    raise self._transport_error(url, timeout_seconds, error) from error
                return chunk

            yield ResponseStream(status, response_headers, read_chunk)

    async def aclose(self) -> None:
        """See ``Transport.aclose``. Aborts requests in flight."""
        if self._expiry_timer is not None:
            self._expiry_timer.cancel()
            self._expiry_timer = None
        for connection in [*self._active, *(each for idle in self._idle.values() for each in idle)]:
            connection.abort()
        self._idle.clear()
        await asyncio.sleep(0)  # lets the loop call connection_lost

    def _current_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            self._reset()
        return loop

    def _transport_error(self, url: str, timeout_seconds: float | None, error: Exception) -> TransportError:
        post = f"POST {redact_url(url)}"
        if isinstance(error, TimeoutError):
            within = "in time" if timeout_seconds is None else f"within {timeout_seconds:g} s"
            return TransportError(f"{post} got no response {within}")
        if isinstance(error, ConnectTimeout):
            return TransportError(f"{post} could not connect within {self._connect_timeout_seconds:g} s")
        return TransportError(f"{post} failed: {str(error) or type(error).__name__}")

    async def _acquire(self, loop: asyncio.AbstractEventLoop, origin: _Origin) -> HttpConnection:
        connection = self._idle_connection(loop, origin) or await self._connect(loop, origin)
        self._active.add(connection)
        return connection

    def _release(self, loop: asyncio.AbstractEventLoop, origin: _Origin, connection: HttpConnection) -> None:
        """Put a connection into the pool, or close it if its response may still arrive."""
        self._active.discard(connection)
        if not connection.is_idle:
            connection.abort()
            return
        connection.idle_since = loop.time()
        self._idle.setdefault(origin, []).append(connection)
        if self._expiry_timer is None:
            self._expiry_timer = loop.call_later(KEEP_ALIVE_SECONDS, self._expire_idle, loop)

    def _idle_connection(self, loop: asyncio.AbstractEventLoop, origin: _Origin) -> HttpConnection | None:
        """Return the most recently used connection, so that surplus connections expire."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.is_idle and loop.time() - connection.idle_since < KEEP_ALIVE_SECONDS:
                return connection
            connection.abort()
        return None

    async def _connect(self, loop: asyncio.AbstractEventLoop, origin: _Origin) -> HttpConnection:
        if len(self._active) + sum(map(len, self._idle.values())) >= self._max_connections:
            self._evict_idle()
        if origin.is_tls and self._ssl_context is None:
            self._ssl_context = ssl.create_default_context()
        timeout = asyncio.timeout(self._connect_timeout_seconds)
        try:
            async with timeout:
                _, connection = await loop.create_connection(
                    functools.partial(HttpConnection, loop),
                    origin.host,
                    origin.port,
                    ssl=self._ssl_context if origin.is_tls else None,
                )
        except TimeoutError as error:
            if timeout.expired():
                raise ConnectTimeout from error
            raise OSError(str(error)) from error  # the operating system's own timeout
        except OSError as error:
            raise OSError(f"Cannot connect to {origin.host}:{origin.port}: {error}") from error
        return connection

    def _evict_idle(self) -> None:
        """Close the connection that has been idle longest."""
        oldest = min((idle for idle in self._idle.values() if idle), key=lambda idle: idle[0].idle_since, default=None)
        if oldest is not None:
            oldest.pop(0).abort()

    def _expire_idle(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close connections that have been idle for too long."""
        self._expiry_timer = None
        now = loop.time()
        for origin, idle in list(self._idle.items()):
            fresh = [each for each in idle if each.is_idle and now - each.idle_since < KEEP_ALIVE_SECONDS]
            for expired in set(idle).difference(fresh):
                expired.abort()
            if fresh:
                self._idle[origin] = fresh
            else:
                del self._idle[origin]
        if self._idle:
            self._expiry_timer = loop.call_later(KEEP_ALIVE_SECONDS, self._expire_idle, loop)


def _parse_url(url: str) -> tuple[_Origin, str]:
    """Split a URL into its origin and the request target."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("the URL contains characters that must be percent-encoded")
    start = url.find("/", url.find("//") + 2)
    query = url.find("?")
    if start == -1 or -1 < query < start:
        start = query if query != -1 else len(url)
    origin = _origin(url[:start].partition("#")[0])
    target = url[start:].partition("#")[0]
    return origin, target if target.startswith("/") else f"/{target}"


@functools.lru_cache(maxsize=1024)
def _origin(base: str) -> _Origin:
    parts = urlsplit(base)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("the URL must be absolute and begin with http:// or https://")
    is_tls = parts.scheme == "https"
    authority = parts.netloc.rpartition("@")[2]
    lines = f"Host: {authority}\r\nAccept: */*\r\nAccept-Encoding: identity\r\nUser-Agent: jobfn\r\n"
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        lines += f"Authorization: Basic {base64.b64encode(credentials.encode()).decode()}\r\n"
    return _Origin(parts.hostname, parts.port or (443 if is_tls else 80), is_tls, lines)


def _request(url: str, body: bytes, headers: Mapping[str, str]) -> tuple[_Origin, bytes]:
    """Return the origin and the bytes of a request."""
    origin, target = _parse_url(url)
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or "\0" in lines:
        raise ValueError("a header contains a line break or a NUL")
    head = f"POST {target} HTTP/1.1\r\n{origin.header_lines}{lines}Content-Length: {len(body)}\r\n\r\n"
    return origin, head.encode() + body
