"""Who is looking: a signed cookie, and the token that each form carries to show that it came from our own page.

A session is only ever an id and whether it has logged in. Its CSRF token is a signature of that id, so that nothing
is kept on the server, and a restart forgets nobody while the dashboard's token stays the same.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from itsdangerous import BadSignature, Signer, TimestampSigner, URLSafeTimedSerializer
from starlette.requests import HTTPConnection
from starlette.responses import Response

#: Its name ends in the port: browsers keep cookies by host alone, and two projects' dashboards may run on one machine.
_COOKIE = "jobfn_session_{}"
#: The form field, and the header, that carry a CSRF token.
CSRF_FIELD = "csrf_token"
CSRF_HEADER = "X-CSRF-Token"


@dataclass(frozen=True, slots=True)
class Session:
    """One browser's visit.

    Attributes:
        id: Random.
        is_logged_in: Whether it may see jobs.
    """

    id: str
    is_logged_in: bool


class Sessions:
    """Signs sessions and reads them back.

    Args:
        token: The dashboard's token, which is the key too: change it, and everybody is logged out. None: no login is
            asked for, and the key lasts as long as the process.
        max_age_seconds: How long a session is good, in seconds.
        now: Tells the time, in seconds since 1970.
    """

    def __init__(self, token: str | None, *, max_age_seconds: float, now: Callable[[], float] = time.time) -> None:
        self._token = token
        self._max_age_seconds = round(max_age_seconds)
        key = token or secrets.token_urlsafe(32)
        self._serializer = URLSafeTimedSerializer(
            key, salt="jobfn.dashboard.session", signer=_Clocked, signer_kwargs={"now": now}
        )
        self._signer = Signer(key, salt="jobfn.dashboard.csrf", digest_method=hashlib.sha256)

    @property
    def asks_for_login(self) -> bool:
        """Whether a person has to log in."""
        return self._token is not None

    def new(self, *, is_logged_in: bool = False) -> Session:
        """A session that nobody has seen before."""
        return Session(secrets.token_urlsafe(16), is_logged_in or not self.asks_for_login)

    def is_token(self, typed: str) -> bool:
        """Whether this is the dashboard's token; takes the same time for any wrong one."""
        return hmac.compare_digest(typed.encode(), (self._token or "").encode()) and self._token is not None

    def read(self, connection: HTTPConnection) -> Session | None:
        """The session of a request's cookie; None without one, or with one that we did not sign or that is too old."""
        cookie = connection.cookies.get(cookie_of(connection))
        if cookie is None:
            return None
        try:
            content = self._serializer.loads(cookie, max_age=self._max_age_seconds)
        except BadSignature:
            return None
        return Session(str(content["id"]), bool(content["in"]))

    def remember(self, session: Session, response: Response, connection: HTTPConnection) -> None:
        """Give a session to the browser, out of reach of scripts and of other sites; over HTTPS, for HTTPS alone."""
        response.set_cookie(
            cookie_of(connection),
            str(self._serializer.dumps({"id": session.id, "in": session.is_logged_in})),
            max_age=self._max_age_seconds,
            httponly=True,
            samesite="strict",
            secure="https" in {connection.url.scheme, connection.headers.get("X-Forwarded-Proto")},
        )

    def forget(self, response: Response, connection: HTTPConnection) -> None:
        """Take the session from the browser."""
        response.delete_cookie(cookie_of(connection), httponly=True, samesite="strict")

    def csrf_token(self, session: Session) -> str:
        """What the forms of this session carry."""
        return self._signer.get_signature(session.id).decode()

    def is_csrf_token(self, session: Session, sent: str) -> bool:
        """Whether a form came from a page of this session."""
        return hmac.compare_digest(self.csrf_token(session).encode(), sent.encode())


def cookie_of(connection: HTTPConnection) -> str:
    """The name of the cookie that holds a session."""
    return _COOKIE.format((connection.scope.get("server") or ("", ""))[1])


class _Clocked(TimestampSigner):
    """Signs with the time of the clock that it is given."""

    def __init__(self, *args: Any, now: Callable[[], float], **options: Any) -> None:
        super().__init__(*args, **options)
        self._now = now

    def get_timestamp(self) -> int:
        return int(self._now())
