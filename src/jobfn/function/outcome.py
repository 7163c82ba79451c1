"""``DeliveryOutcome``: the outcome of a delivery as a value. Pure: built from a handler's result or exception.

The app sends an outcome twice: as the HTTP response and, through ``reporter.py``, as the report. Both hold the same
(contract, section 2).
"""

import json
from typing import Any, Final, NamedTuple

import pydantic_core

from jobfn.errors import RequestError
from jobfn.function.retry_policy import DEFAULT_RETRY, RetryDecision
from jobfn.function.validation_errors import summarize
from jobfn.wire import (
    JOB_ERROR,
    JOB_OUTCOME,
    MAX_RESULT_BYTES,
    OUTCOME_PARKED,
    RESULT_TOO_LARGE,
    Failure,
    Report,
    StoredResult,
)
from jobfn.wire.delivery_batch import PLANNED_SECONDS
from jobfn.wire.names import ACCEPT_CANCEL
from jobfn.wire.steps import waiting_for_body

#: Maximum length of an error message. The Node callback server reads at most 100 kB; PostgreSQL stores all of it.
MAX_MESSAGE_CHARACTERS = 10_000
ACCEPTED_STATUS = 202
BUSY_STATUS = 429
#: The job was cancelled. Not registered, but common: the client closed the request.
CANCELLED_STATUS = 499
#: Responses without a report: a caller without the secret must not cause one, a busy function ran nothing, and a
#: cancelled job has ended already.
NO_REPORT_STATUSES: Final = frozenset({401, BUSY_STATUS, CANCELLED_STATUS})
_SUCCESS_REPORT = Report("success")
_NULL = b"null"


class DeliveryOutcome(NamedTuple):
    """The outcome of a delivery.

    Attributes:
        status_code: Status of the HTTP response.
        body: Body of the HTTP response, JSON: the handler's result, or ``{"message": ...}``.
        report: The report to the callback server.
        problem: An error for the function's own log, if any.
        retry_after_seconds: Value of the ``Retry-After`` header, if any.
        is_durable: Whether the handler made durable calls, so that its job should not share a request with others.
    """

    status_code: int
    body: bytes
    report: Report
    problem: str | None = None
    retry_after_seconds: int | None = None
    is_durable: bool = False

    def planned_seconds(self, seconds: float) -> float:
        """Return the handling time that the worker plans further jobs of the task with, from that of this delivery.

        Durable jobs fill a request alone: steps wait for the network, so such jobs run side by side.
        """
        return max(seconds, PLANNED_SECONDS) if self.is_durable else seconds

    def headers(self) -> dict[str, str]:
        """Return the headers of the response that depend on the outcome."""
        stored_result = self.report.stored_result
        headers = {} if stored_result is None else stored_result.headers()
        if self.report.status == "parked":
            headers[JOB_OUTCOME] = OUTCOME_PARKED
        if self.status_code == ACCEPTED_STATUS:
            headers[ACCEPT_CANCEL] = "true"
        if self.status_code >= 400:
            if self.retry_after_seconds is not None:
                headers["Retry-After"] = str(self.retry_after_seconds)
            if self.report.status == "error" and self.status_code != BUSY_STATUS:
                headers[JOB_ERROR] = "true"
        return headers


_NO_RESULT = DeliveryOutcome(200, _NULL, _SUCCESS_REPORT)


def succeeded(result: Any, *, keep_seconds: float | None = None) -> DeliveryOutcome:
    """Return the outcome of a handler that returned: 200 and its result, stored for ``keep_seconds``.

    A result that is not JSON-serializable is logged and replaced with ``null``. It does not fail the job: the work is
    done, and a retry would do it again.
    """
    if keep_seconds is not None:
        return _attach_result_to_report(succeeded(result), keep_seconds)
    if result is None:
        return _NO_RESULT
    try:
        return DeliveryOutcome(200, pydantic_core.to_json(result, inf_nan_mode="null"), _SUCCESS_REPORT)
    except Exception as error:  # noqa: BLE001  - a result's own serializers may raise anything
        problem = f"the result ({type(result).__name__}) is not JSON-serializable, sent null: {message_of(error)}"
        return DeliveryOutcome(200, _NULL, _SUCCESS_REPORT, problem=problem)


