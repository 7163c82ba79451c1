"""The dashboard as tests reach it: served on a free port of the test's own loop, asked by HTTP."""

import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from jobfn.dashboard.server import serving
from jobfn.dashboard.settings import DashboardSettings
from jobfn.http.server import bind
from jobfn.worker.dispatch import Routes
from support.network import LOOPBACK

TOKEN = "a-token-for-these-tests-only"


@dataclass
class Site:
    """A dashboard that runs, and a browser's memory of it: cookies, and the CSRF token of the last page."""

    url: str
    client: httpx.AsyncClient
    csrf_token: str = ""

    async def get(self, path: str, **options: Any) -> httpx.Response:
        """Ask for a page."""
        answer = await self.client.get(path, **options)
        found = re.search(r'name="csrf-token" content="([^"]+)"', answer.text)
        self.csrf_token = found.group(1) if found is not None else self.csrf_token
        return answer

    async def post(self, path: str, fields: dict[str, Any], **options: Any) -> httpx.Response:
        """Send a form of the last page."""
        if not self.csrf_token:
            await self.get("/login")
            await self.get("/")
        return await self.client.post(path, data={"csrf_token": self.csrf_token, **fields}, **options)

    async def log_in(self, token: str = TOKEN) -> httpx.Response:
        """Type in a token."""
        await self.get("/login")
        return await self.post("/login", {"token": token})

    @contextlib.asynccontextmanager
    async def events(self, path: str) -> AsyncIterator["Events"]:
        """Hold a page's stream open."""
        async with self.client.stream("GET", f"/live{path}", timeout=10) as answer:
            assert answer.status_code == 200
            yield Events(answer)


class Events:
    """The events of a stream, one after the other."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.aiter_lines()

    async def next(self, name: str) -> dict[str, Any]:
        """The content of the next event of this name."""
        seen = ""
        async for line in self._lines:
            kind, _, rest = line.partition(": ")
            if kind == "event":
                seen = rest
            elif kind == "data" and seen == name:
                found: dict[str, Any] = json.loads(rest)
                return found
        raise AssertionError(f"the stream ended without {name}")

    async def until(self, text: str) -> str:
        """The HTML of the first page that holds this text."""
        while True:
            html: str = (await self.next("page"))["html"]
            if text in html:
                return html

    async def to_end(self) -> None:
        """Read until the server ends the stream."""
        async for _ in self._lines:
            pass


class OpenSite(Protocol):
    """The fixture ``open_site``: a dashboard of the test's database; settings by field name."""

    async def __call__(self, *, functions: str | None = None, **settings: Any) -> Site: ...


@contextlib.asynccontextmanager
async def site(
    database: str, *, functions: str | None = None, at_port: int = 0, **settings: Any
) -> AsyncIterator[Site]:
    """Serve the dashboard of a database for as long as the block runs.

    Args:
        database: Its DSN.
        functions: The URL of the function app whose tasks are known.
        at_port: Where; 0 for any free port.
        settings: Of ``DashboardSettings``.
    """
    chosen = DashboardSettings(**{"port": 0, "refresh_seconds": 0.02, **settings})
    routes = Routes(functions, {}) if functions is not None else None
    listener = bind(LOOPBACK, at_port)  # whatever host the settings name, nobody else reaches a test
    url = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
    async with (
        serving(chosen, database_url=database, schema="app_jobs", routes=routes, listener=listener),
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as client,
    ):
        yield Site(url, client)
