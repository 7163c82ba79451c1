r"""Batches of deliveries: several jobs of one task in one request. Pure.

An optional protocol between jobfn workers and jobfn functions (contract, section 7). A function that accepts batches
sends the header ``X-Accept-Batch`` with its responses. The worker then POSTs batches to ``batch_url`` of the task's
URL. Other functions have nothing at that path, so a batch cannot run there by mistake.

Request and response are newline-delimited JSON. The request has two lines for each job: its headers, without those that
are the same for all jobs and therefore headers of the request, and its payload. The response has a line for each job::

    {"X-Job-Id": "7", "X-Job-Attempt": "1"}
    {"id": 42}

    {"job": "7", "status": 200, "seconds": 0.000041}
    {"job": "8", "status": 500, "seconds": 0.000103, "headers": {"x-job-error": "true"}, "body": "{\"message\": …}"}
    {"job": "9", "started": false}
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import pydantic_core

from jobfn.wire.headers import job_headers_from_json

CONTENT_TYPE: Final = "application/x-ndjson"
#: Last segment of the path that accepts batches.
BATCH_PATH_SUFFIX: Final = "/batch"
#: Maximum number of jobs in a request.
MAX_BATCH_JOBS: Final = 50
#: Maximum size of a request: of the payloads that a worker puts into one, and of the body that a function reads.
MAX_PAYLOAD_CHARACTERS: Final = 200_000
MAX_REQUEST_BYTES: Final = 1024 * 1024
#: Handling time that a worker plans for a batch.
PLANNED_SECONDS: Final = 0.02
#: Handling time after which a function starts no further job of a batch and sends the outcomes that it has.
MAX_SECONDS: Final = 0.05
#: Handling time after which a batch lets other requests of its process run.
YIELD_SECONDS: Final = 0.005


class BatchedDelivery(NamedTuple):
    """One job of a batch: its own headers, with the contract's spelling, and its payload."""

    headers: dict[str, str]
    payload: bytes


class BatchedResponse(NamedTuple):
    """The response to one job of a batch.

    Attributes:
        job_id: ``X-Job-Id`` of the job.
        status: HTTP status; None if the job was not started.
        seconds: Duration of validation and handler; None if unknown.
        headers: Headers that matter to a worker, with names in lower case.
        body: Body, empty if it does not matter to a worker.
    """

    job_id: str
    status: int | None
    seconds: float | None = None
    headers: Mapping[str, str] = {}
    body: bytes = b""

    def to_line(self) -> bytes:
        """Return the line of the response."""
        job_id = json.dumps(self.job_id).encode("ascii")
        if self.status is None:
            return b'{"job": %b, "started": false}\n' % job_id
        line = b'{"job": %b, "status": %d' % (job_id, self.status)
        if self.seconds is not None:
            line += b', "seconds": %.6f' % self.seconds
        if self.headers:
            line += b', "headers": ' + json.dumps(dict(self.headers)).encode("ascii")
        if self.body:
            line += b', "body": ' + json.dumps(self.body.decode("utf-8", "replace")).encode("ascii")
        return line + b"}\n"

    @classmethod
    def from_line(cls, line: bytes) -> "BatchedResponse":
        """Parse a line.

        Raises:
            ValueError: This is not a line of a response to a batch.
        """
        content = pydantic_core.from_json(line, allow_inf_nan=False)
        job_id = content.get("job") if isinstance(content, dict) else None
        if not isinstance(job_id, str):
            raise ValueError("a line must be an object with the id of a job")  # noqa: TRY004  - it came over the network
        if content.get("started") is False:
            return cls(job_id, None)
        status = content.get("status")
        if type(status) is not int or not 200 <= status < 600:
            raise ValueError("the status must be a final HTTP status")
        seconds, headers, body = content.get("seconds"), content.get("headers"), content.get("body")
        if headers is None and body is None:  # most lines
            return cls(job_id, status, _duration(seconds))
        return cls(
            job_id,
            status,
            _duration(seconds),
            _lower_case(headers) if isinstance(headers, dict) else {},
            body.encode() if isinstance(body, str) else b"",
        )


def encode_request(jobs: Iterable[tuple[Mapping[str, str], str]]) -> bytes:
    """Return the body of a request with these jobs: headers, and payload as JSON text.

    Line feeds in a payload can only be white space between tokens; they become spaces.
    """
    lines: list[bytes] = []
    for headers, payload in jobs:
        lines += (pydantic_core.to_json(headers), payload.replace("\n", " ").encode())
    return b"\n".join(lines) + b"\n"


def decode_request(body: bytes) -> Iterator[BatchedDelivery]:
    """Return the jobs of a request.

    Raises:
        ValueError: This is not a request with jobs. The message says why.
    """
    lines = body.split(b"\n")
    if lines[-1] == b"":
        del lines[-1]
    if not lines or len(lines) % 2:
        raise ValueError("the body must have two lines per job: its headers and its payload")
    if len(lines) > 2 * MAX_BATCH_JOBS:
        raise ValueError(f"the body must have at most {MAX_BATCH_JOBS} jobs")
    for index in range(0, len(lines), 2):
        try:
            headers = pydantic_core.from_json(lines[index])
        except ValueError:
            raise ValueError(f"line {index + 1} is not valid JSON") from None
        yield BatchedDelivery(job_headers_from_json(headers), lines[index + 1])


def batch_url(url: str) -> str:
    """Return the URL that accepts batches for the task at this URL."""
    parts = urlsplit(url)
    return parts._replace(path=parts.path.rstrip("/") + BATCH_PATH_SUFFIX).geturl()


def _duration(seconds: object) -> float | None:
    try:
        duration = float(seconds) if isinstance(seconds, int | float) else math.nan
    except OverflowError:  # JSON integers may be larger than any float
        return None
    return duration if 0 <= duration < math.inf else None


def _lower_case(headers: Mapping[str, Any]) -> dict[str, str]:
    return {_header_text(name).lower(): _header_text(text) for name, text in headers.items() if isinstance(text, str)}


def _header_text(text: str) -> str:
    """Return the text with the characters that a header can carry."""
    return text if text.isascii() else text.encode("latin-1", "replace").decode("latin-1")
