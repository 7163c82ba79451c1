"""The dashboard's ASGI app: the pages behind their guard, the styles and scripts, and how errors look."""

from importlib.resources import files
from typing import Any

import asyncpg
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from jobfn.dashboard.actions import Acting
from jobfn.dashboard.enqueue import Enqueueing
from jobfn.dashboard.live import Live
from jobfn.dashboard.login import Login
from jobfn.dashboard.render import Pages
from jobfn.dashboard.security import Guard
from jobfn.dashboard.sessions import Sessions
from jobfn.dashboard.settings import DashboardSettings
from jobfn.dashboard.task_discovery import Catalog
from jobfn.dashboard.views import Views
from jobfn.database.connection import CONNECTION_LOST
from jobfn.errors import DatabaseError
from jobfn.operations import Operations
from jobfn.telemetry import logs


def create_dashboard(
    settings: DashboardSettings,
    operations: Operations,
    *,
    catalog: Catalog,
    connections: "asyncpg.Pool[Any]",
    schema: str,
    subject: str,
) -> tuple[Starlette, Live]:
    """Make the app.

    Args:
        settings: Who may see it, and what it offers.
        operations: What it looks through.
        catalog: What knows the tasks that there are.
        connections: Where jobs are added.
        schema: The jobs schema.
        subject: What the pages say they show: the database, without a password.

    Returns:
        The app, and its streams, which are to be closed before its server is stopped.
    """
    pages = Pages(settings, subject=subject)
    sessions = Sessions(settings.token, max_age_seconds=settings.session_ttl_seconds)
    live = Live(pages, refresh_seconds=settings.refresh_seconds, stream_seconds=settings.stream_seconds)
    views = Views(operations)
    enqueueing = Enqueueing(pages, operations, catalog=catalog, connections=connections, schema=schema)
    routes: list[BaseRoute] = [
        Route("/healthz", _alive, methods=["GET"]),
        *Login(pages, sessions).routes,
        *live.routes("/", views.overview),
        *Acting(pages, operations).routes,
        *live.routes("/jobs", views.jobs),
        *live.routes("/jobs/{id:int}", views.job),
        *live.routes("/schedules", views.schedules),
        *live.routes("/triggers", views.triggers),
        *live.routes("/workers", views.workers),
        *enqueueing.routes,
        Mount("/static", _Static(directory=str(files("jobfn.dashboard") / "static"))),
    ]

    async def refused(request: Request, error: Exception) -> Response:
        status_code = error.status_code if isinstance(error, HTTPException) else 500
        texts = {
            404: ("Nothing here", "There is no such page."),
            405: ("Not like this", "This page takes no such call."),
        }
        detail = error.detail if isinstance(error, HTTPException) else ""
        title, text = texts.get(status_code, ("That did not work", detail))
        return pages.answer(request, "error.html", {"title": title, "text": text}, status_code=status_code)

    async def no_database(request: Request, error: Exception) -> Response:
        logs.get_logger("jobfn.dashboard").warning("page not drawn", reason=str(error))
        text = f"{str(error) or type(error).__name__}. Reload the page to try again."
        is_away = isinstance(error, CONNECTION_LOST)
        context = {"title": "The database does not answer" if is_away else "The database refused", "text": text}
        return pages.answer(request, "error.html", context, status_code=503)

    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, settings=settings, sessions=sessions)],
        exception_handlers={
            HTTPException: refused,
            DatabaseError: no_database,
            **dict.fromkeys(CONNECTION_LOST, no_database),
        },
    )
    app.router.redirect_slashes = False  # a redirect would go where the Host header says
    return app, live


class _Static(StaticFiles):
    """Our styles and scripts: kept by the browser, asked for again each time, so that an update is seen at once."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


async def _alive(_request: Request) -> Response:
    return PlainTextResponse("ok\n")
