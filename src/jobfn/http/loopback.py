"""Protect a server on a loopback address from web pages that the developer visits."""

import ipaddress
import json
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from jobfn.http.messages import LOCAL_REQUEST, send_response

MAX_KNOWN_HOSTS: Final = 100
_HOST_MESSAGE: Final = (
    "This server listens on this machine only and answers to localhost and 127.0.0.1: use one of them as the host of "
    "the URL, or serve on another address (--host)."
)
_ORIGIN_MESSAGE: Final = "This request comes from a web page of another site."


class LoopbackGuard:
    """Refuses requests of other sites' pages: any page may send requests to 127.0.0.1, and make its name resolve to it.

    Args:
        app: The app that listens on a loopback address.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._known_hosts: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or respond with 421 to a wrong host and with 403 to a foreign page."""
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            if not self._is_known(headers.get(b"host", b"")):
                await _refuse(send, 421, _HOST_MESSAGE)
                return
            if headers.get(b"sec-fetch-site") == b"cross-site" or _is_foreign(headers.get(b"origin")):
                await _refuse(send, 403, _ORIGIN_MESSAGE)
                return
            scope[LOCAL_REQUEST] = True
        await self._app(scope, receive, send)

    def _is_known(self, host: bytes) -> bool:
        if host in self._known_hosts:
            return True
        if not is_loopback_host(host.decode("latin-1")):
            return False
        if len(self._known_hosts) < MAX_KNOWN_HOSTS:
            self._known_hosts.add(host)
        return True


def without_network(app: ASGIApp) -> ASGIApp:
    """Return the app for a test that calls it in its own process: its requests count as those of this machine."""

    async def local(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, LOCAL_REQUEST: True}, receive, send)

    return local


def is_loopback_host(host: str) -> bool:
    """Whether a Host header is a loopback name or address."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name.endswith(".localhost") or is_loopback_address(name)


def is_loopback_address(host: str) -> bool:
    """Whether an address to listen on is reachable from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_foreign(origin: bytes | None) -> bool:
    return origin is not None and not is_loopback_host(origin.decode("latin-1").partition("://")[2])


async def _refuse(send: Send, status: int, message: str) -> None:
    body = json.dumps({"message": message}).encode("ascii")
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    await send_response(send, status, headers, body)
