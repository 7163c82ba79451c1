"""A payload that does not fit: its fields and the reasons are told, what it holds is not."""

import dataclasses
import datetime as dt
import enum
import json
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import pytest
from pydantic import (
    AfterValidator,
    AnyUrl,
    AwareDatetime,
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    HttpUrl,
    Json,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError, PydanticKnownError
from typing_extensions import TypedDict

from jobfn.errors import BadRequest, InvalidPayload
from jobfn.function.task import Task
from jobfn.function.validation_errors import MAX_LISTED_ERRORS, declared_names
from support.function_app import SECRET


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


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
    """Validators that quote what they see, in the ways people do."""

    a: Any = None
    b: Any = None
    c: Any = None
    d: Any = None
    e: Any = None
    f: Any = None

    @field_validator("a")
    @classmethod
    def _value(cls, value: object) -> object:
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


class Pair(NamedTuple):
    left: int
    right: int


@dataclasses.dataclass
class Data:
    x: int


class Typed(TypedDict):
    q: int


def told(annotation: Any, payload: object) -> list[tuple[str, str]]:
    """The details of the refusal of this payload; checks that the message says the same and the secret nowhere."""

    def handler(payload: Any) -> None: ...

    handler.__annotations__["payload"] = annotation
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    with pytest.raises(InvalidPayload) as caught:
        Task("charge", handler).decode(body)
    error = caught.value
    details = [(detail["field"], detail["problem"]) for detail in error.details]
    listed = "; ".join(f"{field}: {problem}" for field, problem in details)
    assert error.message == f"The payload does not fit charge: {listed}"
    assert error.status_code == 422
    assert error.__cause__ is None
    assert error.__suppress_context__
    assert SECRET.lower() not in f"{error.message}{error.details}{error.args}".lower()
    return details


@pytest.mark.parametrize(
    ("annotation", "payload", "details"),
    [
        (int, SECRET, [("(payload)", "Input should be a valid integer, unable to parse string as an integer")]),
        (Cat, {"kind": "cat"}, [("lives", "Field required")]),
        (Cat, [SECRET], [("(payload)", "Input should be an object")]),
        (Data, {"x": SECRET}, [("x", "Input should be a valid integer, unable to parse string as an integer")]),
        (Typed, {}, [("q", "Field required")]),
        (Pair, [1, SECRET], [("1", "Input should be a valid integer, unable to parse string as an integer")]),
        (list[Cat], [{"kind": "cat", "lives": 1}, {"kind": SECRET}], ...),
        (tuple[int, str], [1], [("1", "Field required")]),
        (Literal["a", "b"], SECRET, [("(payload)", "Input should be 'a' or 'b'")]),
        (Colour, SECRET, [("(payload)", "Input should be 'red' or 'blue'")]),
        (UUID, SECRET, [("(payload)", "Input should be a valid UUID")]),
        (UUID, "zzzz", [("(payload)", "Input should be a valid UUID")]),
        (dt.datetime, SECRET, [("(payload)", "Input should be a valid datetime or date, invalid character in year")]),
        (AwareDatetime, "2020-01-01T00:00:00", [("(payload)", "Input should have timezone info")]),
        (dt.timedelta, SECRET, ...),
        (Decimal, SECRET, [("(payload)", "Input should be a valid decimal")]),
        (IPv4Address, SECRET, [("(payload)", "Input is not a valid IPv4 address")]),
        (AnyUrl, SECRET, [("(payload)", "Input should be a valid URL, relative URL without a base")]),
        (HttpUrl, f"ftp://{SECRET}", [("(payload)", "URL scheme should be 'http' or 'https'")]),
        (Base64Bytes, f"{SECRET}!", ...),
        (Annotated[str, Field(pattern="^x+$")], SECRET, [("(payload)", "String should match pattern '^x+$'")]),
        (Annotated[str, Field(max_length=3)], SECRET, [("(payload)", "String should have at most 3 characters")]),
        (Annotated[int, Field(le=10)], 314159, [("(payload)", "Input should be less than or equal to 10")]),
        (Json[int], SECRET, [("(payload)", "Invalid JSON: expected ident at line 1 column 2")]),
    ],
)
def test_field_and_reason_are_told(annotation: Any, payload: object, details: Any) -> None:
    """Each kind of mismatch says where and why, in pydantic's own words."""
    found = told(annotation, payload)
    if details is not ...:
        assert found == details


@pytest.mark.parametrize(
    ("annotation", "payload", "details"),
    [
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
        (
            Annotated[Cat | Dog, Discriminator("kind")],
            {},
            [("(payload)", "Unable to extract tag using discriminator 'kind'")],
        ),
        (Annotated[Cat | Dog, Discriminator("kind")], {"kind": "dog"}, [("name", "Field required")]),
        (
            dict[str, str | int],
            {SECRET: []},
            [("*", "Input should be a valid string"), ("*", "Input should be a valid integer")],
        ),
    ],
)
def test_branches_of_a_union_are_told_apart_by_their_models(
    annotation: Any, payload: object, details: list[tuple[str, str]]
) -> None:
    """A union says what each branch lacks; a tag that is none is not quoted."""
    assert told(annotation, payload) == details


INTEGER = "Input should be a valid integer, unable to parse string as an integer"


@pytest.mark.parametrize(
    ("annotation", "payload", "fields"),
    [
        (dict[str, int], {SECRET: "x"}, ["*"]),
        (dict[int, int], {SECRET: 1}, ["*.[key]"]),
        (dict[str, dict[str, Strict]], {SECRET: {SECRET: {"a": "x"}}}, ["*.*.a"]),
        (Mapping[str, list[int]], {SECRET: [1, "x"]}, ["*.1"]),
        (Strict, {"b": SECRET}, ["b"]),
        (Strict, {"ada@example.com": SECRET, "4111 1111": 1}, ["*"]),
        (Aliased, {"theInner": {"a": "x"}}, ["theInner.a"]),
        (Aliased, {"inner": {"a": "x"}}, ["inner.a"]),
        (Aliased, {"inner": {"a": 1, "extra": SECRET}}, ["inner.extra"]),
    ],
)
def test_keys_that_are_data_are_not_told(annotation: Any, payload: object, fields: list[str]) -> None:
    """Declared names and forbidden keys that look like names are shown, keys of mappings are not."""
    assert [field for field, _ in told(annotation, payload)] == fields


def test_a_validator_of_the_user_s_speaks_for_itself() -> None:
    """Its text is told as it is, without pydantic's prefix."""
    assert told(Mail, {"to": SECRET}) == [("(payload)", "one of html or text is required")]


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ("a", "'…' is not allowed, … neither"),
        ("b", "not …"),
        ("c", "… is odd"),
        ("d", "invalid literal for int() with base 10: '…'"),
        ("e", INTEGER),
        ("f", "does not go with {'a': None, 'b': None, 'c': None, 'd': None, 'e': None} and \"…\""),
    ],
)
def test_values_in_a_validator_s_text_are_blanked(field: str, problem: str) -> None:
    """What it quotes of the payload becomes an ellipsis, whatever the case of its letters."""
    assert told(Quoting, {field: SECRET}) == [(field, problem)]


