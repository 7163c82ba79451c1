r"""Reports that travel together: jobfn's own way between a jobfn function and a jobfn callback server. Pure.

A worker that hears batches says where, in ``X-Callback-Batch``; everybody else ignores that and gets one POST for each
report. A batch is the single reports put together, each with the URL, headers and body that it would have had alone,
and each is answered by itself::

    {"reports": [{"url": "http://…/callback", "headers": {"X-Worker-Id": …}, "body": "{\"status\": …}"}, …]}
    {"replies": [{"status": 200, "content": …}, {"status": 409, "content": {"error": …}}, …]}
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jobfn.wire import extract_job_headers


@dataclass(frozen=True, slots=True)
class BatchedReport:
    """One report among others.

    Attributes:
        url: Where it would go alone.
        headers: The job headers that it carries, ``X-Job-Error`` among them.
        body: Its body.
    """

    url: str
    headers: dict[str, str]
    body: bytes

    def to_json(self) -> str:
        """It as a member of a batch, JSON."""
        return json.dumps({"url": self.url, "headers": self.headers, "body": self.body.decode()})

    @classmethod
    def from_json(cls, entry: object) -> "BatchedReport":
        """What one member of a batch says.

        Raises:
            ValueError: It is no report.
        """
        match entry:
            case {"url": str(url), "headers": dict(headers), "body": str(body)}:
                raw = (
                    (str(name).lower().encode(), str(value).encode("utf-8", "replace"))
                    for name, value in headers.items()
                )
                return cls(url, extract_job_headers(raw), body.encode("utf-8", "replace"))
        raise ValueError("a report has url, headers and body")


def encode_batch(reports: Iterable[str]) -> bytes:
    """The body of a batch.

    Args:
        reports: Each as ``BatchedReport.to_json`` gives it.
    """
    return f'{{"reports": [{", ".join(reports)}]}}'.encode("ascii")


def decode_batch(body: bytes) -> Sequence[BatchedReport]:
    """The reports in a batch.

    Raises:
        ValueError: It is none; says why.
    """
    return [BatchedReport.from_json(entry) for entry in _members(body, "reports")]


def decode_statuses(body: bytes, *, count: int) -> Sequence[int]:
    """The statuses in the answer to a batch, in its order.

    Args:
        body: Of the answer.
        count: How many reports there were.

    Raises:
        ValueError: It answers something else.
    """
    statuses = [
        entry["status"]
        for entry in _members(body, "replies")
        if isinstance(entry, dict) and type(entry.get("status")) is int
    ]
    if len(statuses) != count:
        raise ValueError(f"{count} reports were sent, and {len(statuses)} answered")
    return statuses


def _members(body: bytes, name: str) -> list[Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON") from None
    members = content.get(name) if isinstance(content, dict) else None
    if not isinstance(members, list):
        raise ValueError(f"it has no list of {name}")  # noqa: TRY004  - the value came from elsewhere, not from a caller
    return members
