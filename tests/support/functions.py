"""A function that records the requests it receives."""

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
class Received:
    """A request as it arrived."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class RecordingFunction:
    """A function that is no jobfn: it records, answers as told, and reports nothing."""

    received: list[Received] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _respond: Callable[[], Awaitable[Response]] | None = None

    def answer(self, status: int = 200, content: object = None, headers: dict[str, str] | None = None) -> None:
        """Answer so from now on."""

        async def respond() -> Response:
            return JSONResponse(content, status, headers=headers)

        self._respond = respond

    def hold(self) -> asyncio.Event:
        """Answer nothing until the returned event is set."""
        gate = asyncio.Event()

        async def respond() -> Response:
            await gate.wait()
            return JSONResponse(None)

        self._respond = respond
        return gate

    @property
    def app(self) -> Starlette:
        """The ASGI app."""

        async def take(request: Request) -> Response:
            body = await request.body()
            path = request.scope["raw_path"].decode()
            self.received.append(Received(path, dict(request.headers), json.loads(body)))
            self.arrived.set()
            return await self._respond() if self._respond is not None else JSONResponse(None)

        return Starlette(routes=[Route("/{path:path}", take, methods=["POST"])])
