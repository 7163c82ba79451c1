"""Outcomes of results and exceptions: status, body and report."""

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
from jobfn.function import outcome as outcomes
from jobfn.function.outcome import MAX_MESSAGE_CHARACTERS, DeliveryOutcome, message_of, sanitize_message
from jobfn.wire import Report
from support.function_app import SECRET

NOT_AN_INTEGER = "Input should be a valid integer, unable to parse string as an integer"


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
        ({"n": math.nan, "i": math.inf}, b'{"n":null,"i":null}'),
    ],
)
def test_result_is_the_body_as_json(result: object, body: bytes) -> None:
    assert outcomes.succeeded(result) == DeliveryOutcome(200, body, Report("success"))


class BrokenSerializer(BaseModel):
    @model_serializer
    def _serialize(self) -> dict[str, Any]:
        raise KeyError("serializer")


circular: list[Any] = []
circular.append(circular)


@pytest.mark.parametrize("result", [object(), circular, BrokenSerializer(), b"\xff"])
def test_result_that_is_not_json_serializable_succeeds_with_null_and_a_problem(result: object) -> None:
    outcome = outcomes.succeeded(result)
    assert (outcome.status_code, outcome.body, outcome.report) == (200, b"null", Report("success"))
    assert outcome.problem is not None
    assert "is not JSON-serializable, sent null" in outcome.problem


@pytest.mark.parametrize(
    ("error", "content"),
    [
        (UnknownTask("No task"), {"message": "No task", "code": "F404"}),
        (
            InvalidPayload("no", details=[{"field": "a", "problem": "p"}]),
            {"message": "no", "code": "F422", "details": [{"field": "a", "problem": "p"}]},
        ),
    ],
)
def test_refused_request_has_the_status_and_details_of_its_error(error: RequestError, content: dict[str, Any]) -> None:
    outcome = outcomes.refused(error)
    assert (outcome.status_code, json.loads(outcome.body)) == (error.status_code, content)
    assert outcome.report == Report("error", error.message)


class BrokenStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def validation_error(annotation: Any, value: object) -> ValueError:
    with pytest.raises(ValueError, match="validation error") as caught:
        TypeAdapter(annotation).validate_python(value)
    return caught.value


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("the mail server refused"), "the mail server refused"),
        (ValueError(), "ValueError"),
        (KeyError("customer"), "KeyError: 'customer'"),
        (SystemExit(3), "3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (BrokenStr(), "BrokenStr"),
        (OSError(2, "No such file or directory", "x"), "[Errno 2] No such file or directory: 'x'"),
        (
            ExceptionGroup("two", [ValueError("a"), ExceptionGroup("deep", [KeyError("b"), OSError()])]),
            "two (2 sub-exceptions): ValueError: a; ExceptionGroup: deep (2 sub-exceptions): KeyError: 'b'; OSError",
        ),
        (BaseExceptionGroup("g", [KeyboardInterrupt()]), "g (1 sub-exception): KeyboardInterrupt"),
        (
            validation_error(dict[str, int], {"a": SECRET, "b": "c"}),
            f"2 validation errors for dict[str,int]: a: {NOT_AN_INTEGER}; b: {NOT_AN_INTEGER}",
        ),
    ],
)
def test_raised_exception_is_reported_by_its_message_or_type(error: BaseException, message: str) -> None:
    outcome = outcomes.raised(error)
    assert (outcome.status_code, json.loads(outcome.body)) == (500, {"message": message, "code": "F500"})
    assert outcome.report == Report("error", message)


def test_message_of_a_validation_error_lists_twenty_errors() -> None:
    error = validation_error(list[int], ["x"] * 100)
    assert message_of(error).startswith("100 validation errors for list[int]: 0: ")
    assert message_of(error).endswith("as an integer; and 80 more")


@pytest.mark.parametrize(
    ("text", "sanitized"),
    [
        ("fine ü", "fine ü"),
        ("nul \0 in it", "nul \N{REPLACEMENT CHARACTER} in it"),
        ("half \ud800 a pair", "half ? a pair"),
        ("x" * MAX_MESSAGE_CHARACTERS, "x" * MAX_MESSAGE_CHARACTERS),
    ],
)
def test_characters_that_postgresql_or_utf8_cannot_store_are_replaced(text: str, sanitized: str) -> None:
    assert sanitize_message(text) == sanitized


def test_long_message_is_truncated_so_that_callback_servers_can_read_the_report() -> None:
    """In JSON each of these characters takes six bytes."""
    report = outcomes.raised(ValueError("\x01" * 1_000_000)).report
    assert report.error is not None
    assert len(report.error) == MAX_MESSAGE_CHARACTERS
    assert report.error.endswith("… (truncated from 1000000 characters)")
    assert len(report.body()) < 100_000
