"""What every request passes before it reaches a page: its host, its session, and where its form came from.

An ASGI middleware. It puts ``RequestContext`` into the request's scope and our security headers on every response.
"""

import ipaddress
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobfn.dashboard.forms import Form, read_form
from jobfn.dashboard.sessions import CSRF_FIELD, CSRF_HEADER, Session, Sessions
from jobfn.dashboard.settings import DashboardSettings

#: Scripts, styles and connections of our own and nothing else; nothing inline.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
#: What a person without a session may ask for.
_OPEN = ("/login", "/static/", "/healthz")
STALE = "This page is from before the dashboard was restarted, or from another site. Reload it and try again."
READ_ONLY = "This dashboard is read-only: it was started with --read-only."


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What the guard found out about a request.

    Attributes:
        session: Whose it is.
        csrf_token: What the forms of the answer carry.
        form: What was sent, if it is a POST.
    """

    session: Session
    csrf_token: str
    form: Form

    @classmethod
    def of(cls, request: HTTPConnection) -> "RequestContext":
        """The visit that a request is part of."""
        found = request.scope["jobfn.visit"]
        assert isinstance(found, cls)  # noqa: S101  - the guard stands before every page
        return found


class Guard:
    """Lets through what may pass.

    Args:
        app: The pages.
        settings: Who may see them.
        sessions: Whose is whose.
    """

    def __init__(self, app: ASGIApp, *, settings: DashboardSettings, sessions: Sessions) -> None:
        self._app = app
        self._settings = settings
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        found = self._sessions.read(request)
        session = found or self._sessions.new()

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if found is None and not _is_static(request) and "set-cookie" not in headers:
                    cookie = Response()
                    self._sessions.remember(session, cookie, request)
                    headers.append("Set-Cookie", cookie.headers["Set-Cookie"])
            await send(message)

        answer: ASGIApp | None = await self._refusal(request, session)
        if answer is None:
            form = await read_form(request)
            if isinstance(form, Response):
                answer = form
            else:
                answer = self._post_refusal(request, session, form) or self._app
                scope["jobfn.visit"] = RequestContext(session, self._sessions.csrf_token(session), form)
        await answer(scope, receive, send_guarded)

    async def _refusal(self, request: Request, session: Session) -> Response | None:
        if self._settings.is_loopback and not names_loopback(request.headers.get("Host", "")):
            # A site whose name was made to point at 127.0.0.1 would otherwise be of our own origin.
            return PlainTextResponse("This dashboard answers to localhost and 127.0.0.1 only.\n", 421)
        if session.is_logged_in or request.url.path.startswith(_OPEN):
            return None
        if request.method in {"GET", "HEAD"} and not request.url.path.startswith("/live/"):
            wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/login?next={quote(wanted, safe='')}", 303)
        return PlainTextResponse("Log in first.\n", 401)

    def _post_refusal(self, request: Request, session: Session, form: Form) -> Response | None:
        if request.method != "POST":
            return None
        sent = request.headers.get(CSRF_HEADER) or form.one(CSRF_FIELD)
        if not self._sessions.is_csrf_token(session, sent):
            return PlainTextResponse(STALE + "\n", 403)
        if self._settings.read_only and request.url.path not in {"/login", "/logout"}:
            return PlainTextResponse(READ_ONLY + "\n", 403)
        return None


def names_loopback(host_header: str) -> bool:
    """Whether a Host header names this machine by a loopback name or address."""
    try:
        name = urlsplit(f"//{host_header}").hostname or ""
        return name == "localhost" or name.endswith(".localhost") or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_static(request: Request) -> bool:
    return request.url.path.startswith(("/static/", "/healthz"))
