"""``Report``: what goes back, to the callback server and in a response (contract, section 2)."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple

import pydantic_core

from jobfn.wire.headers import parse_seconds
from jobfn.wire.names import JOB_ERROR, KEEP_RESULT_SECONDS, RESULT_PROBLEM

#: A result that is larger is not kept. The Node callback server reads at most 100 kB of a report.
MAX_RESULT_BYTES: Final = 64 * 1024
RESULT_TOO_LARGE: Final = (
    f"its result is larger than the {MAX_RESULT_BYTES // 1024} KiB that are kept: store it, and return where"
)
#: Nothing is kept for longer: ten years.
MAX_KEEP_SECONDS: Final = 10 * 365 * 86_400.0


class Failure(NamedTuple):
    """What a failure says beside that it is one: in a report's body, and in a response's (contract, section 2).

    ``permanent`` and ``retryAfterSeconds`` are jobfn's own; the Node server ignores what it does not know.

    Attributes:
        error: Why; None where nothing is said.
        permanent: Whether the job is not to be tried again.
        retry_after_seconds: When it is to be tried again, from now; None: after the contract's backoff.
    """

    error: str | None
    permanent: bool = False
    retry_after_seconds: float | None = None

    @classmethod
    def from_json(cls, body: bytes) -> "Failure":
        """What a body says; anything that is no JSON object, or of another type, says nothing."""
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            return cls(None)
        if not isinstance(content, dict):
            return cls(None)
        error = content.get("error") or content.get("message")
        return cls(
            error=error if isinstance(error, str) or error is None else json.dumps(error),
            permanent=content.get("permanent") is True,
            retry_after_seconds=_seconds_to_wait(content.get("retryAfterSeconds")),
        )

    def fields(self) -> dict[str, object]:
        """Jobfn's own fields, for a body; those that say nothing are left out."""
        fields: dict[str, object] = {"permanent": True} if self.permanent else {}
        if self.retry_after_seconds is not None:
            fields["retryAfterSeconds"] = self.retry_after_seconds
        return fields


class StoredResult(NamedTuple):
    """What a handler returned, on its way to where it is kept.

    A report has three more fields for it, a response two more headers, as its body is the result: all jobfn's own.

    Attributes:
        keep_seconds: For how long it is to be kept.
        result: JSON text, at most ``MAX_RESULT_BYTES``; None where there is a problem.
        problem: Why the result itself is not there.
    """

    keep_seconds: float
    result: str | None = None
    problem: str | None = None

    @classmethod
    def from_report(cls, body: bytes) -> "StoredResult | None":
        """What a report's body says of it; None: nothing. A body that cannot be read says nothing."""
        if b'"keepResultSeconds"' not in body:
            return None
        try:
            content = pydantic_core.from_json(body, allow_inf_nan=False)
        except ValueError:
            return None
        seconds = _seconds_to_wait(content.get("keepResultSeconds")) if isinstance(content, dict) else None
        if not seconds:
            return None
        return cls._bounded(seconds, content.get("result"), content.get("resultProblem"))

    @classmethod
    def from_response(cls, headers: Mapping[str, str], body: bytes) -> "StoredResult | None":
        """What a response says of it: its headers for how long, its body what. None: nothing is to be kept."""
        seconds = parse_seconds(headers.get(KEEP_RESULT_SECONDS))
        if seconds is None:
            return None
        problem = headers.get(RESULT_PROBLEM)
        if problem is not None:
            return cls._bounded(seconds, None, problem)
        try:
            return cls._bounded(seconds, pydantic_core.from_json(body, allow_inf_nan=False), None)
        except ValueError:
            return cls._bounded(seconds, None, "the function answered with what is no JSON")

    @classmethod
    def _bounded(cls, seconds: float, result: object, problem: object) -> "StoredResult":
        """As much of it as is kept, for as long as anything is, whoever sent it."""
        seconds = min(seconds, MAX_KEEP_SECONDS)
        if isinstance(problem, str):
            return cls(seconds, problem=problem.replace("\0", "")[:1000])
        text = json.dumps(result, ensure_ascii=True)
        if len(text) > MAX_RESULT_BYTES:
            return cls(seconds, problem=RESULT_TOO_LARGE)
        return cls(seconds, result=text)

    def headers(self) -> dict[str, str]:
        """What a response says beside its body, which is the result."""
        headers = {KEEP_RESULT_SECONDS: f"{self.keep_seconds:g}"}
        return headers if self.problem is None else headers | {RESULT_PROBLEM: self.problem}

    def fields(self) -> bytes:
        """The fields as they stand in a report's body, after others."""
        said = f', "keepResultSeconds": {self.keep_seconds:g}'
        if self.problem is not None:
            return f'{said}, "resultProblem": {json.dumps(self.problem)}'.encode("ascii")
        return f'{said}, "result": {self.result}'.encode()


class Report(NamedTuple):
    """One delivery's outcome as it is told to the callback server (contract, section 2).

    Attributes:
        status: ``success`` or ``error``.
        error: Why it failed; None on success.
        permanent: See ``Failure``.
        retry_after_seconds: See ``Failure``.
        kept: What the handler returned, where the task keeps it.
    """

    status: Literal["success", "error"]
    error: str | None = None
    permanent: bool = False
    retry_after_seconds: float | None = None
    kept: StoredResult | None = None

    @classmethod
    def from_failure(cls, failure: Failure) -> "Report":
        """The report of a failure."""
        return cls("error", failure.error, failure.permanent, failure.retry_after_seconds)

    def body(self) -> bytes:
        """The request body, JSON."""
        content: dict[str, object] = {"status": self.status}
        if self.error is not None:
            failure = Failure(self.error, self.permanent, self.retry_after_seconds)
            content |= {"error": self.error} | failure.fields()
        body = json.dumps(content).encode("ascii")
        return body if self.kept is None else body[:-1] + self.kept.fields() + b"}"

    def headers(self, echo: Iterable[tuple[str, str]]) -> dict[str, str]:
        """The request headers: the delivery's own, echoed, and ``X-Job-Error`` on failure only."""
        headers = dict(echo)
        headers["Content-Type"] = "application/json"
        if self.status == "error":
            headers[JOB_ERROR] = "true"
        return headers


def is_failure(status_code: int, headers: Mapping[str, str]) -> bool:
    """Whether a function's HTTP response says that the job failed: ``X-Job-Error``, or 400 and more."""
    return status_code >= 400 or headers.get(JOB_ERROR, "").lower() == "true"


def _seconds_to_wait(said: object) -> float | None:
    """A finite number of seconds, 0 or more, out of what a body says; what is no number says nothing."""
    if not isinstance(said, int | float) or isinstance(said, bool):
        return None
    try:
        seconds = float(said)
    except OverflowError:  # JSON has whole numbers of any length
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
