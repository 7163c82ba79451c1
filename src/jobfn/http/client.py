"""HTTP client for the two hot requests: the worker's delivery and the function's report.

``Transport`` is the interface, ``HttpTransport`` its implementation on a pool of ``client_connection.HttpConnection``.
It supports POST, keep-alive, TLS and timeouts, at a fraction of the CPU of a general client. It does not follow
redirects or keep cookies: job headers must not reach another host.
"""

import asyncio
import base64
import functools
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote, urlsplit

from jobfn.errors import TransportError
from jobfn.http.client_connection import HttpConnection, RemoteProtocolError
from jobfn.wire import redact_url

#: Maximum idle time of a pooled connection. Shorter than servers' timeouts (5 seconds in uvicorn and Node), so that
#: a request is not written to a connection that the server is closing.
KEEP_ALIVE_SECONDS = 4.0
#: Default timeout for opening a connection.
CONNECT_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response: status, headers (case-insensitive) and at most ``MAX_RESPONSE_BYTES`` of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """Client interface. It is passed in wherever a request is made, so that tests can pass their own."""

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> Response:
        """Send a POST and return the response, whatever its status.

        Raises:
            TransportError: There was no response.
        """

    async def aclose(self) -> None:
        """Close the pooled connections."""


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
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            self._reset()
        try:
            origin, target = _parse_url(url)
            request = _request(origin, target, body, headers)
            async with asyncio.timeout(timeout_seconds):
                await self._semaphore.acquire()
                try:
                    return await self._send(loop, origin, request)
                finally:
                    self._semaphore.release()
        except TimeoutError as error:
            within = "in time" if timeout_seconds is None else f"within {timeout_seconds:g} s"
            raise TransportError(f"POST {redact_url(url)} got no response {within}") from error
        except ConnectTimeout as error:
            timeout = f"{self._connect_timeout_seconds:g} s"
            raise TransportError(f"POST {redact_url(url)} could not connect within {timeout}") from error
        except (RemoteProtocolError, OSError, ValueError) as error:
            raise TransportError(f"POST {redact_url(url)} failed: {str(error) or type(error).__name__}") from error

    async def aclose(self) -> None:
        """See ``Transport.aclose``. Aborts requests in flight."""
        if self._expiry_timer is not None:
            self._expiry_timer.cancel()
            self._expiry_timer = None
        for connection in [*self._active, *(each for idle in self._idle.values() for each in idle)]:
            connection.abort()
        self._idle.clear()
        await asyncio.sleep(0)  # lets the loop call connection_lost

    async def _send(self, loop: asyncio.AbstractEventLoop, origin: _Origin, request: bytes) -> Response:
        connection = self._idle_connection(loop, origin) or await self._connect(loop, origin)
        self._active.add(connection)
        try:
            status, headers, body = await connection.send(request)
        except BaseException:  # the response may still arrive: the connection cannot be reused
            connection.abort()
            raise
        finally:
            self._active.discard(connection)
        if connection.is_open:
            connection.idle_since = loop.time()
            self._idle.setdefault(origin, []).append(connection)
            if self._expiry_timer is None:
                self._expiry_timer = loop.call_later(KEEP_ALIVE_SECONDS, self._expire_idle, loop)
        return Response(status, headers, body)

    def _idle_connection(self, loop: asyncio.AbstractEventLoop, origin: _Origin) -> HttpConnection | None:
        """Return the most recently used connection, so that surplus connections expire."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.is_open and loop.time() - connection.idle_since < KEEP_ALIVE_SECONDS:
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
            fresh = [each for each in idle if each.is_open and now - each.idle_since < KEEP_ALIVE_SECONDS]
            for expired in set(idle).difference(fresh):
                expired.abort()
            if fresh:
                self._idle[origin] = fresh
            else:
                del self._idle[origin]
        if self._idle:
            self._expiry_timer = loop.call_later(KEEP_ALIVE_SECONDS, self._expire_idle, loop)


class ConnectTimeout(Exception):
    """Opening a connection took longer than ``connect_timeout_seconds``."""


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


def _request(origin: _Origin, target: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return the bytes of a request."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or "\0" in lines:
        raise ValueError("a header contains a line break or a NUL")
    return f"POST {target} HTTP/1.1\r\n{origin.header_lines}{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body
