"""Live pages: each page is also served as a stream of server-sent events.

While a browser shows ``/jobs?state=failed``, it keeps ``/live/jobs?state=failed`` open. The server renders the page at
an interval and sends it if it changed; ``static/live.js`` updates the document. Slow pages are rendered less often, so
that a stream uses a database connection at most a fifth of the time.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from jobfn.dashboard.render import TROUBLES_KEY, Pages
from jobfn.dashboard.security import RequestContext
from jobfn.database.connection import CONNECTION_ERRORS
from jobfn.errors import DatabaseError, PermissionDenied, error_text
from jobfn.operations import Operations
from jobfn.telemetry import logs

#: Interval of keep-alive comments on an idle stream, so that proxies do not close it.
KEEP_ALIVE_SECONDS: Final = 15.0
MAX_STREAMS: Final = 100
#: Maximum share of the time that a stream spends rendering.
_MAX_RENDER_SHARE: Final = 0.2


@dataclass(frozen=True, slots=True)
class View:
    """The content of a page.

    Attributes:
        template: Template name; its block ``live`` is the part that is updated.
        context: Values for the template.
        status_code: HTTP status of the page.
    """

    template: str
    context: Mapping[str, Any] = field(default_factory=dict)
    status_code: int = 200


#: Loads the content of a page.
LoadView = Callable[[Request], Awaitable[View]]


class LivePages:
    """Serves pages and their streams."""

    def __init__(self, pages: Pages, operations: Operations, *, refresh_seconds: float, stream_seconds: float) -> None:
        self._pages = pages
        self._operations = operations
        self._refresh_seconds = refresh_seconds
        self._stream_seconds = stream_seconds
        self._closing = asyncio.Event()
        self._streams = 0

    def close(self) -> None:
        """End all streams, so that the server can stop. Browsers reconnect."""
        self._closing.set()

    @property
    def is_closing(self) -> bool:
        """Whether the server is about to stop."""
        return self._closing.is_set()

    def routes(self, path: str, load: LoadView) -> list[Route]:
        """Return the routes of a page and its stream."""

        async def page(request: Request) -> Response:
            view = await load(request)
            return self._pages.respond(request, view.template, view.context, status_code=view.status_code)

        async def stream(request: Request) -> Response:
            if self._streams >= MAX_STREAMS:
                raise HTTPException(503, f"{MAX_STREAMS} live pages are open already: close some")
            return StreamingResponse(
                self._events(request, load), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
            )

        return [Route(path, page, methods=["GET"]), Route(f"/live{path}", stream, methods=["GET"])]

    async def _events(self, request: Request, load: LoadView) -> AsyncIterator[str]:
        self._streams += 1
        is_failing = False
        try:
            csrf_token = RequestContext.from_request(request).csrf_token
            yield server_sent_event("open", {"csrf_token": csrf_token}, retry_ms=1000)
            previous: Mapping[str, str] | None = None
            sent_at = time.monotonic()
            ends_at = sent_at + self._stream_seconds
            while not self._closing.is_set() and time.monotonic() < ends_at:
                started_at = time.monotonic()
                parts = await self._render(request, load, log_failure=not is_failing)
                is_failing = isinstance(parts, str)
                if isinstance(parts, str):
                    yield server_sent_event("error", {"text": parts})
                elif parts != previous:
                    yield server_sent_event("page", {**parts, "now": datetime.now(UTC).isoformat()})
                    previous, sent_at = parts, time.monotonic()
                elif time.monotonic() - sent_at > KEEP_ALIVE_SECONDS:
                    yield ": keep-alive\n\n"
                    sent_at = time.monotonic()
                render_seconds = time.monotonic() - started_at
                await self._pause(max(self._refresh_seconds, render_seconds / _MAX_RENDER_SHARE))
        finally:
            self._streams -= 1

    async def _render(self, request: Request, load: LoadView, *, log_failure: bool) -> Mapping[str, str] | str:
        """Return the live block of a page as ``html`` and the ``banner``, or why they cannot be rendered."""
        try:
            request.scope[TROUBLES_KEY] = await self._operations.troubles()
            view = await load(request)
        except (DatabaseError, *CONNECTION_ERRORS) as error:
            if log_failure:  # once per outage, not once per second
                logs.get_logger("jobfn.dashboard").warning("page refresh failed", reason=error_text(error))
            is_denied = isinstance(error, PermissionDenied)
            return str(error) if is_denied else "The database is unreachable. Trying again."
        return {
            "html": self._pages.render(request, view.template, view.context, block="live"),
            "banner": self._pages.render(request, "banner.html", {}),
        }

    async def _pause(self, seconds: float) -> None:
        """Sleep until the time has passed or the streams are closed."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return


def server_sent_event(name: str, content: Mapping[str, object], *, retry_ms: int | None = None) -> str:
    """Format an event. Its data is one line of JSON; a line break would end the event."""
    retry = f"retry: {retry_ms}\n" if retry_ms is not None else ""
    return f"{retry}event: {name}\ndata: {json.dumps(content)}\n\n"
