"""Build the dashboard's ASGI app: routes, middleware, static files and error pages."""

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

from jobfn.dashboard.actions import ActionPages
from jobfn.dashboard.banner import BannerMiddleware
from jobfn.dashboard.bulk import BulkActions
from jobfn.dashboard.durable_actions import DurableActionPages
from jobfn.dashboard.enqueue import EnqueuePages
from jobfn.dashboard.limit_actions import LimitPages
from jobfn.dashboard.live import LivePages
from jobfn.dashboard.login import Login
from jobfn.dashboard.pauses import PausePages
from jobfn.dashboard.render import Pages, Switch
from jobfn.dashboard.schedules import SchedulePages
from jobfn.dashboard.security import SecurityMiddleware
from jobfn.dashboard.sessions import Sessions
from jobfn.dashboard.settings import DashboardSettings
from jobfn.dashboard.task_discovery import TaskDiscovery
from jobfn.dashboard.views import Views
from jobfn.database.connection import CONNECTION_ERRORS
from jobfn.errors import DatabaseError, PermissionDenied, error_text
from jobfn.operations import Operations
from jobfn.telemetry import logs


def create_dashboard(
    settings: DashboardSettings,
    operations: Operations,
    *,
    discovery: TaskDiscovery,
    connections: "asyncpg.Pool[Any]",
    schema: str,
    database_label: str,
    switch: Switch | None = None,
) -> tuple[Starlette, LivePages]:
    """Create the app.

    Returns:
        The app and its live pages. Close the live pages before stopping the server.
    """
    pages = Pages(settings, database_label=database_label, switch=switch)
    if switch is not None:
        sessions = switch.sessions
    else:
        sessions = Sessions(settings.users, max_age_seconds=settings.session_ttl_seconds)
    live = LivePages(
        pages, operations, refresh_seconds=settings.refresh_seconds, stream_seconds=settings.stream_seconds
    )
    views = Views(operations)
    bulk_actions = BulkActions(pages, live)
    enqueue_pages = EnqueuePages(pages, operations, discovery=discovery, connections=connections, schema=schema)
    routes: list[BaseRoute] = [
        Route("/healthz", _healthz, methods=["GET"]),
        *Login(pages, sessions).routes,
        *live.routes("/", views.overview),
        *bulk_actions.routes,
        *ActionPages(pages, operations, bulk_actions).routes,
        *DurableActionPages(pages, operations).routes,
        *SchedulePages(pages, operations).routes,
        *live.routes("/jobs", views.jobs),
        *live.routes("/jobs/{id:int}", views.job),
        *live.routes("/errors", views.errors),
        *live.routes("/pauses", views.pauses),
        *PausePages(pages, operations).routes,
        *live.routes("/limits", views.limits),
        *LimitPages(pages, operations).routes,
        *live.routes("/schedules", views.schedules),
        *live.routes("/triggers", views.triggers),
        *live.routes("/workers", views.workers),
        *live.routes("/audit", views.audit),
        *enqueue_pages.routes,
        Mount("/static", _Static(directory=str(files("jobfn.dashboard") / "static"))),
    ]

    async def on_http_error(request: Request, error: Exception) -> Response:
        status_code = error.status_code if isinstance(error, HTTPException) else 500
        texts = {
            404: ("Page not found", "There is no such page."),
            405: ("Method not allowed", "This page does not support this method."),
        }
        detail = error.detail if isinstance(error, HTTPException) else ""
        title, text = texts.get(status_code, ("Request failed", detail))
        return pages.respond(request, "error.html", {"title": title, "text": text}, status_code=status_code)

    async def on_database_error(request: Request, error: Exception) -> Response:
        logs.get_logger("jobfn.dashboard").warning("page failed", reason=error_text(error))
        if isinstance(error, PermissionDenied):
            context = {"title": "Permission denied", "text": str(error)}
            return pages.respond(request, "error.html", context, status_code=403)
        text = f"{error_text(error)}. Reload the page to try again."
        title = "The database is unreachable" if isinstance(error, CONNECTION_ERRORS) else "Database error"
        return pages.respond(request, "error.html", {"title": title, "text": text}, status_code=503)

    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(SecurityMiddleware, settings=settings, sessions=sessions),
            Middleware(BannerMiddleware, operations=operations),
        ],
        exception_handlers={
            HTTPException: on_http_error,
            DatabaseError: on_database_error,
            **dict.fromkeys(CONNECTION_ERRORS, on_database_error),
        },
    )
    app.router.redirect_slashes = False  # the redirect would use the Host header
    return app, live


class _Static(StaticFiles):
    """Static files that the browser revalidates on each request, so that updates are visible at once."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


async def _healthz(_request: Request) -> Response:
    return PlainTextResponse("ok\n")
