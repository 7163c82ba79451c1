"""Sessions and CSRF tokens. The logins are in memory: a restart of the dashboard ends them.

The cookie holds only a random id. A session's CSRF token is a signature of the id, by a key that this process made.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.requests import HTTPConnection
from starlette.responses import Response

#: Cookie name with the port: browsers share cookies between ports, and a machine may run several dashboards.
_COOKIE: Final = "jobfn_session_{}"
_ID_BYTES: Final = 16
_ID_CHARACTERS: Final = 22
#: Maximum number of logins. Each further one ends the oldest.
MAX_LOGINS: Final = 1000
#: The form field and the header of a CSRF token.
CSRF_FIELD: Final = "csrf_token"
CSRF_HEADER: Final = "X-CSRF-Token"


@dataclass(frozen=True, slots=True)
class Session:
    """The session of one browser."""

    id: str
    is_logged_in: bool


class Sessions:
    """Starts, finds and ends sessions.

    Args:
        token: The dashboard's token. None: no login is required.
        max_age_seconds: Lifetime of a login, in seconds.
        now: Monotonic clock, in seconds.
    """

    def __init__(self, token: str | None, *, max_age_seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._token = token
        self._max_age_seconds = round(max_age_seconds)
        self._now = now
        self._csrf_key = secrets.token_bytes(32)
        self._logins: dict[str, float] = {}

    def new(self) -> Session:
        """Return a new session. Without a token, every session is logged in."""
        return Session(secrets.token_urlsafe(_ID_BYTES), self._token is None)

    def log_in(self) -> Session:
        """Return a new session that is logged in."""
        session = Session(secrets.token_urlsafe(_ID_BYTES), is_logged_in=True)
        if len(self._logins) >= MAX_LOGINS:
            del self._logins[next(iter(self._logins))]
        self._logins[session.id] = self._now() + self._max_age_seconds
        return session

    def log_out(self, session: Session) -> None:
        """End a login: its cookie is of no use any more."""
        self._logins.pop(session.id, None)

    def check_token(self, token: str) -> bool:
        """Whether this is the dashboard's token, compared in constant time."""
        return hmac.compare_digest(token.encode(), (self._token or "").encode()) and self._token is not None

    def read(self, connection: HTTPConnection) -> Session | None:
        """Return the session of a request's cookie; None if there is no cookie."""
        session_id = connection.cookies.get(_cookie_name(connection), "")
        if len(session_id) != _ID_CHARACTERS or not session_id.isascii():
            return None
        return Session(session_id, self._token is None or self._logins.get(session_id, -1.0) > self._now())

    def set_cookie(self, session: Session, response: Response, connection: HTTPConnection) -> None:
        """Set the session cookie: HttpOnly, SameSite=Strict, and Secure over HTTPS."""
        response.set_cookie(
            _cookie_name(connection),
            session.id,
            max_age=self._max_age_seconds,
            httponly=True,
            samesite="strict",
            secure="https" in {connection.scope["scheme"], connection.headers.get("X-Forwarded-Proto")},
        )

    def delete_cookie(self, response: Response, connection: HTTPConnection) -> None:
        """Delete the session cookie."""
        response.delete_cookie(_cookie_name(connection), httponly=True, samesite="strict")

    def csrf_token(self, session: Session) -> str:
        """Return the CSRF token of a session's forms."""
        return hmac.new(self._csrf_key, session.id.encode(), hashlib.sha256).hexdigest()

    def check_csrf_token(self, session: Session, token: str) -> bool:
        """Whether this is the CSRF token of the session."""
        return hmac.compare_digest(self.csrf_token(session).encode(), token.encode())


def _cookie_name(connection: HTTPConnection) -> str:
    return _COOKIE.format((connection.scope.get("server") or ("", ""))[1])
