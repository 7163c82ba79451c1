"""``Report``: the outcome of a job, as sent to the callback server and in a response (contract, section 2)."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple

import pydantic_core

from jobfn.wire.headers import parse_seconds
from jobfn.wire.names import JOB_ERROR, JOB_OUTCOME, KEEP_RESULT_SECONDS, OUTCOME_PARKED, RESULT_PROBLEM
from jobfn.wire.steps import waiting_for_body

#: Maximum size of a stored result. The Node callback server reads at most 100 kB of a report.
MAX_RESULT_BYTES: Final = 64 * 1024
RESULT_TOO_LARGE: Final = (
    f"the result is larger than the {MAX_RESULT_BYTES // 1024} KiB limit: store it elsewhere and return a reference"
)
RESULT_NOT_PORTABLE: Final = "the result holds a number that is out of range, or is nested too deeply"
#: Maximum retention of a result: ten years.
MAX_KEEP_SECONDS: Final = 10 * 365 * 86_400.0
#: Maximum length of an error message, as in ``jobs.last_error``: logs must not hold more either.
_MAX_ERROR_CHARACTERS: Final = 10_000
#: Maximum length of a traceback: the end is kept.
MAX_TRACEBACK_CHARACTERS: Final = 16 * 1024
#: Maximum length of the reason why a result is not stored.
_MAX_PROBLEM_CHARACTERS: Final = 1000


class Failure(NamedTuple):
    """Details of a failure, in the body of a report or response (contract, section 2).

    All but the error are additions of jobfn; the Node server ignores them.

    Attributes:
        permanent: Whether the job is not to be retried.
        retry_after_seconds: Delay before the next attempt. None: the contract's backoff.
        snooze_max_age_seconds: The attempt does not count unless the job's first snooze is longer ago. None: it counts.
        traceback: The lines of code that failed, without values of variables.
    """

    error: str | None
    permanent: bool = False
    retry_after_seconds: float | None = None
    snooze_max_age_seconds: float | None = None
    traceback: str | None = None

    @classmethod
    def from_json(cls, body: bytes) -> "Failure":
        """Parse a body. Missing or invalid fields, and bodies that are not a JSON object, have no effect."""
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            return cls(None)
        if not isinstance(content, dict):
            return cls(None)
        error = content.get("error") or content.get("message")
        traceback = content.get("traceback")
        return cls(
            error=None
            if error is None
            else (error if isinstance(error, str) else json.dumps(error))[:_MAX_ERROR_CHARACTERS],
            permanent=content.get("permanent") is True,
            retry_after_seconds=_parse_delay(content.get("retryAfterSeconds")),
            snooze_max_age_seconds=_parse_delay(content.get("snoozeMaxAgeSeconds")),
            traceback=traceback[-MAX_TRACEBACK_CHARACTERS:] if isinstance(traceback, str) and traceback else None,
        )

    def fields(self) -> dict[str, object]:
        """Return jobfn's additional fields of a body, without those that have their default value."""
        fields: dict[str, object] = {"permanent": True} if self.permanent else {}
        if self.retry_after_seconds is not None:
            fields["retryAfterSeconds"] = self.retry_after_seconds
        if self.snooze_max_age_seconds is not None:
            fields["snoozeMaxAgeSeconds"] = self.snooze_max_age_seconds
        if self.traceback is not None:
            fields["traceback"] = self.traceback
        return fields