def test_numbers_and_keys_in_a_validator_s_text_are_blanked() -> None:
    """A number and the key of a mapping are values too; short ones mean nothing."""
    [(_, problem)] = told(Quoting, {"a": {"card": 4111222233334444, "n": 17, SECRET: "no"}})
    assert problem == "{'…': …, 'n': 17, '…': 'no'} is not allowed, {'…': …, 'N': 17, '…': 'NO'} neither"


def test_values_deep_in_a_payload_are_blanked() -> None:
    """In arrays, too, and true and false mean nothing."""
    [(_, problem)] = told(Quoting, {"a": [[SECRET, 3141.59], {"b": [True]}]})
    assert problem == "[['…', …], {'b': [True]}] is not allowed, [['…', …], {'B': [TRUE]}] neither"


def test_a_validator_without_a_text_still_says_something() -> None:
    """``raise ValueError`` alone."""

    class Mute(BaseModel):
        a: int

        @field_validator("a")
        @classmethod
        def _no(cls, value: int) -> int:
            raise ValueError

    assert told(Mute, {"a": 1}) == [("a", "Input is not accepted")]


def test_texts_of_pydantic_that_quote_the_input_are_reworded() -> None:
    """A time zone that is not the required one."""

    class Zoned(BaseModel):
        at: dt.datetime

        @field_validator("at")
        @classmethod
        def _zone(cls, value: dt.datetime) -> dt.datetime:
            raise PydanticKnownError("timezone_offset", {"tz_expected": 0, "tz_actual": 314159})

    assert told(Zoned, {"at": "2020-01-01T00:00:00+01:00"}) == [("at", "Timezone offset of 0 required")]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "The body is empty: send the payload of charge as JSON"),
        (b" \n", "The body is empty"),
        (b"{", "The body is not valid JSON in UTF-8: EOF while parsing an object at line 1 column 1"),
        (b'{"a": 1,}', "The body is not valid JSON in UTF-8: trailing comma at line 1 column 9"),
        (SECRET.encode(), "The body is not valid JSON in UTF-8: expected ident at line 1 column 2"),
        (f'{{"a": "{SECRET}'.encode(), "The body is not valid JSON in UTF-8: EOF while parsing a string"),
        (b'{"a": "\xff"}', "The body is not valid JSON in UTF-8: invalid unicode code point"),
        ('{"a": "ü"}'.encode("utf-16"), "The body is not valid JSON in UTF-8: expected value"),
        (b'"\\ud800"', "The body is not valid JSON in UTF-8: "),
        (b"[" * 1000, "The body is not valid JSON in UTF-8: recursion limit exceeded"),
        (b"1" * 5000, "The body is not valid JSON in UTF-8: number out of range"),
    ],
)
@pytest.mark.parametrize("annotation", [dict, None])
def test_what_is_no_json_is_malformed(annotation: Any, body: bytes, reason: str) -> None:
    """400 with the place, whatever the annotation; for a task without payload an empty body is fine."""

    def handler(payload: Any) -> None: ...

    handler.__annotations__["payload"] = annotation
    task: Callable[[bytes], Any] = Task("charge", handler).decode
    if annotation is None and not body.strip():
        assert task(body) is None
        return
    with pytest.raises(BadRequest) as caught:
        task(body)
    assert caught.value.message.startswith(reason)
    assert caught.value.status_code == 400
    assert SECRET not in caught.value.message


