"""HTTP out, for the two hot exchanges: the worker's delivery and the function's report.

One small interface, ``Transport``, and its implementation on aiohttp's client. aiohttp is imported when the
first transport opens, so that ``import jobfn`` stays light. Redirects are never followed: job headers are not
for strangers.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from jobfn.errors import TransportError
from jobfn.wire import shown_url

if TYPE_CHECKING:
    import aiohttp

#: Idle connections are dropped sooner than servers drop them (uvicorn and Node: 5 seconds), so that a request
#: is not written into a connection that is being closed.
KEEP_ALIVE_SECONDS = 4.0
CONNECT_SECONDS = 10.0
#: Of an answer's body only this much is read; it is kept for error messages.
MAX_ANSWER_BYTES = 1024 * 1024


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


class AiohttpTransport:
    """``Transport`` on aiohttp. Opens with the first request, and again in another event loop.

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
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> Answer:
        """See ``Transport.post``."""
        import aiohttp  # noqa: PLC0415  - kept off the import path of jobfn
        from yarl import URL  # noqa: PLC0415

        loop = asyncio.get_running_loop()
        session = self._session if self._session is not None and self._loop is loop else self._open(loop)
        # sock_connect and not connect, which would also count the wait for a free connection
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=self._connect_seconds)
        try:
            async with session.post(
                URL(url, encoded=True), data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                return Answer(response.status, response.headers, await _read(response.content))
        except aiohttp.ConnectionTimeoutError as error:
            raise TransportError(f"POST {shown_url(url)} could not connect in {self._connect_seconds:g} s") from error
        except TimeoutError as error:
            within = "in time" if timeout_seconds is None else f"within {timeout_seconds:g} s"
            raise TransportError(f"POST {shown_url(url)} got no answer {within}") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise TransportError(f"POST {shown_url(url)} failed: {_said(error, url)}") from error

    async def aclose(self) -> None:
        """See ``Transport.aclose``."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    def _open(self, loop: asyncio.AbstractEventLoop) -> "aiohttp.ClientSession":
        import aiohttp  # noqa: PLC0415  - kept off the import path of jobfn

        self._loop = loop
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._limit,
                keepalive_timeout=KEEP_ALIVE_SECONDS,
                ssl=True if self._ssl_context is None else self._ssl_context,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity", "User-Agent": "jobfn"},
        )
        return self._session


async def _read(content: "aiohttp.StreamReader") -> bytes:
    """The body, cut at ``MAX_ANSWER_BYTES``. aiohttp closes a connection whose answer was not read whole."""
    parts = bytearray()
    while len(parts) < MAX_ANSWER_BYTES:
        part = await content.read(MAX_ANSWER_BYTES - len(parts))
        if not part:
            break
        parts += part
    return bytes(parts)


def _said(error: Exception, url: str) -> str:
    """What an error says. aiohttp's name the URL too, and it is shown nowhere whole."""
    return str(error).replace(url, shown_url(url)) or type(error).__name__