class StoredResult(NamedTuple):
    """A handler's result that is to be stored: an addition of jobfn.

    A report carries it in three more fields, a response in two more headers and its body.

    Attributes:
        keep_seconds: Retention in seconds.
        result: JSON text of at most ``MAX_RESULT_BYTES``, or None if there is a problem.
        problem: Why the result is not stored.
    """

    keep_seconds: float
    result: str | None = None
    problem: str | None = None

    @classmethod
    def from_report(cls, body: bytes) -> "StoredResult | None":
        """Parse the body of a report. Return None if it has no result to store or is not valid JSON."""
        if b'"keepResultSeconds"' not in body:
            return None
        try:
            content = pydantic_core.from_json(body, allow_inf_nan=False)
        except ValueError:
            return None
        seconds = _parse_delay(content.get("keepResultSeconds")) if isinstance(content, dict) else None
        if not seconds:
            return None
        return cls._limited(seconds, content.get("result"), content.get("resultProblem"))

    @classmethod
    def from_response(cls, headers: Mapping[str, str], body: bytes) -> "StoredResult | None":
        """Parse a response. Return None if its result is not to be stored."""
        seconds = parse_seconds(headers.get(KEEP_RESULT_SECONDS))
        if seconds is None:
            return None
        problem = headers.get(RESULT_PROBLEM)
        if problem is not None:
            return cls._limited(seconds, None, problem)
        try:
            return cls._limited(seconds, pydantic_core.from_json(body, allow_inf_nan=False), None)
        except ValueError:
            return cls._limited(seconds, None, "the function's response is not valid JSON")

    @classmethod
    def _limited(cls, seconds: float, result: object, problem: object) -> "StoredResult":
        """Apply the maximum retention and sizes."""
        seconds = min(seconds, MAX_KEEP_SECONDS)
        if isinstance(problem, str):
            return cls(seconds, problem=problem.replace("\0", "")[:_MAX_PROBLEM_CHARACTERS])
        try:
            text = json.dumps(result, ensure_ascii=True, allow_nan=False)
        except (ValueError, RecursionError):  # such as 1e400, which is read as infinity
            return cls(seconds, problem=RESULT_NOT_PORTABLE)
        if len(text) > MAX_RESULT_BYTES:
            return cls(seconds, problem=RESULT_TOO_LARGE)
        return cls(seconds, result=text)

    def headers(self) -> dict[str, str]:
        """Return the headers of a response whose body is the result."""
        headers = {KEEP_RESULT_SECONDS: f"{self.keep_seconds:g}"}
        return headers if self.problem is None else headers | {RESULT_PROBLEM: self.problem}

    def fields(self) -> bytes:
        """Return the fields of a report's body as JSON text that follows other fields."""
        keep_seconds = f', "keepResultSeconds": {self.keep_seconds:g}'
        if self.problem is not None:
            return f'{keep_seconds}, "resultProblem": {json.dumps(self.problem)}'.encode("ascii")
        return f'{keep_seconds}, "result": {self.result}'.encode()


class Report(NamedTuple):
    """Outcome of a job, as reported to the callback server (contract, section 2)."""

    status: Literal["success", "error", "parked"]
    error: str | None = None
    permanent: bool = False
    retry_after_seconds: float | None = None
    stored_result: StoredResult | None = None
    snooze_max_age_seconds: float | None = None
    waiting_for: tuple[int, ...] = ()
    traceback: str | None = None

    @classmethod
    def from_failure(cls, failure: Failure) -> "Report":
        """Return the report of a failure."""
        return cls(
            "error",
            failure.error,
            failure.permanent,
            failure.retry_after_seconds,
            snooze_max_age_seconds=failure.snooze_max_age_seconds,
            traceback=failure.traceback,
        )

    def body(self) -> bytes:
        """Return the request body, JSON."""
        if self.status == "parked":
            return waiting_for_body(self.waiting_for)
        content: dict[str, object] = {"status": self.status}
        if self.error is not None:
            failure = Failure(
                self.error, self.permanent, self.retry_after_seconds, self.snooze_max_age_seconds, self.traceback
            )
            content |= {"error": self.error} | failure.fields()
        body = json.dumps(content).encode("ascii")
        return body if self.stored_result is None else body[:-1] + self.stored_result.fields() + b"}"

    def headers(self, echo: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Return the request headers: those of the delivery, echoed, and ``X-Job-Error`` on failure."""
        headers = dict(echo)
        headers["Content-Type"] = "application/json"
        if self.status == "error":
            headers[JOB_ERROR] = "true"
        elif self.status == "parked":
            headers[JOB_OUTCOME] = OUTCOME_PARKED
        return headers


def is_failure(status_code: int, headers: Mapping[str, str]) -> bool:
    """Return whether a function's response means that the job failed: ``X-Job-Error``, or a status of at least 400."""
    return status_code >= 400 or headers.get(JOB_ERROR, "").lower() == "true"


def _parse_delay(value: object) -> float | None:
    """Return a finite number of seconds, 0 or more, or None if the JSON value is not a number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        seconds = float(value)
    except OverflowError:  # JSON integers may be larger than any float
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
