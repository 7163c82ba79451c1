"""Base of transports for tests, whose responses are complete at once."""

import contextlib
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping

from jobfn.http.client import Response, ResponseStream


class BufferedTransport:
    """``Transport`` that streams the response of ``post`` in one part."""

    @abstractmethod
    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> Response:
        """See ``Transport.post``."""

    @contextlib.asynccontextmanager
    async def stream(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> AsyncIterator[ResponseStream]:
        """See ``Transport.stream``."""
        response = await self.post(url, body=body, headers=headers, timeout_seconds=timeout_seconds)
        chunks = iter([response.body])

        async def read_chunk() -> bytes:
            return next(chunks, b"")

        yield ResponseStream(response.status, response.headers, read_chunk)

    async def aclose(self) -> None:
        """Do nothing. Override it if there is something to close."""
