"""A callback server that records reports, and requests without a server."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from jobfn import FunctionSettings
from support.jobs import TENANT

ACTOR = "c2d29867-3d0b-d497-9191-18a9d8ee7830"
ENTITY = "0f8fad5b-d9cb-469f-a165-70867728950e"
OPTIONAL_HEADERS = {"X-Database-Id": TENANT, "X-Actor-Id": ACTOR, "X-Entity-Id": ENTITY, "X-Job-Attempt": "3"}
#: Headers that the platform's newer worker adds for a node of a flow graph.
GRAPH_NODE_HEADERS = {
    "X-Organization-Id": "7d444840-9dc0-11d1-b245-5ffdce74fad2",
    "X-Invocation-Id": "f47ac10b-58cc-4372-a567-0e02b2c3d479",
    "X-Execution-Id": "9a7b330a-a736-41e5-9d53-6b2f5b1d3c4e",
    "X-Node-Name": "add_node",
}
SECRET = "topsecret-314159-0123456789abcdef"
#: Responses wait for their report, so that a test can read it once it has the response.
WAIT_FOR_REPORT = FunctionSettings(report_wait_seconds=30, report_timeout_seconds=30, shutdown_timeout_seconds=5)

#: How the callback server responds: with a status, by closing the connection, or with 200 after ``release``.
CallbackResponse = int | Literal["close", "hang"]


@dataclass(frozen=True)
class ReceivedReport:
    """A report or heartbeat as it arrived."""

    target: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class CallbackServer:
    """An ASGI app that records reports and heartbeats, and responds with 200 by default."""

    url: str = ""
    received: list[ReceivedReport] = field(default_factory=list)
    _responses: list[CallbackResponse] = field(default_factory=lambda: [200])
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def respond_with(self, *responses: CallbackResponse) -> None:
        """Set the responses to the next requests; the last one is repeated."""
        self._responses[:] = responses

    def release(self) -> None:
        """Respond to the requests that hang."""
        self._released.set()

    def bodies(self, path: str) -> list[dict[str, Any]]:
        """Return the bodies of the requests to one path."""
        return [report.body for report in self.received if report.target == path]

    async def wait_for(self, count: int, path: str | None = None) -> list[ReceivedReport]:
        """Wait until this number of requests has arrived, and return them."""

        def matching() -> list[ReceivedReport]:
            return [report for report in self.received if path in {None, report.target}]

        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(matching()) >= count)
        return matching()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Record and respond to one request."""
        assert scope["type"] == "http", "it is served without a lifespan"
        request = Request(scope, receive)
        body = json.loads(await request.body())
        query = scope["query_string"].decode()
        target = scope["raw_path"].decode() + (f"?{query}" if query else "")
        response = self._responses.pop(0) if len(self._responses) > 1 else self._responses[0]
        async with self._changed:
            self.received.append(ReceivedReport(target, dict(request.headers), body))
            self._changed.notify_all()
        if response == "close":
            send.__self__._connection.abort()  # type: ignore[attr-defined]  # noqa: SLF001  - no ASGI message does this
            await receive()  # until the connection is closed
            return
        if response == "hang":
            await self._released.wait()
            response = 200
        await JSONResponse({}, response)(scope, receive, send)


def job_headers(callback_url: str | None, job: int = 42, **others: str) -> dict[str, str]:
    """Return the headers of a delivery; others by name, with underscores."""
    headers = {"X-Worker-Id": "worker-7", "X-Job-Id": str(job)}
    if callback_url is not None:
        headers["X-Callback-Url"] = callback_url
    return headers | {name.replace("_", "-"): value for name, value in others.items()}


@dataclass
class AsgiRequest:
    """A POST without a server: ``receive`` returns these messages, ``send`` records the response."""

    messages: list[Message] = field(default_factory=lambda: [{"type": "http.request", "body": b"{}"}])
    sent: list[Message] = field(default_factory=list)
    receive_count: int = 0

    async def receive(self) -> Message:
        """Return the next message; the last one is repeated."""
        self.receive_count += 1
        return self.messages.pop(0) if len(self.messages) > 1 else self.messages[0]

    async def send(self, message: Message) -> None:
        """Record a message."""
        self.sent.append(message)

    def scope(self, path: str, headers: dict[str, str] | None = None, **others: object) -> Scope:
        """Return the request's scope."""
        raw_headers = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "method": "POST",
            "path": path,
            "root_path": "",
            "headers": raw_headers,
            **others,
        }

    @property
    def status(self) -> int:
        """The response's status."""
        return int(self.sent[0]["status"])
