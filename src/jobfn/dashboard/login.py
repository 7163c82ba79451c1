"""Log in with a token, and log out."""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from jobfn.dashboard.render import Pages
from jobfn.dashboard.security import RequestContext
from jobfn.dashboard.sessions import Sessions
from jobfn.telemetry import logs

#: Maximum number of wrong tokens per minute, from all clients together, that are logged. The right token always works.
MAX_LOGIN_FAILURES_PER_MINUTE: Final = 20


class Login:
    """The login page."""

    def __init__(self, pages: Pages, sessions: Sessions, *, now: Callable[[], float] = time.monotonic) -> None:
        self._pages = pages
        self._sessions = sessions
        self._now = now
        self._failed_at: deque[float] = deque(maxlen=MAX_LOGIN_FAILURES_PER_MINUTE)

    @property
    def routes(self) -> list[Route]:
        """Routes of the page."""
        return [
            Route("/login", self.show, methods=["GET"]),
            Route("/login", self.log_in, methods=["POST"]),
            Route("/logout", self.log_out, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """Handle ``GET /login``."""
        target = safe_redirect(request.query_params.get("next", ""))
        if RequestContext.from_request(request).session.is_logged_in:
            return RedirectResponse(target, 303)
        return self._pages.respond(request, "login.html", {"next": target, "problem": None})

    async def log_in(self, request: Request) -> Response:
        """Handle ``POST /login``: start a new session if the token is right."""
        form = RequestContext.from_request(request).form
        target = safe_redirect(form.one("next"))
        user = self._sessions.find_user(form.one("token"))
        if user is None:
            if len(self._failed_at) == MAX_LOGIN_FAILURES_PER_MINUTE and self._now() - self._failed_at[0] < 60:
                problem = "Too many wrong tokens. Wait a minute and try again."
                return self._pages.respond(request, "login.html", {"next": target, "problem": problem}, status_code=429)
            self._failed_at.append(self._now())
            logs.get_logger("jobfn.dashboard").warning("login failed", client=request.client and request.client.host)
            problem = "Wrong token. The tokens are in JOBFN_DASHBOARD_TOKEN or _TOKENS on the dashboard's host."
            return self._pages.respond(request, "login.html", {"next": target, "problem": problem}, status_code=401)
        logs.get_logger("jobfn.dashboard").info("logged in", user=user.name or None, role=str(user.role))
        response = RedirectResponse(target, 303)
        # A new id prevents session fixation.
        self._sessions.set_cookie(self._sessions.log_in(user), response, request)
        return response

    async def log_out(self, request: Request) -> Response:
        """Handle ``POST /logout``."""
        self._sessions.log_out(RequestContext.from_request(request).session)
        response = RedirectResponse("/login", 303)
        self._sessions.delete_cookie(response, request)
        return response


def safe_redirect(target: str) -> str:
    """Return the target if it is a path on this site, else the start page."""
    is_local = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if is_local else "/"
