"""The banner of troubles above every page."""

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from jobfn.dashboard.render import FRAGMENT_HEADER, TROUBLES_KEY
from jobfn.database.connection import CONNECTION_ERRORS
from jobfn.errors import DatabaseError, error_text
from jobfn.operations import Operations
from jobfn.telemetry import logs

#: Paths without a banner, or whose pages load it themselves.
_WITHOUT_BANNER = ("/static/", "/live/", "/healthz", "/login", "/logout")


class BannerMiddleware:
    """Loads the banner of a page before the page, so that every template shows it."""

    def __init__(self, app: ASGIApp, *, operations: Operations) -> None:
        self._app = app
        self._operations = operations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI request."""
        if scope["type"] == "http" and not scope["path"].startswith(_WITHOUT_BANNER):
            request = Request(scope)
            if FRAGMENT_HEADER not in request.headers:
                try:
                    scope[TROUBLES_KEY] = await self._operations.troubles()
                except (DatabaseError, *CONNECTION_ERRORS) as error:
                    logs.get_logger("jobfn.dashboard").warning("banner failed", reason=error_text(error))
        await self._app(scope, receive, send)
