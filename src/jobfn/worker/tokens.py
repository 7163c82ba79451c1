"""Signed callback URLs: a report proves that it comes from whom the job was given to.

The token stands in the path, before the last segment (``.../<token>/callback``), so that functions of both languages
send it back as part of the URL. It names worker, job and attempt; nothing in it is secret, all of it is signed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from itsdangerous import BadSignature, URLSafeTimedSerializer

_SALT = "jobfn.callback"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a token says: this worker holds this job in this attempt."""

    worker_id: str
    job_id: int
    attempt: int


class CallbackTokens:
    """Makes and reads tokens.

    Args:
        secrets: The keys: the first one signs, all of them are accepted.
        max_age_seconds: How old a token may be, in seconds.
    """

    def __init__(self, secrets: Sequence[str], *, max_age_seconds: float) -> None:
        self._serializer = URLSafeTimedSerializer(list(reversed(secrets)), salt=_SALT)  # it signs with the last
        self._max_age_seconds = max_age_seconds

    def url_for(self, callback_url: str, claim: Claim) -> str:
        """The callback URL with the token for this claim before its last segment."""
        token = self._serializer.dumps([claim.worker_id, claim.job_id, claim.attempt])
        parts = urlsplit(callback_url)
        head, _, last = parts.path.rpartition("/")
        return urlunsplit(parts._replace(path=f"{head}/{token}/{last or 'callback'}"))

    def read(self, path: str) -> Claim | None:
        """The claim of the token in a request's path; None where there is no good one."""
        head = path.rpartition("/")[0]
        token = head.rpartition("/")[2]
        try:
            worker_id, job_id, attempt = self._serializer.loads(token, max_age=int(self._max_age_seconds))
        except (BadSignature, ValueError, TypeError):
            return None
        return Claim(worker_id, job_id, attempt)
