"""The dashboard under test, served on a free port, and an HTTP client for it."""

import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
import pytest

from jobfn.dashboard.server import serve_dashboard
from jobfn.dashboard.settings import DashboardSettings
from jobfn.http.server import bind
from jobfn.worker.routes import Routes
from support.network import LOOPBACK

TOKEN = "a-token-of-32-characters-or-more-for-tests"


@dataclass
class Site:
    """A running dashboard and a client that keeps its cookies and the CSRF token of the last page."""

    url: str
    client: httpx.AsyncClient
    csrf_token: str = ""

    async def get(self, path: str, **options: Any) -> httpx.Response:
        """Get a page and remember its CSRF token."""
        response = await self.client.get(path, **options)
        match = re.search(r'name="csrf-token" content="([^"]+)"', response.text)
        self.csrf_token = match.group(1) if match is not None else self.csrf_token
        return response

    async def post(self, path: str, fields: dict[str, Any], **options: Any) -> httpx.Response:
        """Submit a form with the CSRF token of the last page."""
        if not self.csrf_token:
            await self.get("/login")
            await self.get("/")
        return await self.client.post(path, data={"csrf_token": self.csrf_token, **fields}, **options)

    async def log_in(self, token: str = TOKEN) -> httpx.Response:
        await self.get("/login")
        return await self.post("/login", {"token": token})

    @contextlib.asynccontextmanager
    async def events(self, path: str) -> AsyncIterator["Events"]:
        """Open the live stream of a page."""
        async with self.client.stream("GET", f"/live{path}", timeout=10) as response:
            assert response.status_code == 200
            yield Events(response)


class Events:
    """The server-sent events of a stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self, name: str) -> dict[str, Any]:
        """Return the data of the next event with this name."""
        event = ""
        async for line in self._lines:
            field, _, value = line.partition(": ")
            if field == "event":
                event = value
            elif field == "data" and event == name:
                data: dict[str, Any] = json.loads(value)
                return data
        raise AssertionError(f"the stream ended without {name}")

    async def until(self, text: str) -> str:
        """Return the HTML of the next page that contains this text."""
        while True:
            html: str = (await self.next("page"))["html"]
            if text in html:
                return html

    async def to_end(self) -> None:
        async for _ in self._lines:
            pass


@pytest.fixture
async def open_site(database: str) -> AsyncIterator["OpenSite"]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(*, functions: str | None = None, **settings: Any) -> Site:
            return await stack.enter_async_context(site(database, functions=functions, **settings))

        yield start


class OpenSite(Protocol):
    """The fixture ``open_site``: serves a dashboard of the test database."""

    async def __call__(self, *, functions: str | None = None, **settings: Any) -> Site: ...


@contextlib.asynccontextmanager
async def site(database: str, *, functions: str | None = None, port: int = 0, **settings: Any) -> AsyncIterator[Site]:
    """Serve the dashboard of a database while the block runs.

    Args:
        database: DSN of the database.
        functions: URL of a function app, for task discovery.
        port: Port; 0 for a free one.
        settings: Fields of ``DashboardSettings``.
    """
    dashboard_settings = DashboardSettings(**{"port": 0, "refresh_seconds": 0.02, **settings})
    routes = Routes(functions, {}) if functions is not None else None
    listener = bind(LOOPBACK, port)  # also where the settings name another host
    url = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
    async with (
        serve_dashboard(dashboard_settings, database_url=database, schema="app_jobs", routes=routes, listener=listener),
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as client,
    ):
        yield Site(url, client)
