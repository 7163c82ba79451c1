"""A function without jobfn: it records requests, responds as configured, and sends no reports."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as it arrived."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class RecordingFunction:
    """An ASGI app that records requests, and responds with 200 and ``null`` by default."""

    received: list[ReceivedRequest] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    before_response: Callable[[], Awaitable[None]] | None = None
    _respond: Callable[[], Awaitable[Response]] | None = None

    def respond(self, status: int = 200, content: object = None, headers: dict[str, str] | None = None) -> None:
        """Respond like this from now on."""

        async def respond() -> Response:
            return JSONResponse(content, status, headers=headers)

        self._respond = respond

    def hold(self) -> asyncio.Event:
        """Respond only after the returned event is set."""
        gate = asyncio.Event()

        async def respond() -> Response:
            await gate.wait()
            return JSONResponse(None)

        self._respond = respond
        return gate

    @property
    def app(self) -> Starlette:
        """The ASGI app."""

        async def record(request: Request) -> Response:
            path = request.scope["raw_path"].decode()
            self.received.append(ReceivedRequest(path, dict(request.headers), json.loads(await request.body())))
            self.arrived.set()
            if self.before_response is not None:
                await self.before_response()
            return await self._respond() if self._respond is not None else JSONResponse(None)

        return Starlette(routes=[Route("/{path:path}", record, methods=["POST"])])
