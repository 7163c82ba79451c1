"""Messages of invalid payloads: fields and reasons, never values."""

import datetime as dt
import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError, PydanticKnownError

from jobfn.errors import BadRequest, InvalidPayload
from jobfn.function.task import Task
from jobfn.function.validation_errors import MAX_LISTED_ERRORS
from support.function_app import SECRET


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Strict(BaseModel):
    a: int = 0

    model_config = ConfigDict(extra="forbid")


class Aliased(BaseModel):
    inner: Strict = Field(alias="theInner")

    model_config = ConfigDict(populate_by_name=True)


class Mail(BaseModel):
    to: str = ""
    html: str | None = None
    text: str | None = None

    @model_validator(mode="after")
    def _has_a_body(self) -> "Mail":
        if self.html is None and self.text is None:
            raise ValueError("one of html or text is required")
        return self


class Quoting(BaseModel):
    """Validators whose messages quote the payload."""

    a: Any = None
    b: Any = None
    c: Any = None
    d: Any = None
    e: Any = None
    f: Any = None
    g: Any = None

    @field_validator("a")
    @classmethod
    def _value_error(cls, value: object) -> object:
        raise ValueError(f"{value!r} is not allowed, {str(value).upper()} neither")

    @field_validator("b")
    @classmethod
    def _assertion(cls, value: object) -> object:
        raise AssertionError(f"not {value}")

    @field_validator("c")
    @classmethod
    def _custom(cls, value: object) -> object:
        raise PydanticCustomError("odd", "{value} is odd", {"value": value})

    @field_validator("d", mode="before")
    @classmethod
    def _by_accident(cls, value: Any) -> int:
        return int(value)

    @field_validator("e")
    @classmethod
    def _nested(cls, value: str) -> object:
        return TypeAdapter(dict[str, int]).validate_python({value: value})

    @field_validator("f")
    @classmethod
    def _other_field(cls, value: object, info: ValidationInfo) -> object:
        raise ValueError(f"does not go with {info.data} and {json.dumps(value)}")

    @field_validator("g")
    @classmethod
    def _without_message(cls, value: object) -> object:
        raise ValueError


def task_of(annotation: Any) -> Task[..., Any]:
    def handler(payload: Any) -> None: ...

    handler.__annotations__["payload"] = annotation
    return Task("charge", handler)


def problems(annotation: Any, payload: object) -> list[tuple[str, str]]:
    """Return the error details of this payload, after checking that the error does not contain ``SECRET``."""
    with pytest.raises(InvalidPayload) as caught:
        task_of(annotation).decode(json.dumps(payload).encode())
    error = caught.value
    details = [(detail["field"], detail["problem"]) for detail in error.details]
    listed = "; ".join(f"{field}: {problem}" for field, problem in details)
    assert error.message == f"The payload does not fit charge: {listed}"
    assert error.__cause__ is None
    assert error.__suppress_context__
    assert SECRET.lower() not in f"{error.message}{error.details}{error.args}".lower()
    return details


NOT_AN_INTEGER = "Input should be a valid integer, unable to parse string as an integer"


@pytest.mark.parametrize(
    ("annotation", "payload", "details"),
    [
        (int, SECRET, [("(payload)", NOT_AN_INTEGER)]),
        (Cat, {"kind": "cat"}, [("lives", "Field required")]),
        (UUID, SECRET, [("(payload)", "Input should be a valid UUID")]),
        (
            str | int,
            {},
            [("(payload)", "Input should be a valid string"), ("(payload)", "Input should be a valid integer")],
        ),
        (
            Cat | Dog,
            {"kind": SECRET},
            [
                ("Cat.kind", "Input should be 'cat'"),
                ("Cat.lives", "Field required"),
                ("Dog.kind", "Input should be 'dog'"),
                ("Dog.name", "Field required"),
            ],
        ),
        (
            Annotated[Cat | Dog, Discriminator("kind")],
            {"kind": SECRET},
            [("(payload)", "'kind' should be one of 'cat', 'dog'")],
        ),
        (Annotated[Cat | Dog, Discriminator("kind")], {"kind": "dog"}, [("name", "Field required")]),
        (Mail, {"to": SECRET}, [("(payload)", "one of html or text is required")]),
    ],
)
def test_error_names_the_field_and_the_reason(annotation: Any, payload: object, details: list[tuple[str, str]]) -> None:
    assert problems(annotation, payload) == details


