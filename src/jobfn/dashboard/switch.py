"""The dashboards of several databases on one port: ``/databases/{name}/`` is the dashboard of one of them.

The database is a part of each URL, so that a page in one tab never shows or changes jobs of the database in another.
Each dashboard is opened by its first request. They share the logins: who is not logged in gets the login page, and
cannot find out which databases there are.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobfn.dashboard.live import LivePages
from jobfn.dashboard.render import ROOT_KEY, Switch
from jobfn.dashboard.server import open_dashboard, serve_app
from jobfn.dashboard.sessions import Sessions
from jobfn.dashboard.settings import DashboardSettings
from jobfn.database.connection import DATABASE_ERRORS
from jobfn.errors import JobfnError, error_text
from jobfn.http.loopback import is_loopback_host
from jobfn.telemetry import logs
from jobfn.worker.routes import Routes
from jobfn.worker.settings import ServiceSettings

PREFIX: Final = "/databases/"
#: Timeout for opening a dashboard.
OPEN_TIMEOUT_SECONDS: Final = 10.0
#: Connections of a dashboard that are not used for this time are closed.
MAX_IDLE_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class _OpenDashboard:
    app: ASGIApp
    live_pages: LivePages
    settings: ServiceSettings
    stack: contextlib.AsyncExitStack

    async def aclose(self) -> None:
        self.live_pages.close()
        await self.stack.aclose()


class DashboardSwitch:
    """An ASGI app that passes each request to the dashboard of its database.

    Args:
        settings: Settings of the dashboards.
        databases: Returns the settings of the databases by name.
        states: Returns the state of each database, for the list on each page.
        open_timeout_seconds: Timeout for opening a dashboard.
    """

    def __init__(
        self,
        settings: DashboardSettings,
        databases: Callable[[], Mapping[str, ServiceSettings]],
        states: Callable[[], Mapping[str, str]],
        *,
        open_timeout_seconds: float = OPEN_TIMEOUT_SECONDS,
    ) -> None:
        self._settings = settings
        self._databases = databases
        self._states = states
        self._open_timeout_seconds = open_timeout_seconds
        self._sessions = Sessions(settings.users, max_age_seconds=settings.session_ttl_seconds)
        self._dashboards: dict[str, _OpenDashboard] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI request."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        name, slash, rest = path.removeprefix(PREFIX).partition("/") if path.startswith(PREFIX) else ("", "", "")
        names = sorted(self._databases())
        await self._close_removed(names)
        if path == "/healthz":
            await PlainTextResponse("ok\n")(scope, receive, send)
        elif not self._is_trusted(Request(scope)) or path.startswith(("/static/", "/login", "/logout")):
            await self._pass_to_any(names, scope, receive, send)
        elif path == "/" and names:
            await RedirectResponse(f"{PREFIX}{names[0]}/", 303)(scope, receive, send)
        elif name not in names:
            response = PlainTextResponse("There is no such page. The pages of a database begin at /.\n", 404)
            await response(scope, receive, send)
        elif not slash:
            await RedirectResponse(f"{path}/", 303)(scope, receive, send)
        else:
            root = f"{PREFIX}{name}"
            await self._pass_to(
                name, {**scope, "path": f"/{rest}", ROOT_KEY: root}, receive, functools.partial(_rooted, root, send)
            )

    async def _close_removed(self, names: list[str]) -> None:
        for removed in self._dashboards.keys() - set(names):
            await self._dashboards.pop(removed).aclose()
            self._locks.pop(removed, None)

    async def aclose(self) -> None:
        """End all streams, and close all connections."""
        for dashboard in self._dashboards.values():
            await dashboard.aclose()

    def close_live_pages(self) -> None:
        """End all streams, so that the server can stop."""
        for dashboard in self._dashboards.values():
            dashboard.live_pages.close()

    def _is_trusted(self, request: Request) -> bool:
        """Return whether the request may learn which databases there are."""
        session = self._sessions.read(request) or self._sessions.new()
        host = request.headers.get("Host", "")
        return session.is_logged_in and (not self._settings.is_loopback or is_loopback_host(host))

    async def _pass_to_any(self, names: list[str], scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request that concerns no database, such as a login, to one that is open or can be opened."""
        states = self._states()
        for name in sorted(names, key=lambda name: (name not in self._dashboards, states.get(name) != "ready")):
            if not isinstance(dashboard := await self._open(name), str):
                await dashboard.app(scope, receive, send)
                return
        await PlainTextResponse("No database is ready.\n", 503)(scope, receive, send)

    async def _pass_to(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        dashboard = await self._open(name)
        if isinstance(dashboard, str):
            await PlainTextResponse(f"Database {name}: {dashboard}\n", 503)(scope, receive, send)
        else:
            await dashboard.app(scope, receive, send)

    async def _open(self, name: str) -> _OpenDashboard | str:
        """Return the dashboard of a database, or why it cannot be opened."""
        async with self._locks.setdefault(name, asyncio.Lock()):
            if (settings := self._databases().get(name)) is None:
                return "it was removed"
            if (dashboard := self._dashboards.get(name)) is not None:
                if dashboard.settings == settings:
                    return dashboard
                await self._dashboards.pop(name).aclose()
            try:
                async with contextlib.AsyncExitStack() as stack, asyncio.timeout(self._open_timeout_seconds):
                    app, live_pages = await open_dashboard(
                        self._settings,
                        stack,
                        database_url=settings.database_url,
                        schema=settings.schema_name,
                        routes=Routes.from_settings(settings),
                        max_idle_seconds=MAX_IDLE_SECONDS,
                        switch=Switch(name, self._states, self._sessions),
                    )
                    opened = _OpenDashboard(app, live_pages, settings, stack.pop_all())
            except (JobfnError, *DATABASE_ERRORS) as error:
                logs.get_logger("jobfn.dashboard").warning("page failed", database=name, reason=error_text(error))
                return error_text(error)
            self._dashboards[name] = opened
            return opened


@contextlib.asynccontextmanager
async def serve_switch(
    settings: DashboardSettings,
    databases: Callable[[], Mapping[str, ServiceSettings]],
    states: Callable[[], Mapping[str, str]],
    *,
    open_timeout_seconds: float = OPEN_TIMEOUT_SECONDS,
) -> AsyncIterator[str]:
    """Serve the dashboards while the block runs, and return their URL.

    Raises:
        ConfigurationError: The address cannot be bound.
    """
    switch = DashboardSwitch(settings, databases, states, open_timeout_seconds=open_timeout_seconds)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(switch.aclose)
        yield await serve_app(settings, stack, switch, close_streams=switch.close_live_pages)


async def _rooted(root: str, send: Send, message: Message) -> None:
    """Send a message; a redirect to a path of the dashboard stays on the dashboard."""
    if message["type"] == "http.response.start":
        headers = [
            (key, root.encode() + value if key == b"location" and value.startswith(b"/") else value)
            for key, value in message["headers"]
        ]
        message = {**message, "headers": headers}
    await send(message)
