"""Signed session cookies and CSRF tokens.

A session consists of an id and whether it is logged in. Its CSRF token is a signature of the id, so the server keeps no
state, and sessions survive a restart as long as the dashboard's token stays the same.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from itsdangerous import BadSignature, Signer, TimestampSigner, URLSafeTimedSerializer
from starlette.requests import HTTPConnection
from starlette.responses import Response

#: Cookie name with the port: browsers share cookies between ports, and a machine may run several dashboards.
_COOKIE: Final = "jobfn_session_{}"
#: The form field and the header of a CSRF token.
CSRF_FIELD: Final = "csrf_token"
CSRF_HEADER: Final = "X-CSRF-Token"


@dataclass(frozen=True, slots=True)
class Session:
    """The session of one browser."""

    id: str
    is_logged_in: bool


class Sessions:
    """Signs and verifies session cookies.

    Args:
        token: The dashboard's token, also the signing key: changing it logs everyone out. None: no login is required,
            and the key is random.
        max_age_seconds: Lifetime of a session, in seconds.
        now: Clock, in seconds since 1970.
    """

    def __init__(self, token: str | None, *, max_age_seconds: float, now: Callable[[], float] = time.time) -> None:
        self._token = token
        self._max_age_seconds = round(max_age_seconds)
        key = token or secrets.token_urlsafe(32)
        self._serializer = URLSafeTimedSerializer(
            key, salt="jobfn.dashboard.session", signer=_ClockSigner, signer_kwargs={"now": now}
        )
        self._signer = Signer(key, salt="jobfn.dashboard.csrf", digest_method=hashlib.sha256)

    def new(self, *, is_logged_in: bool = False) -> Session:
        """Return a new session. Without a token, every session is logged in."""
        return Session(secrets.token_urlsafe(16), is_logged_in or self._token is None)

    def check_token(self, token: str) -> bool:
        """Whether this is the dashboard's token, compared in constant time."""
        return hmac.compare_digest(token.encode(), (self._token or "").encode()) and self._token is not None

    def read(self, connection: HTTPConnection) -> Session | None:
        """Return the session of a request's cookie; None if there is no valid, unexpired cookie."""
        cookie = connection.cookies.get(_cookie_name(connection))
        if cookie is None:
            return None
        try:
            content = self._serializer.loads(cookie, max_age=self._max_age_seconds)
        except BadSignature:
            return None
        return Session(str(content["id"]), bool(content["in"]))

    def set_cookie(self, session: Session, response: Response, connection: HTTPConnection) -> None:
        """Set the session cookie: HttpOnly, SameSite=Strict, and Secure over HTTPS."""
        response.set_cookie(
            _cookie_name(connection),
            str(self._serializer.dumps({"id": session.id, "in": session.is_logged_in})),
            max_age=self._max_age_seconds,
            httponly=True,
            samesite="strict",
            secure="https" in {connection.url.scheme, connection.headers.get("X-Forwarded-Proto")},
        )

    def delete_cookie(self, response: Response, connection: HTTPConnection) -> None:
        """Delete the session cookie."""
        response.delete_cookie(_cookie_name(connection), httponly=True, samesite="strict")

    def csrf_token(self, session: Session) -> str:
        """Return the CSRF token of a session's forms."""
        return self._signer.get_signature(session.id).decode()

    def check_csrf_token(self, session: Session, token: str) -> bool:
        """Whether this is the CSRF token of the session."""
        return hmac.compare_digest(self.csrf_token(session).encode(), token.encode())


def _cookie_name(connection: HTTPConnection) -> str:
    return _COOKIE.format((connection.scope.get("server") or ("", ""))[1])


class _ClockSigner(TimestampSigner):
    """A signer with a custom clock."""

    def __init__(self, *args: Any, now: Callable[[], float], **options: Any) -> None:
        super().__init__(*args, **options)
        self._now = now

    def get_timestamp(self) -> int:
        return int(self._now())
