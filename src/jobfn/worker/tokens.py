"""Signed callback URLs: a report proves that its sender received the job.

The token stands in the query of the callback URL (``.../callback?token=...&/callback``), so that functions in any
language send it back as part of the URL, and the platform's callback server, which knows only ``/callback``, ignores
it. It names the jobs of one delivery with their attempts, and then the tags of their rows in the same order:
``<time>.<job>-<attempt>_<job>-<attempt>_r<tag>_r<tag>.<signature>``. A failover that lost transactions may assign the
id of a job again: the tag shows that it is another row. The signature also covers the worker, whose id is a header of
the report. Tokens are signed, not encrypted.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

#: Separates these signatures from others with the same secret.
_PURPOSE = b"jobfn.callback"
#: Share of the TTL after which a batch URL gets a new token, so that each one is valid for the rest of the TTL.
_BATCH_RENEWAL_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Claim:
    """The statement that a worker holds a job in an attempt. None: in any; tokens always have one.

    ``row_tag`` is that of the job (``Job.row_tag``); None: any.
    """

    worker_id: str
    job_id: int
    attempt: int | None
    row_tag: int | None = None


@dataclass(frozen=True, slots=True)
class SignedClaim:
    """A claim with a valid signature.

    Attributes:
        claim: The claim.
        has_expired: Whether the token is older than its TTL. Then it is valid only while the attempt has its lease.
    """

    claim: Claim
    has_expired: bool


class CallbackTokens:
    """Signs and verifies the tokens in callback URLs.

    Args:
        secrets: The first one signs, all are accepted.
        max_age_seconds: TTL of a token.
        clock: Seconds since the epoch.
        accepts_unsigned_workers: Whether reports without a token are accepted for jobs that a worker locked without a
            lease. jobfn's worker always has a lease; the platform's has none, and signs no URLs.
    """

    def __init__(
        self,
        secrets: Sequence[str],
        *,
        max_age_seconds: float,
        clock: Callable[[], float] = time.time,
        accepts_unsigned_workers: bool = False,
    ) -> None:
        # Copies of a keyed BLAKE2b cost a quarter of an HMAC, once for each delivery.
        self._macs = [
            hashlib.blake2b(key=hashlib.sha256(secret.encode()).digest(), person=_PURPOSE, digest_size=32)
            for secret in secrets
        ]
        self._max_age_seconds = max_age_seconds
        self._clock = clock
        self.accepts_unsigned_workers = accepts_unsigned_workers
        self._batch_token = ("", "", 0.0)

    def sign(self, worker_id: str, jobs: Iterable[tuple[int, int]], row_tags: Iterable[int | None] = ()) -> str:
        """Return a token for jobs of a worker, given as id and attempt, and the tags of their rows."""
        names = [f"{job_id}-{attempt}" for job_id, attempt in jobs]
        names += ["r" if tag is None else f"r{tag:x}" for tag in row_tags]
        head = f"{int(self._clock()):x}.{'_'.join(names)}"
        return f"{head}.{_signature(self._macs[0], head, worker_id)}"

    def sign_batches(self, worker_id: str) -> str:
        """Return a token for batches of reports about jobs of a worker. It stays the same for a while."""
        token, signed_for, renew_at = self._batch_token
        now = self._clock()
        if signed_for != worker_id or now >= renew_at:
            token = self.sign(worker_id, ())
            self._batch_token = token, worker_id, now + self._max_age_seconds * _BATCH_RENEWAL_SHARE
        return token

    def verify(self, token: str, worker_id: str, job_id: int) -> SignedClaim | None:
        """Return the claim of a token for a job; None if the token is not valid for it."""
        verified = self._verify(token, worker_id)
        if verified is None:
            return None
        text, has_expired = verified
        names, prefix = text.split("_"), f"{job_id}-"
        index = next((index for index, name in enumerate(names) if name.startswith(prefix)), None)
        if index is None:
            return None
        tags = [name[1:] for name in names if name.startswith("r")]
        tag = int(tags[index], 16) if index < len(tags) and tags[index] else None
        return SignedClaim(Claim(worker_id, job_id, int(names[index].removeprefix(prefix)), tag), has_expired)

    def verify_batches(self, token: str, worker_id: str) -> bool:
        """Return whether a token is valid for batches of reports of a worker, and has not expired."""
        return self._verify(token, worker_id) == ("", False)

    def _verify(self, token: str, worker_id: str) -> tuple[str, bool] | None:
        """Return the jobs that a token names, and whether it has expired; None if its signature is wrong."""
        head, _, signature = token.rpartition(".")
        sent = signature.encode("utf-8", "replace")
        matches = [hmac.compare_digest(sent, _signature(mac, head, worker_id).encode("ascii")) for mac in self._macs]
        if not any(matches):
            return None
        signed_at, _, names = head.partition(".")
        return names, self._clock() - int(signed_at, 16) > self._max_age_seconds


def _signature(mac: "hashlib.blake2b", head: str, worker_id: str) -> str:
    mac = mac.copy()
    mac.update(f"{head}\n{worker_id}".encode("utf-8", "surrogatepass"))
    return base64.urlsafe_b64encode(mac.digest()).rstrip(b"=").decode("ascii")
