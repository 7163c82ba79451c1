"""Pages that keep themselves current: the same page as a stream of server-sent events.

While somebody looks at ``/jobs?state=failed``, the browser holds ``/live/jobs?state=failed`` open. The page is drawn
again from the database every second, and sent when it has changed; ``static/live.js`` puts the differences in place.
A page that is slow to draw is drawn less often, so that looking on never costs the database more than a fifth of the
time of one connection.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from jobfn.dashboard.render import Pages
from jobfn.dashboard.security import RequestContext
from jobfn.database.connection import CONNECTION_LOST
from jobfn.errors import DatabaseError
from jobfn.telemetry import logs

#: A comment goes out when nothing else has for so long, so that nobody between takes the line for dead.
KEEP_ALIVE_SECONDS = 15.0
MAX_STREAMS = 100
#: A page is drawn at most so much of the time.
_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class View:
    """A page to be drawn.

    Attributes:
        template: Its template, whose block ``live`` is what changes.
        context: The values for it.
        status_code: Of the whole page.
    """

    template: str
    context: Mapping[str, Any] = field(default_factory=dict)
    status_code: int = 200


#: Looks at the database and says what a page shows.
Load = Callable[[Request], Awaitable[View]]


class Live:
    """Serves pages, once and as streams.

    Args:
        pages: What draws them.
        refresh_seconds: How often a page is drawn again, in seconds.
        stream_seconds: How long a stream lasts, in seconds. The browser opens the next one by itself, and is asked
            for its login again.
    """

    def __init__(self, pages: Pages, *, refresh_seconds: float, stream_seconds: float) -> None:
        self._pages = pages
        self._refresh_seconds = refresh_seconds
        self._stream_seconds = stream_seconds
        self._closing = asyncio.Event()
        self._streams = 0

    def close(self) -> None:
        """End all streams, so that the server can stop; browsers come back when there is one again."""
        self._closing.set()

    def routes(self, path: str, load: Load) -> list[Route]:
        """A page and its stream."""

        async def page(request: Request) -> Response:
            view = await load(request)
            return self._pages.answer(request, view.template, view.context, status_code=view.status_code)

        async def stream(request: Request) -> Response:
            if self._streams >= MAX_STREAMS:
                raise HTTPException(503, f"{MAX_STREAMS} pages are being watched already: close some")
            return StreamingResponse(
                self._events(request, load), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
            )

        return [
            Route(path, page, methods=["GET"]),
            Route(f"/live{path}", stream, methods=["GET"]),
        ]

    async def _events(self, request: Request, load: Load) -> AsyncIterator[str]:
        self._streams += 1
        try:
            yield event("hello", {"csrf_token": RequestContext.of(request).csrf_token}, retry_ms=1000)
            shown, said_at = "", time.monotonic()
            ends_at = said_at + self._stream_seconds
            while not self._closing.is_set() and time.monotonic() < ends_at:
                begun = time.monotonic()
                html = await self._drawn(request, load)
                if html is None:
                    yield event("trouble", {"text": "The database cannot be reached. Trying again."})
                elif html != shown:
                    yield event("page", {"html": html, "now": datetime.now(UTC).isoformat()})
                    shown, said_at = html, time.monotonic()
                elif time.monotonic() - said_at > KEEP_ALIVE_SECONDS:
                    yield ": still here\n\n"
                    said_at = time.monotonic()
                await self._pause(max(self._refresh_seconds, (time.monotonic() - begun) / _SHARE))
        finally:
            self._streams -= 1

    async def _drawn(self, request: Request, load: Load) -> str | None:
        """The page's live block; None while the database is away."""
        try:
            view = await load(request)
        except (DatabaseError, *CONNECTION_LOST) as error:
            logs.get_logger("jobfn.dashboard").warning("page not refreshed", reason=str(error))
            return None
        return self._pages.html(request, view.template, view.context, block="live")

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return


def event(name: str, content: Mapping[str, object], *, retry_ms: int | None = None) -> str:
    """One server-sent event. JSON holds no line break, which would end it early."""
    retry = f"retry: {retry_ms}\n" if retry_ms is not None else ""
    return f"{retry}event: {name}\ndata: {json.dumps(content)}\n\n"