def test_a_payload_for_a_task_without_one_is_refused() -> None:
    """422: the caller means something that this task does not do."""

    def handler(payload: None) -> None: ...

    with pytest.raises(InvalidPayload) as caught:
        Task("charge", handler).decode(json.dumps({"a": SECRET}).encode())
    assert caught.value.message == "charge takes no payload: send an empty body, null or {}"


def test_many_mismatches_are_cut() -> None:
    """The first twenty are listed, the rest is counted; beyond any sense they are only counted."""

    def handler(payload: list[int]) -> None: ...

    many = Task("charge", handler)
    with pytest.raises(InvalidPayload) as caught:
        many.decode(json.dumps([SECRET] * 100).encode())
    assert len(caught.value.details) == MAX_LISTED_ERRORS
    assert caught.value.message.endswith("19: " + INTEGER + "; and 80 more")
    with pytest.raises(InvalidPayload) as caught:
        many.decode(json.dumps(["x"] * 20_000).encode())
    assert caught.value.message == "The payload does not fit charge in 20000 places, too many to list"


def _odd(value: int) -> int:
    raise ValueError(f"{value} is odd")


def test_many_mismatches_of_a_validators_own_do_not_stop_the_loop() -> None:
    """Ten thousand values that a validator refuses, each in words of its own, are told in a moment, and blanked."""

    def handler(payload: list[Annotated[int, AfterValidator(_odd)]]) -> None: ...

    many = Task("charge", handler)
    started = time.monotonic()
    with pytest.raises(InvalidPayload) as caught:
        many.decode(json.dumps(list(range(100_001, 119_999, 2))).encode())
    assert time.monotonic() - started < 5  # it was 42 seconds when each of them looked through the payload
    assert caught.value.details[0] == {"field": "0", "problem": "… is odd"}
    assert caught.value.message.endswith(f"; and {9_999 - MAX_LISTED_ERRORS} more")


def _all_odd(values: list[int]) -> list[int]:
    raise ValueError(f"odd: {values}")


def test_a_validators_text_that_is_mostly_payload_is_not_told() -> None:
    """Over a thousand characters it quotes more than it says."""
    annotation = Annotated[list[int], AfterValidator(_all_odd)]
    assert told(annotation, list(range(1_000, 2_000))) == [("(payload)", "Input is not accepted")]


def test_a_type_without_a_schema_declares_no_names() -> None:
    """Where no JSON Schema can be made, fields are hidden rather than guessed."""

    class Odd(BaseModel):
        call: Callable[[], int] | None = None
        a: int

    assert told(Odd, {"a": "x"}) == [("*", INTEGER)]


def test_names_are_found_anywhere_in_a_schema() -> None:
    """Properties and definitions, however deep."""
    schema = {
        "$defs": {"Cat": {"properties": {"lives": {"type": "integer"}}}},
        "anyOf": [{"properties": {"a": {"items": {"properties": {"b": {}}}}}}, {"$ref": "#/$defs/Cat"}],
        "properties": "not a mapping",
    }
    assert declared_names(schema) == {"Cat", "lives", "a", "b"}
