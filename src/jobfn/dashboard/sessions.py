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

from jobfn.dashboard.users import ANYONE, Role, User, find_user

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
    user: User | None = None

    @property
    def actor(self) -> str:
        """The name of the user."""
        return (self.user is not None and self.user.name) or ANYONE

    @property
    def is_viewer(self) -> bool:
        """Whether the user may change nothing."""
        return self.user is not None and self.user.role is Role.VIEWER


class Sessions:
    """Starts, finds and ends sessions.

    Args:
        users: The users who can log in. Empty: no login is required.
        max_age_seconds: Lifetime of a login, in seconds.
        now: Monotonic clock, in seconds.
    """

    def __init__(
        self, users: tuple[User, ...], *, max_age_seconds: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._users = users
        self._max_age_seconds = round(max_age_seconds)
        self._now = now
        self._csrf_key = secrets.token_bytes(32)
        self._logins: dict[str, tuple[float, User]] = {}

    def new(self) -> Session:
        """Return a new session. Without users, every session is logged in."""
        return Session(secrets.token_urlsafe(_ID_BYTES), not self._users)

    def log_in(self, user: User) -> Session:
        """Return a new session of a user."""
        session = Session(secrets.token_urlsafe(_ID_BYTES), is_logged_in=True, user=user)
        if len(self._logins) >= MAX_LOGINS:
            del self._logins[next(iter(self._logins))]
        self._logins[session.id] = self._now() + self._max_age_seconds, user
        return session

    def log_out(self, session: Session) -> None:
        """End a login: its cookie is of no use any more."""
        self._logins.pop(session.id, None)

    def find_user(self, token: str) -> User | None:
        """Return the user with this token; None if nobody has it."""
        return find_user(self._users, token)

    def read(self, connection: HTTPConnection) -> Session | None:
        """Return the session of a request's cookie; None if there is no cookie."""
        session_id = connection.cookies.get(_cookie_name(connection), "")
        if len(session_id) != _ID_CHARACTERS or not session_id.isascii():
            return None
        ends_at, user = self._logins.get(session_id, (-1.0, None))
        if ends_at > self._now():
            return Session(session_id, is_logged_in=True, user=user)
        return Session(session_id, is_logged_in=not self._users)

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
