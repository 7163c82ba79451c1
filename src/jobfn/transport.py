"""HTTP out, for the two hot exchanges: the worker's delivery and the function's report.

One small interface, ``Transport``, and its implementation on aiohttp's client. aiohttp is imported when the
first transport opens, so that ``import jobfn`` stays light. Redirects are never followed: job headers are not
for strangers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from jobfn.errors import TransportError

if TYPE_CHECKING:
    import aiohttp

#: Idle connections are dropped sooner than servers drop them (uvicorn and Node: 5 seconds), so that a request
#: is not written into a connection that is being closed.
KEEP_ALIVE_SECONDS = 4.0
CONNECT_TIMEOUT_SECONDS = 10.0
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
    """``Transport`` on aiohttp.

    Args:
        limit: Connections open at once, to all hosts together.
    """

    def __init__(self, *, limit: int = 100) -> None:
        self._limit = limit
        self._session: aiohttp.ClientSession | None = None

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> Answer:
        """See ``Transport.post``."""
        import aiohttp  # noqa: PLC0415  - kept off the import path of jobfn
        from yarl import URL  # noqa: PLC0415

        session = self._session or self._open()
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS)
        try:
            async with session.post(
                URL(url, encoded=True), data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                content = await response.content.read(MAX_ANSWER_BYTES)
                while content and len(content) < MAX_ANSWER_BYTES and not response.content.at_eof():
                    more = await response.content.read(MAX_ANSWER_BYTES - len(content))
                    if not more:
                        break
                    content += more
                return Answer(response.status, response.headers, content)
        except TimeoutError as error:
            raise TransportError(
                f"POST {url} got no answer within {timeout_seconds or CONNECT_TIMEOUT_SECONDS:g} s"
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise TransportError(f"POST {url} failed: {_reason(error)}") from error

    async def aclose(self) -> None:
        """See ``Transport.aclose``."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> "aiohttp.ClientSession":
        import aiohttp  # noqa: PLC0415  - kept off the import path of jobfn

        connector = aiohttp.TCPConnector(limit=self._limit, keepalive_timeout=KEEP_ALIVE_SECONDS)
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=True
        )
        return self._session


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
