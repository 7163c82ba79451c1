"""HTTP without a network: a ``Transport`` that hands each POST to an ASGI app in this process."""

from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx
from starlette.types import ASGIApp

from jobfn.errors import TransportError
from jobfn.http.client import Response


class InProcess:
    """See the module.

    Args:
        apps: By host name, as it stands in URLs.
    """

    def __init__(self, apps: Mapping[str, ASGIApp]) -> None:
        # A handler's error is answered by the app, and is no error of whoever asked.
        self._clients = {
            host: httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), timeout=None)  # noqa: S113  - an app in this process answers, or the test's own timeout ends it
            for host, app in apps.items()
        }

    async def post(
        self,
        url: str,
        *,
        body: bytes,
        headers: Mapping[str, str],
        timeout_seconds: float | None = None,  # noqa: ARG002
    ) -> Response:
        """See ``Transport.post``; an app in this process has no need of a timeout."""
        host = urlsplit(url).hostname or ""
        if host not in self._clients:
            raise TransportError(f"POST {url}: no app of this test's answers there")
        response = await self._clients[host].post(url, content=body, headers=headers)
        return Response(response.status_code, response.headers, response.content)

    async def aclose(self) -> None:
        """See ``Transport.aclose``."""
        for client in self._clients.values():
            await client.aclose()
