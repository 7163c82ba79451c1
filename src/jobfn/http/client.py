"""HTTP client for the hot requests: the worker's deliveries and the function's reports.

``Transport`` is the interface, ``HttpTransport`` its implementation on aiohttp, which takes a fraction of the CPU of
httpx. It does not follow redirects or keep cookies: job headers must not reach another host.
"""

import asyncio
import contextlib
import io
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, cast

from jobfn.errors import RequestNotSent, TransportError, error_text
from jobfn.tcp import HTTP, KeepAlive
from jobfn.wire import redact_url

if TYPE_CHECKING:
    import aiohttp

    from jobfn.http.client_limits import JobResponse

#: Maximum idle time of a pooled connection. Shorter than servers' timeouts (5 seconds in uvicorn and Node), so that
#: a request is not written to a connection that the server is closing.
KEEP_ALIVE_SECONDS = 4.0
#: Default timeout for opening a connection.
CONNECT_TIMEOUT_SECONDS = 10.0
#: Maximum size of a response body, or of a line of a streamed one. Bodies are only needed for results and error
#: messages.
MAX_RESPONSE_BYTES: Final = 1024 * 1024


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
                complete lines before that were yielded, unless the caller waited for something else between them.
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

    async def read(self, max_bytes: int = MAX_RESPONSE_BYTES) -> bytes:
        """Return the body, at most ``max_bytes`` of it.

        Raises:
            TransportError: The response broke off, or the time is up.
        """
        body = bytearray()
        while len(body) <= max_bytes and (chunk := await self._read_chunk()):
            body += chunk
        return bytes(body[:max_bytes])


class Transport(Protocol):
    """Client interface. It is passed in wherever a request is made, so that tests can pass their own."""

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> Response:
        """Send a POST and return the response, whatever its status.

        Raises:
            TransportError: There was no response.
            RequestNotSent: There was no request either.
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


class HttpTransport:
    """``Transport`` on a connection pool. Connections are opened on demand, and anew in another event loop.

    aiohttp is imported by the first request, so that it does not delay the start of a function.

    Args:
        max_connections: Maximum number of requests in flight to all hosts together. Further requests wait.
        max_connections_per_host: The same for each host. Default: no further limit.
        connect_timeout_seconds: Timeout for opening a connection.
        keepalive: When a connection to a machine that has vanished is given up.
        ssl_context: TLS settings. Default: the system's certificate authorities, or ``SSL_CERT_FILE`` and
            ``SSL_CERT_DIR``.
    """

    def __init__(
        self,
        *,
        max_connections: int = 100,
        max_connections_per_host: int | None = None,
        connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
        keepalive: KeepAlive = HTTP,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._max_connections = max_connections
        self._max_connections_per_host = max_connections_per_host or 0
        self._connect_timeout_seconds = connect_timeout_seconds
        self._keepalive = keepalive
        self._ssl_context = ssl_context
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> Response:
        """See ``Transport.post``."""
        async with self.stream(url, body=body, headers=headers, timeout_seconds=timeout_seconds) as response:
            return Response(response.status, response.headers, await response.read())

    @contextlib.asynccontextmanager
    async def stream(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> AsyncIterator[ResponseStream]:
        """See ``Transport.stream``."""
        import aiohttp  # noqa: PLC0415  - see the class
        import yarl  # noqa: PLC0415

        errors = (aiohttp.ClientError, OSError, ValueError, RuntimeError)  # RuntimeError: closed by ``aclose``
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=self._connect_timeout_seconds)
        try:
            if not url.isascii() or not url.isprintable() or " " in url:
                raise ValueError("the URL contains characters that must be percent-encoded")
            response = await self._current_session().post(
                yarl.URL(url, encoded=True),
                data=io.BytesIO(body),  # aiohttp warns about large bytes
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            )
        except errors as error:
            raise transport_error(url, timeout, error) from error

        is_at_end = False

        async def read_chunk() -> bytes:
            nonlocal is_at_end
            try:
                chunk = await response.content.readany()
            except errors as error:
                raise transport_error(url, timeout, error) from error
            is_at_end = not chunk
            return chunk

        try:
            if response.status < 200:
                raise TransportError(f"POST {redact_url(url)} failed: the server wants to switch protocols")
            yield ResponseStream(response.status, response.headers, read_chunk)
        finally:
            response.release()
            if not is_at_end:
                cast("JobResponse", response).break_connection()

    async def aclose(self) -> None:
        """See ``Transport.aclose``. Aborts requests in flight."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _current_session(self) -> "aiohttp.ClientSession":
        loop = asyncio.get_running_loop()
        if self._session is not None and loop is self._loop:
            return self._session
        if self._session is not None:
            self._session.detach()  # it cannot be closed in another event loop
        import aiohttp  # noqa: PLC0415  - see the class

        from jobfn.http import client_limits  # noqa: PLC0415  - imports aiohttp

        self._loop = loop
        self._session = aiohttp.ClientSession(
            connector=client_limits.connector(
                limit=self._max_connections,
                limit_per_host=self._max_connections_per_host,
                keepalive_timeout=KEEP_ALIVE_SECONDS,
                ssl=self._ssl_context or True,
                keepalive=self._keepalive,
            ),
            max_line_size=client_limits.MAX_FIELD_BYTES,
            max_field_size=client_limits.MAX_FIELD_BYTES,
            max_headers=client_limits.MAX_HEADERS,
            response_class=client_limits.JobResponse,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity", "User-Agent": "jobfn"},
            skip_auto_headers=["Content-Type"],
            auto_decompress=False,
        )
        return self._session


def transport_error(url: str, timeout: "aiohttp.ClientTimeout", error: Exception) -> TransportError:
    """Return an error without the URL's secrets, which aiohttp's messages contain."""
    import aiohttp  # noqa: PLC0415  - see HttpTransport

    post = f"POST {redact_url(url)}"
    match error:
        case aiohttp.ConnectionTimeoutError():
            return RequestNotSent(f"{post} could not connect within {timeout.sock_connect:g} s")
        case TimeoutError():
            within = "in time" if timeout.total is None else f"within {timeout.total:g} s"
            return TransportError(f"{post} got no response {within}")
        case aiohttp.ClientConnectorError():
            return RequestNotSent(
                f"{post} failed: Cannot connect to {error.host}:{error.port}: {error_text(error.__cause__ or error)}"
            )
        case aiohttp.ServerDisconnectedError():
            reason = "Server disconnected"
        case aiohttp.ClientPayloadError():
            reason = "the connection was closed in the middle of the response"
        case aiohttp.ClientResponseError():
            reason = f"invalid HTTP response: {error.message.partition(':')[0]}"  # an excerpt of it follows
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return RequestNotSent(f"{post} failed: the URL must be absolute and begin with http:// or https://")
        case OSError(errno=int(number)):
            reason = os.strerror(number)
        case ValueError() | RuntimeError():
            reason = error_text(error)
        case _:
            reason = type(error).__name__
    return TransportError(f"{post} failed: {reason}")
