"""Signed callback URLs: a report proves that its sender received the job.

The token stands in the path, before the last segment (``.../<token>/callback``), so that functions in any language
send it back as part of the URL. It names worker, job and attempt. It is signed, not encrypted.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from itsdangerous import BadSignature, TimestampSigner, URLSafeTimedSerializer

_SALT = "jobfn.callback"


@dataclass(frozen=True, slots=True)
class Claim:
    """The statement that a worker holds a job in an attempt. None: in any; tokens always have one."""

    worker_id: str
    job_id: int
    attempt: int | None


@dataclass(frozen=True, slots=True)
class SignedClaim:
    """A claim with a valid signature.

    Attributes:
        has_expired: Whether the token is older than its TTL. Then it is valid only while the attempt has its lease.
    """

    claim: Claim
    has_expired: bool


class CallbackTokens:
    """Signs and verifies claims in callback URLs.

    Args:
        secrets: The first one signs, all are accepted.
        max_age_seconds: TTL of a token.
        clock: Seconds since the epoch.
    """

    def __init__(
        self, secrets: Sequence[str], *, max_age_seconds: float, clock: Callable[[], float] = time.time
    ) -> None:
        class Signer(TimestampSigner):
            def get_timestamp(self) -> int:
                return int(clock())

        keys = list(reversed(secrets))  # it signs with the last key
        self._serializer = URLSafeTimedSerializer(keys, salt=_SALT, signer=Signer)
        self._max_age_seconds = max_age_seconds
        self._clock = clock

    def url_for(self, callback_url: str, claim: Claim) -> str:
        """Return the callback URL with the token for this claim before its last segment."""
        token = self._serializer.dumps([claim.worker_id, claim.job_id, claim.attempt])
        parts = urlsplit(callback_url)
        head, _, last = parts.path.rpartition("/")
        return urlunsplit(parts._replace(path=f"{head}/{token}/{last or 'callback'}"))

    def verify(self, path: str) -> SignedClaim | None:
        """Return the claim of the token in a request's path; None if there is no valid token."""
        head = path.rpartition("/")[0]
        token = head.rpartition("/")[2]
        try:
            (worker_id, job_id, attempt), signed_at = self._serializer.loads(token, return_timestamp=True)
        except (BadSignature, ValueError, TypeError):
            return None
        age_seconds = self._clock() - signed_at.timestamp()
        return SignedClaim(Claim(worker_id, job_id, attempt), has_expired=age_seconds > self._max_age_seconds)
