"""HTTP without a network: a ``Transport`` that sends each POST to an ASGI app in this process."""

from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx
from starlette.types import ASGIApp

from jobfn.errors import TransportError
from jobfn.http.client import Response
from jobfn.http.loopback import without_network
from jobfn.testing.buffered_transport import BufferedTransport


class ASGITransport(BufferedTransport):
    """``Transport`` to ASGI apps."""

    def __init__(self, apps: Mapping[str, ASGIApp]) -> None:
        # An app responds to its handlers' errors itself, so they are not raised here.
        self._clients = {host: _client(app) for host, app in apps.items()}

    async def post(
        self,
        url: str,
        *,
        body: bytes,
        headers: Mapping[str, str],
        timeout_seconds: float | None = None,  # noqa: ARG002
    ) -> Response:
        """See ``Transport.post``. There is no timeout."""
        host = urlsplit(url).hostname or ""
        if host not in self._clients:
            raise TransportError(f"POST {url}: this test has no app for that host")
        response = await self._clients[host].post(url, content=body, headers=headers)
        return Response(response.status_code, response.headers, response.content)

    async def aclose(self) -> None:
        """See ``Transport.aclose``."""
        for client in self._clients.values():
            await client.aclose()


def _client(app: ASGIApp) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(without_network(app), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, timeout=None)  # noqa: S113  - the test has a timeout
