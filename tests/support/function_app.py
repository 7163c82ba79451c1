"""What the function side's tests share: a callback server that records, and raw HTTP."""

import asyncio
import json
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from jobfn import FunctionApp, FunctionSettings
from support.network import eventually

ACTOR = "c2d29867-3d0b-d497-9191-18a9d8ee7830"
ENTITY = "0f8fad5b-d9cb-469f-a165-70867728950e"
SECRET = "topsecret-314159"
#: Reports are awaited for long, so that a test sees them before the response.
PATIENT = FunctionSettings(report_wait_seconds=30, report_timeout_seconds=30, shutdown_timeout_seconds=5)

#: What the callback server does with a report: answer with a status, cut the connection, or not answer until told.
Behaviour = int | Literal["close", "hang"]


@dataclass(frozen=True)
class Reported:
    """A report as it arrived."""

    target: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class CallbackServer:
    """An ASGI app that records reports and answers them as it is told, by default with 200."""

    url: str = ""
    received: list[Reported] = field(default_factory=list)
    behaviours: list[Behaviour] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def behave(self, *behaviours: Behaviour) -> None:
        """Do this with the next reports, one each; the last one goes for all that follow."""
        self.behaviours[:] = behaviours

    def release(self) -> None:
        """Answer those that hang, with 200."""
        self.released.set()

    async def until(self, count: int) -> list[Reported]:
        """Wait until so many reports have arrived; returns them."""

        async def enough() -> bool:
            return len(self.received) >= count

        await eventually(enough)
        return self.received

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one report."""
        assert scope["type"] == "http", "it is served without a lifespan"
        request = Request(scope, receive)
        body = json.loads(await request.body())
        query = scope["query_string"].decode()
        target = scope["raw_path"].decode() + (f"?{query}" if query else "")
        self.received.append(Reported(target, dict(request.headers), body))
        behaviour = self.behaviours[0] if self.behaviours else 200
        if len(self.behaviours) > 1:
            self.behaviours.pop(0)
        if behaviour == "close":
            send.__self__.transport.abort()  # type: ignore[attr-defined]  # uvicorn's cycle: no ASGI message does this
            await receive()  # until the connection is gone
            return
        if behaviour == "hang":
            await self.released.wait()
            behaviour = 200
        await JSONResponse({"heard": behaviour < 300}, behaviour)(scope, receive, send)


class StartApp(Protocol):
    """The fixture ``start``: serves a function app on a free port, returns its base URL."""

    def __call__(self, app: FunctionApp) -> Awaitable[str]: ...


def job_headers(callback_url: str | None, job: int = 42, **others: str) -> dict[str, str]:
    """The headers of a delivery; others by their names, with underscores."""
    headers = {"X-Worker-Id": "worker-7", "X-Job-Id": str(job)}
    if callback_url is not None:
        headers["X-Callback-Url"] = callback_url
    return headers | {name.replace("_", "-"): value for name, value in others.items()}


async def exchange(url: str, request: bytes, *, until_closed: bool = True) -> bytes:
    """Write raw bytes to a server and read what comes back."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        await writer.drain()
        return await reader.read(-1 if until_closed else 65536)
    finally:
        writer.close()


@dataclass
class HandMade:
    """An ASGI exchange without a server: ``receive`` gives these messages, ``send`` keeps what is sent."""

    messages: list[Message]
    sent: list[Message] = field(default_factory=list)
    read: int = 0

    async def receive(self) -> Message:
        """The next message; the last one again when there is none."""
        self.read += 1
        return self.messages.pop(0) if len(self.messages) > 1 else self.messages[0]

    async def send(self, message: Message) -> None:
        """Keep it."""
        self.sent.append(message)

    def scope(self, path: str, headers: dict[str, str] | None = None, **others: object) -> Scope:
        """The scope of a POST."""
        raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "method": "POST",
            "path": path,
            "root_path": "",
            "headers": raw,
            **others,
        }

    @property
    def status(self) -> int:
        """Of the response."""
        return int(self.sent[0]["status"])