@pytest.mark.parametrize(
    ("annotation", "payload", "fields"),
    [
        (dict[str, int], {SECRET: "x"}, ["*"]),
        (dict[int, int], {SECRET: 1}, ["*.[key]"]),
        (dict[str, dict[str, Strict]], {SECRET: {SECRET: {"a": "x"}}}, ["*.*.a"]),
        (Mapping[str, list[int]], {SECRET: [1, "x"]}, ["*.1"]),
        (Strict, {"ada@example.com": SECRET, "4111 1111": 1}, ["*"]),
        (Aliased, {"theInner": {"a": "x"}}, ["theInner.a"]),
        (Aliased, {"inner": {"a": 1, "extra": SECRET}}, ["inner.extra"]),
    ],
)
def test_mapping_keys_are_hidden(annotation: Any, payload: object, fields: list[str]) -> None:
    assert [field for field, _ in problems(annotation, payload)] == fields


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ("a", "'…' is not allowed, … neither"),
        ("b", "not …"),
        ("c", "… is odd"),
        ("d", "invalid literal for int() with base 10: '…'"),
        ("e", NOT_AN_INTEGER),
        ("f", "does not go with {'a': None, 'b': None, 'c': None, 'd': None, 'e': None} and \"…\""),
        ("g", "Input is not accepted"),
    ],
)
def test_payload_value_in_a_custom_message_is_redacted(field: str, problem: str) -> None:
    assert problems(Quoting, {field: SECRET}) == [(field, problem)]


def test_nested_values_numbers_and_keys_in_a_custom_message_are_redacted() -> None:
    """Values under three characters stay, because they would match by chance."""
    payload = {"a": {"card": 4111222233334444, "n": 17, SECRET: [["no", 3141.59], True]}}
    message = "{'…': …, 'n': 17, '…': [['no', …], True]}"
    assert problems(Quoting, payload) == [("a", f"{message} is not allowed, {message.upper()} neither")]


def test_builtin_message_that_quotes_the_input_is_replaced() -> None:
    class Zoned(BaseModel):
        at: dt.datetime

        @field_validator("at")
        @classmethod
        def _zone(cls, value: dt.datetime) -> dt.datetime:
            raise PydanticKnownError("timezone_offset", {"tz_expected": 0, "tz_actual": 314159})

    assert problems(Zoned, {"at": "2020-01-01T00:00:00+01:00"}) == [("at", "Timezone offset of 0 required")]


def test_long_custom_message_is_omitted() -> None:
    def fail(values: list[int]) -> list[int]:
        raise ValueError(f"odd: {values}")

    annotation = Annotated[list[int], AfterValidator(fail)]
    assert problems(annotation, list(range(1_000, 2_000))) == [("(payload)", "Input is not accepted")]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b" \n", "The body is empty: send the payload of charge as JSON"),
        (b"{", "The body is not valid JSON in UTF-8: EOF while parsing an object at line 1 column 1"),
        (SECRET.encode(), "The body is not valid JSON in UTF-8: expected ident at line 1 column 2"),
        (b'{"a": "\xff"}', "The body is not valid JSON in UTF-8: invalid unicode code point"),
        (b'"\\ud800"', "The body is not valid JSON in UTF-8: "),
        (b"1" * 5000, "The body is not valid JSON in UTF-8: number out of range"),
    ],
)
@pytest.mark.parametrize("annotation", [dict, None])
def test_body_that_is_not_json_is_a_bad_request(annotation: Any, body: bytes, reason: str) -> None:
    task = task_of(annotation)
    if annotation is None and not body.strip():
        assert task.decode(body) is None
        return
    with pytest.raises(BadRequest) as caught:
        task.decode(body)
    assert caught.value.message.startswith(reason)
    assert SECRET not in caught.value.message


def test_payload_of_a_task_without_one_is_invalid() -> None:
    with pytest.raises(InvalidPayload, match=r"charge takes no payload: send an empty body, null or {}"):
        task_of(None).decode(json.dumps({"a": SECRET}).encode())


def test_twenty_errors_are_listed_and_the_rest_is_counted() -> None:
    task = task_of(list[int])
    with pytest.raises(InvalidPayload) as caught:
        task.decode(json.dumps([SECRET] * 100).encode())
    assert len(caught.value.details) == MAX_LISTED_ERRORS
    assert caught.value.message.endswith(f"19: {NOT_AN_INTEGER}; and 80 more")
    with pytest.raises(InvalidPayload) as caught:
        task.decode(json.dumps(["x"] * 20_000).encode())
    assert caught.value.message == "The payload does not fit charge in 20000 places, too many to list"


def test_redaction_searches_a_large_payload_once() -> None:
    """Once for all listed messages, not once for each of ten thousand, which took 42 seconds."""

    def fail(value: int) -> int:
        raise ValueError(f"{value} is odd")

    task = task_of(list[Annotated[int, AfterValidator(fail)]])
    with pytest.raises(InvalidPayload) as caught:
        task.decode(json.dumps(list(range(100_001, 119_999, 2))).encode())
    assert caught.value.details[0] == {"field": "0", "problem": "… is odd"}
    assert caught.value.message.endswith("; and 9979 more")


def test_fields_of_a_type_without_a_json_schema_are_hidden() -> None:
    class WithoutSchema(BaseModel):
        call: Callable[[], int] | None = None
        a: int

    assert problems(WithoutSchema, {"a": "x"}) == [("*", NOT_AN_INTEGER)]
