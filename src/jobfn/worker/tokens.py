"""Signed callback URLs: a report proves that its sender received the job.

The token stands in the path, before the last segment (``.../<token>/callback``), so that functions in any language
send it back as part of the URL. It names worker, job and attempt. It is signed, not encrypted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from itsdangerous import BadSignature, URLSafeTimedSerializer

_SALT = "jobfn.callback"


@dataclass(frozen=True, slots=True)
class Claim:
    """The statement that a worker holds a job in an attempt. None: in any; tokens always have one."""

    worker_id: str
    job_id: int
    attempt: int | None


class CallbackTokens:
    """Signs and verifies claims in callback URLs. The first secret signs, all are accepted."""

    def __init__(self, secrets: Sequence[str], *, max_age_seconds: float) -> None:
        self._serializer = URLSafeTimedSerializer(list(reversed(secrets)), salt=_SALT)  # signs with the last key
        self._max_age_seconds = max_age_seconds

    def url_for(self, callback_url: str, claim: Claim) -> str:
        """Return the callback URL with the token for this claim before its last segment."""
        token = self._serializer.dumps([claim.worker_id, claim.job_id, claim.attempt])
        parts = urlsplit(callback_url)
        head, _, last = parts.path.rpartition("/")
        return urlunsplit(parts._replace(path=f"{head}/{token}/{last or 'callback'}"))

    def verify(self, path: str) -> Claim | None:
        """Return the claim of the token in a request's path; None if there is no valid token."""
        head = path.rpartition("/")[0]
        token = head.rpartition("/")[2]
        try:
            worker_id, job_id, attempt = self._serializer.loads(token, max_age=int(self._max_age_seconds))
        except (BadSignature, ValueError, TypeError):
            return None
        return Claim(worker_id, job_id, attempt)
