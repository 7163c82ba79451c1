"""How a delivery ended, as a value. Pure: a result or an exception comes in, an ``Outcome`` goes out.

The app sends an outcome twice: as the HTTP response and, through ``reporter.py``, as the report. Both say the
same (contract, section 2).
"""

import json
from typing import Any, NamedTuple

import pydantic_core

from jobfn.errors import RequestError
from jobfn.function.retry_policy import DEFAULT_RETRY, Verdict
from jobfn.function.validation_errors import summary
from jobfn.wire import MAX_RESULT_BYTES, RESULT_TOO_LARGE, Failure, Report, StoredResult

SUCCESS = Report("success")
#: Of a message so much is told. The Node callback server reads at most 100 kB, and PostgreSQL keeps it all.
MAX_MESSAGE_CHARACTERS = 10_000
BUSY_STATUS = 429
_NULL = b"null"
_ACCEPTED = b'{"accepted": true}'


class Outcome(NamedTuple):
    """A delivery's end.

    Attributes:
        status_code: Of the HTTP response.
        body: Of the HTTP response: the handler's result, or ``{"message": ...}``; JSON.
        report: What the callback server is told.
        problem: What the function's own log should hold beside the outcome, if anything.
        retry_after_seconds: For the ``Retry-After`` header, where the caller is to come back.
    """

    status_code: int
    body: bytes
    report: Report
    problem: str | None = None
    retry_after_seconds: int | None = None


_NOTHING = Outcome(200, _NULL, SUCCESS)


def succeeded(result: Any, *, keep_seconds: float | None = None) -> Outcome:
    """The handler returned. A result that JSON cannot hold is logged and answered as ``null``.

    It does not fail the job: the work is done, and a failed job would do it again.

    Args:
        result: What it returned.
        keep_seconds: For how long the result is to be kept; None: not at all.
    """
    if keep_seconds is not None:
        return _kept(succeeded(result), keep_seconds)
    if result is None:
        return _NOTHING
    try:
        return Outcome(200, pydantic_core.to_json(result, inf_nan_mode="null"), SUCCESS)
    except Exception as error:  # noqa: BLE001  - a result's own serializers run here, and may raise anything
        kind = type(result).__name__
        reason = f"the result, a {kind}, cannot be written as JSON; null was answered: {message_of(error)}"
        return Outcome(200, _NULL, SUCCESS, problem=reason)


def _kept(ended: Outcome, keep_seconds: float) -> Outcome:
    if ended.problem is not None:
        kept = StoredResult(keep_seconds, problem="its result cannot be written as JSON; the function's log has why")
    elif len(ended.body) > MAX_RESULT_BYTES:
        kept = StoredResult(keep_seconds, problem=RESULT_TOO_LARGE)
    else:
        kept = StoredResult(keep_seconds, ended.body.decode())
    return ended._replace(report=SUCCESS._replace(stored_result=kept))


def accepted() -> Outcome:
    """The handler will run: 202. Its end is reported later, and is no news of now."""
    return Outcome(202, _ACCEPTED, SUCCESS)


def busy(jobs: int) -> Outcome:
    """As many jobs run in the background as may: 429. The worker comes back, and no attempt is lost."""
    message = f"{jobs} jobs run in the background already (JOBFN_MAX_BACKGROUND_JOBS): come back later"
    return _failure(BUSY_STATUS, message)._replace(retry_after_seconds=1)


def refused(error: RequestError, verdict: Verdict = DEFAULT_RETRY) -> Outcome:
    """The request was wrong: its own status, a message that says how, and the fields it is about."""
    return _failure(error.status_code, error.message, verdict, error.details)


def raised(error: BaseException, verdict: Verdict = DEFAULT_RETRY) -> Outcome:
    """The handler raised: 500 and the exception's message. The traceback stays in the log."""
    return _failure(500, message_of(error), verdict)


def validator_error(task: str, error: BaseException) -> Outcome:
    """A validator of the task's own broke: 500. What it says may hold the payload's values, so its kind is told."""
    return _failure(500, f"the validation of {task}'s payload raised {type(error).__name__}; the function's log has it")


def timed_out(task: str, seconds: float, verdict: Verdict = DEFAULT_RETRY) -> Outcome:
    """The handler did not end within the task's ``timeout``: 504."""
    return _failure(504, f"{task} did not finish within its timeout of {seconds:g} seconds", verdict)


def thread_pool_timeout(task: str, seconds: float, threads: int) -> Outcome:
    """A sync handler found no free thread within the task's ``timeout``: 504."""
    return _failure(
        504,
        f"{task} did not start within its timeout of {seconds:g} seconds: "
        f"all {threads} threads were busy (JOBFN_MAX_THREADS)",
    )


def stopped(task: str) -> Outcome:
    """The process was stopped while the handler ran, and did not wait any longer: 503."""
    return _failure(503, f"the function was stopped before {task} finished")


def message_of(error: BaseException) -> str:
    """What an exception says, or its kind where it says nothing; of a group, what all of it says."""
    if isinstance(error, pydantic_core.ValidationError):
        return summary(error)
    try:
        said = str(error)
    except Exception:  # noqa: BLE001  - whoever writes a broken __str__ still gets a report
        said = ""
    if isinstance(error, KeyError):
        return f"KeyError: {said}"
    if isinstance(error, BaseExceptionGroup):
        return f"{said}: {'; '.join(_named(inner) for inner in error.exceptions)}"
    return said or type(error).__name__


def sanitize_message(text: str) -> str:
    """A text that every party can hold: encodable, without the NUL that PostgreSQL refuses, of bounded length."""
    text = text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    if len(text) <= MAX_MESSAGE_CHARACTERS:
        return text
    tail = f"… (cut; {len(text)} characters in all)"
    return text[: MAX_MESSAGE_CHARACTERS - len(tail)] + tail


def _named(error: BaseException) -> str:
    kind, message = type(error).__name__, message_of(error)
    return message if message.startswith(kind) else f"{kind}: {message}"


def _failure(
    status_code: int, message: str, verdict: Verdict = DEFAULT_RETRY, details: list[dict[str, str]] | None = None
) -> Outcome:
    message = sanitize_message(message)
    failure = Failure(message, verdict.permanent, verdict.retry_after_seconds)
    content: dict[str, Any] = {"message": message, **failure.fields()}
    if details:
        content["details"] = details
    return Outcome(status_code, json.dumps(content).encode("ascii"), Report.from_failure(failure))
