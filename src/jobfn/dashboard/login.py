"""Logging in with the dashboard's token, and out."""

import time
from collections import deque
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from jobfn.dashboard.render import Pages
from jobfn.dashboard.security import RequestContext
from jobfn.dashboard.sessions import Sessions
from jobfn.telemetry import logs

#: So many wrong tokens in a minute, whoever types them, and nobody's is looked at for the rest of it.
MAX_LOGIN_FAILURES_PER_MINUTE = 20


class Login:
    """The login page.

    Args:
        pages: What draws it.
        sessions: What checks the token.
        now: A clock in seconds.
    """

    def __init__(self, pages: Pages, sessions: Sessions, *, now: Callable[[], float] = time.monotonic) -> None:
        self._pages = pages
        self._sessions = sessions
        self._now = now
        self._wrong: deque[float] = deque(maxlen=MAX_LOGIN_FAILURES_PER_MINUTE)

    @property
    def routes(self) -> list[Route]:
        """Where it answers."""
        return [
            Route("/login", self.show, methods=["GET"]),
            Route("/login", self.log_in, methods=["POST"]),
            Route("/logout", self.log_out, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """``GET /login``."""
        wanted = safe_redirect(request.query_params.get("next", ""))
        if RequestContext.of(request).session.is_logged_in:
            return RedirectResponse(wanted, 303)
        return self._pages.answer(request, "login.html", {"next": wanted, "problem": None})

    async def log_in(self, request: Request) -> Response:
        """``POST /login``: a new session for whoever knows the token."""
        visit = RequestContext.of(request)
        wanted = safe_redirect(visit.form.one("next"))
        if len(self._wrong) == MAX_LOGIN_FAILURES_PER_MINUTE and self._now() - self._wrong[0] < 60:
            problem = "Too many wrong tokens. Wait a minute and try again."
            return self._pages.answer(request, "login.html", {"next": wanted, "problem": problem}, status_code=429)
        if not self._sessions.is_token(visit.form.one("token")):
            self._wrong.append(self._now())
            logs.get_logger("jobfn.dashboard").warning("wrong token", client=request.client and request.client.host)
            problem = "That is not the token. It is the value of JOBFN_DASHBOARD_TOKEN where the dashboard runs."
            return self._pages.answer(request, "login.html", {"next": wanted, "problem": problem}, status_code=401)
        response = RedirectResponse(wanted, 303)
        # A new id: one that somebody else may have planted in this browser is worth nothing.
        self._sessions.remember(self._sessions.new(is_logged_in=True), response, request)
        return response

    async def log_out(self, request: Request) -> Response:
        """``POST /logout``."""
        response = RedirectResponse("/login", 303)
        self._sessions.forget(response, request)
        return response


def safe_redirect(wanted: str) -> str:
    """Where to go after the login: a path of ours, and the start page for anything else."""
    is_ours = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable()
    return wanted if is_ours else "/"
