r"""Batches of reports: an optional protocol between jobfn functions and jobfn callback servers. Pure.

A worker that accepts batches sends their URL in ``X-Callback-Batch``. Other functions ignore that header and send one
POST for each report. Each report in a batch has the URL, headers and body that it would have alone, and a reply of its
own. Steps of durable functions (``steps.py``) travel in the same way::

    {"reports": [{"url": "http://…/callback", "headers": {"X-Worker-Id": …}, "body": "{\"status\": …}"}, …]}
    {"replies": [{"status": 200, "content": …}, {"status": 409, "content": {"error": …}}, …]}
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from jobfn.wire.headers import job_headers_from_json

#: Maximum number of reports in a batch.
MAX_BATCH_REPORTS: Final = 200


@dataclass(frozen=True, slots=True)
class BatchedReport:
    """One report in a batch: URL, headers (also ``X-Job-Error``) and body that it would be sent with alone."""

    url: str
    headers: dict[str, str]
    body: bytes

    def to_json(self) -> str:
        """Return the report as a member of a batch."""
        return json.dumps({"url": self.url, "headers": self.headers, "body": self.body.decode()})

    @classmethod
    def from_json(cls, member: object) -> "BatchedReport":
        """Return the report of a batch member.

        Raises:
            ValueError: This is not a report.
        """
        match member:
            case {"url": str(url), "headers": dict(headers), "body": str(body)}:
                return cls(url, job_headers_from_json(headers), body.encode("utf-8", "replace"))
        raise ValueError("a report must have url, headers and body")


class BatchedReply(NamedTuple):
    """The reply to one report in a batch: the HTTP status and the JSON that it would have alone."""

    status: int
    content: object = None


def encode_batch(reports: Iterable[str]) -> bytes:
    """Return the request body of a batch of ``BatchedReport.to_json``."""
    return f'{{"reports": [{", ".join(reports)}]}}'.encode("ascii")


def decode_batch(body: bytes) -> Sequence[BatchedReport]:
    """Return the reports of a batch.

    Raises:
        ValueError: This is not a batch, or it has more than ``MAX_BATCH_REPORTS``. The message says why.
    """
    members = _members(body, "reports")
    if len(members) > MAX_BATCH_REPORTS:
        raise ValueError(f"a batch must have at most {MAX_BATCH_REPORTS} reports, send the others in further ones")
    return [BatchedReport.from_json(member) for member in members]


def decode_replies(body: bytes, *, count: int) -> Sequence[BatchedReply]:
    """Return the replies in the response to a batch of this many reports, in its order.

    Raises:
        ValueError: The response does not have one reply with a status for each report.
    """
    replies = [
        BatchedReply(member["status"], member.get("content"))
        for member in _members(body, "replies")
        if isinstance(member, dict) and type(member.get("status")) is int
    ]
    if len(replies) != count:
        raise ValueError(f"a batch of {count} reports got {len(replies)} replies")
    return replies


def _members(body: bytes, name: str) -> list[Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("the body is not valid JSON") from None
    members = content.get(name) if isinstance(content, dict) else None
    if not isinstance(members, list):
        raise ValueError(f"the body has no list of {name}")  # noqa: TRY004  - the value came over the network
    return members