def _attach_result_to_report(outcome: DeliveryOutcome, keep_seconds: float) -> DeliveryOutcome:
    if outcome.problem is not None:
        stored = StoredResult(keep_seconds, problem="its result is not JSON-serializable: see the function's log")
    elif len(outcome.body) > MAX_RESULT_BYTES:
        stored = StoredResult(keep_seconds, problem=RESULT_TOO_LARGE)
    else:
        stored = StoredResult(keep_seconds, outcome.body.decode())
    return outcome._replace(report=_SUCCESS_REPORT._replace(stored_result=stored))


def accepted() -> DeliveryOutcome:
    """Return the response to a background job: 202. Its outcome is reported later."""
    return DeliveryOutcome(ACCEPTED_STATUS, b'{"accepted": true}', _SUCCESS_REPORT)


def parked(waiting_for: tuple[int, ...]) -> DeliveryOutcome:
    """Return the outcome of a durable handler that waits: 200, and the groups of steps that it waits for."""
    report = Report("parked", waiting_for=waiting_for)
    return DeliveryOutcome(200, waiting_for_body(waiting_for), report, is_durable=True)


def failed(
    status_code: int,
    message: str,
    decision: RetryDecision = DEFAULT_RETRY,
    details: list[dict[str, str]] | None = None,
    traceback: str | None = None,
) -> DeliveryOutcome:
    """Return the outcome of a delivery that failed: the status, the message and the retry decision."""
    message = sanitize_message(message)
    failure = Failure(
        message, decision.permanent, decision.retry_after_seconds, decision.snooze_max_age_seconds, traceback
    )
    content: dict[str, Any] = {"message": message, "code": f"F{status_code}", **failure.fields()}
    if details:
        content["details"] = details
    return DeliveryOutcome(status_code, json.dumps(content).encode("ascii"), Report.from_failure(failure))


def busy(max_jobs: int) -> DeliveryOutcome:
    """Return the outcome at the limit of background jobs: 429. The worker retries; the attempt does not count."""
    message = f"{max_jobs} background jobs are running already (JOBFN_MAX_BACKGROUND_JOBS): retry later"
    return failed(BUSY_STATUS, message)._replace(retry_after_seconds=1)


def cancelled() -> DeliveryOutcome:
    """Return the outcome of a job that was cancelled while its handler ran, whatever the handler did: 499."""
    return failed(CANCELLED_STATUS, "the job was cancelled")


def refused(error: RequestError, decision: RetryDecision = DEFAULT_RETRY) -> DeliveryOutcome:
    """Return the outcome of an invalid request: the error's status, message and details."""
    return failed(error.status_code, error.message, decision, error.details)


def raised(
    error: BaseException, decision: RetryDecision = DEFAULT_RETRY, traceback: str | None = None
) -> DeliveryOutcome:
    """Return the outcome of a handler that raised: 500, its message, and the traceback that is to be sent."""
    return failed(500, message_of(error), decision, traceback=traceback)


def message_of(error: BaseException) -> str:
    """Return an exception's message, or its type if it has none; for a group, all messages."""
    if isinstance(error, pydantic_core.ValidationError):
        return summarize(error)
    try:
        message = str(error)
    except Exception:  # noqa: BLE001  - a broken __str__ must not prevent the report
        message = ""
    if isinstance(error, KeyError):
        return f"KeyError: {message}"
    if isinstance(error, BaseExceptionGroup):
        return f"{message}: {'; '.join(_qualified_message(inner) for inner in error.exceptions)}"
    return message or type(error).__name__


def sanitize_message(text: str) -> str:
    """Return a message that every party can store: valid UTF-8, without NUL (PostgreSQL), of bounded length."""
    text = text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    if len(text) <= MAX_MESSAGE_CHARACTERS:
        return text
    tail = f"… (truncated from {len(text)} characters)"
    return text[: MAX_MESSAGE_CHARACTERS - len(tail)] + tail


def _qualified_message(error: BaseException) -> str:
    kind, message = type(error).__name__, message_of(error)
    return message if message.startswith(kind) else f"{kind}: {message}"
