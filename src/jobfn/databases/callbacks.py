"""The callback server of several databases: the path of a report names its database.

``.../databases/{name}/callback`` and its siblings for heartbeats, steps and batches go to the app of that database,
which knows the jobs and the tokens of no other.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from jobfn.wire import CALLBACK_URL, JOB_ID, report_url, sibling_url
from jobfn.worker.callback_app import respond
from jobfn.worker.callbacks import Reply, rejection

_SEGMENT: Final = "databases"
_UNKNOWN: Final = rejection(404, f"the URL names no database of this service: report to {CALLBACK_URL} of the delivery")
_NOT_READY: Final = rejection(503, "the database of this URL is not ready: send the report again")
_PROBED: Final = Reply(200, "OK")
_JOB_ID_HEADER: Final = JOB_ID.lower().encode()


def database_callback_url(callback_url: str, name: str) -> str:
    """Return the callback URL of a database.

    Raises:
        ValueError: ``callback_url`` is not a URL for reports.
    """
    url = report_url(callback_url)
    return sibling_url(url, f"{_SEGMENT}/{name}/{urlsplit(url).path.rpartition('/')[2]}")


class CallbackRouter:
    """An ASGI app that passes each request to the app of its database.

    Args:
        is_known: Returns whether the service has a database with this name, ready or not.
    """

    def __init__(self, is_known: Callable[[str], bool]) -> None:
        self._is_known = is_known
        self._apps: dict[str, ASGIApp] = {}

    @contextmanager
    def serving(self, name: str, app: ASGIApp) -> Iterator[None]:
        """Serve the app of a database during the block."""
        self._apps[name] = app
        try:
            yield
        finally:
            del self._apps[name]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI request."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        segment, name, last = ["", "", *path.split("/")][-3:]
        is_named = segment == _SEGMENT
        if is_named and (app := self._apps.get(name)) is not None:
            structlog.contextvars.bind_contextvars(database=name)  # of this request's task
            await app(scope, receive, send)
            return
        if scope["method"] == "GET" and last in {"healthz", "readyz"} and not is_named:
            reply = _PROBED
        elif is_named and self._is_known(name):
            reply = _NOT_READY
        elif scope["method"] == "POST" and all(header != _JOB_ID_HEADER for header, _ in scope["headers"]):
            reply = _PROBED  # contract, section 2: health probes
        else:
            reply = _UNKNOWN
        await respond(send, reply, unread=receive)
