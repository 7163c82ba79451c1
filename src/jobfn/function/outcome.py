"""How a delivery ended, as a value. Pure: a result or an exception comes in, an ``Outcome`` goes out.

The app sends an outcome twice: as the HTTP response and, through ``reporter.py``, as the report. Both say the
same (contract, section 2).
"""

import json
from dataclasses import dataclass
from typing import Any

import pydantic_core

from jobfn.errors import RequestError
from jobfn.wire import Report

SUCCESS = Report("success")
_NULL = b"null"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A delivery's end.

    Attributes:
        status_code: Of the HTTP response.
        body: Of the HTTP response: the handler's result, or ``{"message": ...}``; JSON.
        report: What the callback server is told.
        problem: What the function's own log should hold beside the outcome, if anything.
    """

    status_code: int
    body: bytes
    report: Report
    problem: str | None = None


def succeeded(result: Any) -> Outcome:
    """The handler returned. A result that JSON cannot hold is logged and answered as ``null``.

    It does not fail the job: the work is done, and a failed job would do it again.
    """
    if result is None:
        return Outcome(200, _NULL, SUCCESS)
    try:
        return Outcome(200, pydantic_core.to_json(result), SUCCESS)
    except (ValueError, RecursionError) as error:  # PydanticSerializationError is a ValueError
        reason = f"the result, a {type(result).__name__}, cannot be written as JSON; null was answered: {error}"
        return Outcome(200, _NULL, SUCCESS, problem=reason)


def refused(error: RequestError) -> Outcome:
    """The request was wrong: its own status, a message that says how, and the fields it is about."""
    return _failure(error.status_code, error.message, error.details)


def raised(error: BaseException) -> Outcome:
    """The handler raised: 500 and the exception's message. The traceback stays in the log."""
    message = str(error)
    if isinstance(error, KeyError):
        message = f"KeyError: {message}"
    return _failure(500, message or type(error).__name__)


def timed_out(task: str, seconds: float) -> Outcome:
    """The handler did not end within the task's ``timeout``: 504."""
    return _failure(504, f"{task} did not finish within its timeout of {seconds:g} seconds")


def _failure(status_code: int, message: str, details: list[dict[str, str]] | None = None) -> Outcome:
    content: dict[str, Any] = {"message": message}
    if details:
        content["details"] = details
    return Outcome(status_code, json.dumps(content).encode(), Report("error", message))
