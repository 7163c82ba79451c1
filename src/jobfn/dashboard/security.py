"""Middleware that checks the host, the session and the CSRF token of every request and adds security headers.

It puts a ``RequestContext`` into the request's scope.
"""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobfn.dashboard.forms import Form, read_form
from jobfn.dashboard.sessions import CSRF_FIELD, CSRF_HEADER, Session, Sessions
from jobfn.dashboard.settings import DashboardSettings
from jobfn.http.loopback import is_loopback_host
from jobfn.operations.actor import Actor, Source

#: Allows only scripts, styles and connections of this site, and nothing inline.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
STALE_PAGE_MESSAGE: Final = (
    "This page is older than the dashboard's last restart, or from another site. Reload it and try again."
)
READ_ONLY_MESSAGE: Final = "This dashboard is read-only: it was started with --read-only."
VIEWER_MESSAGE: Final = "Your role is viewer, which changes nothing: ask an operator."
#: Sender of the request that is handled, for the audit list.
CURRENT_ACTOR: Final[ContextVar[Actor | None]] = ContextVar("jobfn.dashboard.actor", default=None)
_SCOPE_KEY: Final = "jobfn.dashboard"


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The session and the form of a request."""

    session: Session
    csrf_token: str
    form: Form

    @classmethod
    def from_request(cls, request: HTTPConnection) -> "RequestContext":
        """Return the context of a request."""
        context = request.scope[_SCOPE_KEY]
        assert isinstance(context, cls)  # noqa: S101  - the middleware sets it for every page
        return context


def actor(request: HTTPConnection) -> str:
    """Return the name of the user who sent a request."""
    return RequestContext.from_request(request).session.actor


class SecurityMiddleware:
    """Rejects requests with a wrong host, session or CSRF token."""

    def __init__(self, app: ASGIApp, *, settings: DashboardSettings, sessions: Sessions) -> None:
        self._app = app
        self._settings = settings
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        existing = self._sessions.read(request)
        session = existing or self._sessions.new()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if existing is None and _is_page(scope["path"]) and "set-cookie" not in headers:
                    cookie = Response()
                    self._sessions.set_cookie(session, cookie, request)
                    headers.append("Set-Cookie", cookie.headers["Set-Cookie"])
            await send(message)

        response: ASGIApp | None = self._check_access(request, session)
        if response is None:
            form = await read_form(request)
            CURRENT_ACTOR.set(Actor(session.actor, Source.DASHBOARD))
            if isinstance(form, Response):
                response = form
            else:
                response = self._check_post(request, session, form) or self._app
                scope[_SCOPE_KEY] = RequestContext(session, self._sessions.csrf_token(session), form)
        await response(scope, receive, send_with_headers)

    def _check_access(self, request: Request, session: Session) -> Response | None:
        """Return an error or login response; None if the request may proceed."""
        if self._settings.is_loopback and not is_loopback_host(request.headers.get("Host", "")):
            # DNS rebinding: another site's name that resolves to 127.0.0.1 would share this origin.
            return PlainTextResponse("This dashboard answers to localhost and 127.0.0.1 only.\n", 421)
        path: str = request.scope["path"]  # request.url takes parts of its path from the Host header
        if session.is_logged_in or path == "/login" or not _is_page(path):
            return None
        if request.method in {"GET", "HEAD"} and not path.startswith("/live/"):
            query = request.scope["query_string"].decode("latin-1")
            target = path + (f"?{query}" if query else "")
            return RedirectResponse(f"/login?next={quote(target, safe='')}", 303)
        return PlainTextResponse("Log in first.\n", 401)

    def _check_post(self, request: Request, session: Session, form: Form) -> Response | None:
        """Return an error response to a forged or forbidden POST."""
        if request.method != "POST":
            return None
        token = request.headers.get(CSRF_HEADER) or form.one(CSRF_FIELD)
        if not self._sessions.check_csrf_token(session, token):
            return PlainTextResponse(f"{STALE_PAGE_MESSAGE}\n", 403)
        if request.scope["path"] not in {"/login", "/logout"}:
            if self._settings.read_only:
                return PlainTextResponse(f"{READ_ONLY_MESSAGE}\n", 403)
            if session.is_viewer:
                return PlainTextResponse(f"{VIEWER_MESSAGE}\n", 403)
        return None


def _is_page(path: str) -> bool:
    return path != "/healthz" and not path.startswith("/static/")
