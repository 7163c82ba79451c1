"""Results and exceptions as outcomes: the status, the body, and the report that says the same."""

import dataclasses
import datetime as dt
import json
import math
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, TypeAdapter, model_serializer

from jobfn.errors import InvalidPayload, RequestError, UnknownTask
from jobfn.function import outcome
from jobfn.function.outcome import MAX_MESSAGE_CHARACTERS, DeliveryOutcome, message_of, sanitize_message
from jobfn.wire import Report
from support.function_app import SECRET

INTEGER = "Input should be a valid integer, unable to parse string as an integer"


class Model(BaseModel):
    a: int = 1


@dataclasses.dataclass
class Data:
    a: int = 1


@pytest.mark.parametrize(
    ("result", "body"),
    [
        (None, b"null"),
        ({"a": [1, True, None]}, b'{"a":[1,true,null]}'),
        (Model(), b'{"a":1}'),
        (Data(), b'{"a":1}'),
        ("ü", '"ü"'.encode()),
        (dt.date(2020, 1, 2), b'"2020-01-02"'),
        (Decimal("1.50"), b'"1.50"'),
        (UUID(int=0), b'"00000000-0000-0000-0000-000000000000"'),
        ((1, 2), b"[1,2]"),
        ({"n": math.nan, "i": math.inf}, b'{"n":null,"i":null}'),
    ],
)
def test_a_result_is_answered_as_json(result: object, body: bytes) -> None:
    """200, the result, a report of success."""
    assert outcome.succeeded(result) == DeliveryOutcome(200, body, Report("success"))


class Explosive(BaseModel):
    @model_serializer
    def _no(self) -> dict[str, Any]:
        raise KeyError("serializer")


circular: list[Any] = []
circular.append(circular)


@pytest.mark.parametrize("result", [object(), circular, Explosive(), b"\xff", {"f": lambda: None}])
def test_a_result_that_is_no_json_does_not_fail_the_job(result: object) -> None:
    """The work is done: 200, null, success; the function's log is told."""
    found = outcome.succeeded(result)
    assert (found.status_code, found.body, found.report) == (200, b"null", Report("success"))
    assert found.problem is not None
    assert "is not JSON-serializable, sent null" in found.problem


@pytest.mark.parametrize(
    ("error", "content"),
    [
        (UnknownTask("No task"), {"message": "No task"}),
        (
            InvalidPayload("no", details=[{"field": "a", "problem": "p"}]),
            {"message": "no", "details": [{"field": "a", "problem": "p"}]},
        ),
    ],
)
def test_a_refusal_has_its_status_and_its_details(error: RequestError, content: dict[str, Any]) -> None:
    """The error's own status; the report says the message."""
    found = outcome.refused(error)
    assert (found.status_code, json.loads(found.body)) == (error.status_code, content)
    assert found.report == Report("error", error.message)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def invalid() -> Exception:
    """A ValidationError as a handler may run into."""
    try:
        TypeAdapter(dict[str, int]).validate_python({"a": SECRET, "b": "c"})
    except ValueError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("the mail server said no"), "the mail server said no"),
        (ValueError(), "ValueError"),
        (KeyError("customer"), "KeyError: 'customer'"),
        (SystemExit(3), "3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (Unspeakable(), "Unspeakable"),
        (OSError(2, "No such file or directory", "x"), "[Errno 2] No such file or directory: 'x'"),
        (
            ExceptionGroup("two", [ValueError("a"), ExceptionGroup("deep", [KeyError("b"), OSError()])]),
            "two (2 sub-exceptions): ValueError: a; ExceptionGroup: deep (2 sub-exceptions): KeyError: 'b'; OSError",
        ),
        (BaseExceptionGroup("g", [KeyboardInterrupt()]), "g (1 sub-exception): KeyboardInterrupt"),
        (
            invalid(),
            f"2 validation errors for dict[str,int]: a: {INTEGER}; b: {INTEGER}",
        ),
    ],
)
def test_an_exception_s_message_is_told(error: BaseException, message: str) -> None:
    """500 and what it says, or its kind; a group says all it holds, a ValidationError no values."""
    found = outcome.raised(error)
    assert (found.status_code, json.loads(found.body)) == (500, {"message": message})
    assert found.report == Report("error", message)


def test_a_long_validation_error_of_a_handler_is_cut() -> None:
    """Twenty mismatches are listed, the rest is counted."""
    with pytest.raises(ValueError, match="100 validation errors") as caught:
        TypeAdapter(list[int]).validate_python(["x"] * 100)
    assert message_of(caught.value).endswith("as an integer; and 80 more")


@pytest.mark.parametrize(
    ("found", "status", "message"),
    [
        (outcome.timed_out("charge", 1.5), 504, "charge did not finish within its timeout of 1.5 seconds"),
        (
            outcome.thread_pool_timeout("charge", 2, 16),
            504,
            "charge did not start within its timeout of 2 seconds: all 16 threads were busy (JOBFN_MAX_THREADS)",
        ),
        (outcome.stopped("charge"), 503, "the function was stopped before charge finished"),
        (
            outcome.validator_error("charge", KeyError(SECRET)),
            500,
            "validating charge's payload raised KeyError: see the function's log",
        ),
    ],
)
def test_the_other_ends(found: DeliveryOutcome, status: int, message: str) -> None:
    """Time over, process stopped, payload validator crashedn."""
    assert (found.status_code, json.loads(found.body)) == (status, {"message": message})
    assert found.report == Report("error", message)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("fine ü", "fine ü"),
        ("nul \0 in it", "nul \N{REPLACEMENT CHARACTER} in it"),
        ("half \ud800 a pair", "half ? a pair"),
        ("x" * MAX_MESSAGE_CHARACTERS, "x" * MAX_MESSAGE_CHARACTERS),
    ],
)
def test_a_message_is_made_presentable(text: str, shown: str) -> None:
    """What PostgreSQL and UTF-8 cannot hold is replaced."""
    assert sanitize_message(text) == shown


def test_an_endless_message_is_cut() -> None:
    """Body and report stay below what callback servers read, even where each character takes six bytes."""
    found = outcome.raised(ValueError("\x01" * 1_000_000))
    assert found.report.error is not None
    assert len(found.report.error) == MAX_MESSAGE_CHARACTERS
    assert found.report.error.endswith("… (truncated from 1000000 characters)")
    assert len(found.report.body()) < 100_000
