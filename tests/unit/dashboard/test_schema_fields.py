"""Form fields, examples, payloads and validation errors from a JSON Schema."""

from datetime import date, datetime
from decimal import Decimal
from enum import IntEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from jobfn.dashboard.form_payload import parse_fields, parse_json
from jobfn.dashboard.forms import Form
from jobfn.dashboard.schema_errors import is_valid_schema
from jobfn.dashboard.schema_fields import example_payload, form_fields


class Size(IntEnum):
    SMALL = 1
    LARGE = 2


class Flat(BaseModel):
    text: str
    number: int
    share: float = 0.5
    is_sure: bool = False
    maybe: bool | None = None
    colour: Literal["red", "green"] = "red"
    size: Size | None = None
    at: datetime | None = None
    day: date = date(2026, 1, 31)
    tenant: UUID | None = None
    weight: float | None
    long: Annotated[str, Field(max_length=1000)] = ""


class Part(BaseModel):
    name: str
    parts: list["Part"] = []


class Nested(BaseModel):
    id: int
    part: Part
    spare: Part | None
    tags: list[str]
    either: int | str
    extra: dict[str, Any]
    at: datetime
    colour: Literal["red", "green"] = "green"


FLAT_SCHEMA = TypeAdapter(Flat).json_schema()
NESTED_SCHEMA = TypeAdapter(Nested).json_schema()
FLAT_FIELDS = form_fields(FLAT_SCHEMA) or ()
FIELDS_BY_NAME = {field.name: field for field in FLAT_FIELDS}


def form(**values: str) -> Form:
    return Form({f"payload/{name}": [value] for name, value in values.items()})


def test_each_scalar_type_has_its_kind_of_field() -> None:
    assert {field.name: field.kind for field in FLAT_FIELDS} == {
        "text": "text",
        "number": "number",
        "share": "number",
        "is_sure": "checkbox",
        "maybe": "select",
        "colour": "select",
        "size": "select",
        "at": "text",
        "day": "text",
        "tenant": "text",
        "weight": "number",
        "long": "multiline",
    }


def test_fields_have_defaults_choices_and_format_hints() -> None:
    assert FIELDS_BY_NAME["share"].value == "0.5"
    assert FIELDS_BY_NAME["day"].value == "2026-01-31"
    assert FIELDS_BY_NAME["day"].hint == "For example 2026-01-31."
    assert FIELDS_BY_NAME["colour"].value == '"red"'
    assert FIELDS_BY_NAME["size"].choices == (("1", "1"), ("2", "2"))


class Price(BaseModel):
    amount: Decimal
    discount: Decimal | None = None
    due: date
    fee: Decimal = Decimal("1.50")


def test_decimals_are_texts_and_dates_have_a_picker() -> None:
    """A number of JSON would lose digits of a decimal."""
    schema = TypeAdapter(Price).json_schema()
    fields = form_fields(schema) or ()
    assert [(field.name, field.kind, field.input_type, field.is_nullable) for field in fields] == [
        ("amount", "text", "text", False),
        ("discount", "text", "text", True),
        ("due", "text", "date", False),
        ("fee", "text", "text", False),
    ]
    assert (fields[0].hint, fields[3].value) == ("For example 19.90.", "1.50")
    parsed = parse_fields(fields, form(amount="0.10000000000000000001", due="2026-01-31", fee="2"), schema)
    assert (parsed.payload, parsed.problems) == (
        {"amount": "0.10000000000000000001", "due": "2026-01-31", "fee": "2"},
        {},
    )
    assert Price.model_validate(parsed.payload).amount == Decimal("0.10000000000000000001")


def test_multiline_default_gets_a_multiline_field() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "default": "x\ny"}}}
    assert [field.kind for field in form_fields(schema) or ()] == ["multiline"]


@pytest.mark.parametrize(
    "schema",
    [
        NESTED_SCHEMA,
        TypeAdapter(list[int]).json_schema(),
        TypeAdapter(dict[str, int]).json_schema(),
        TypeAdapter(Flat | Part).json_schema(),
        {},
        {"$ref": "#/nowhere"},
        {"$ref": "#"},
        {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}},
        {"type": "object", "properties": {"a": True}},
        {"type": "object", "properties": {"a": {"type": ["string", "integer"]}}},
    ],
)
def test_other_payloads_have_no_fields(schema: dict[str, Any]) -> None:
    assert form_fields(schema) is None


def test_example_has_every_property() -> None:
    assert example_payload(NESTED_SCHEMA) == {
        "id": 0,
        "part": {"name": "string", "parts": []},
        "spare": {"name": "string", "parts": []},
        "tags": ["string"],
        "either": 0,
        "extra": {},
        "at": "2026-01-31T09:30:00Z",
        "colour": "green",
    }


@pytest.mark.parametrize(
    ("schema", "example"),
    [
        ({}, {}),
        ({"$ref": "#"}, {}),
        ({"type": "array", "items": {"type": "boolean"}}, [False]),
        ({"type": ["null", "integer"]}, {}),
        ({"type": ["integer", "null"], "minimum": 5}, 5),
        ({"const": 7}, 7),
        ({"examples": ["a", "b"], "type": "string"}, "a"),
        ({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"enum": [3, 4]}}}, 3),
    ],
)
def test_example_of_unusual_schemas(schema: dict[str, Any], example: object) -> None:
    assert example_payload(schema) == example


def test_example_of_recursive_schema_ends() -> None:
    node = {"properties": {"left": {"$ref": "#"}, "right": {"type": "array", "items": {"$ref": "#"}}}}
    assert example_payload(node) == {"left": {"left": None, "right": []}, "right": [{"left": None, "right": []}]}


def test_submitted_values_become_a_typed_payload() -> None:
    parsed = parse_fields(
        FLAT_FIELDS,
        form(
            text="hello",
            number="7",
            share="1e-3",
            is_sure="true",
            maybe="false",
            size="2",
            at="2026-01-31T09:30:00Z",
            weight="",
        ),
        FLAT_SCHEMA,
    )
    assert parsed.problems == {}
    assert parsed.payload == {
        "text": "hello",
        "number": 7,
        "share": 0.001,
        "is_sure": True,
        "maybe": False,
        "size": 2,
        "at": "2026-01-31T09:30:00Z",
        "weight": None,
    }


def test_all_errors_are_reported_at_their_fields() -> None:
    parsed = parse_fields(
        FLAT_FIELDS,
        form(number="1.5", share="NaN", colour='"blue"', size="x", tenant="me", weight="heavy", long="x" * 1001),
        FLAT_SCHEMA,
    )
    assert parsed.problems == {
        "payload/text": "is required",
        "payload/number": "1.5 is not of type 'integer'",
        "payload/share": "'NaN' is not of type 'number'",
        "payload/colour": "'blue' is not one of ['red', 'green']",
        "payload/size": "'x' is not one of [1, 2]",
        "payload/tenant": "'me' is not a 'uuid'",
        "payload/weight": "'heavy' is not of type 'number'",
        "payload/long": "the value is too long",
    }


def test_error_of_the_whole_payload_belongs_to_no_field() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "minProperties": 1}
    assert parse_fields(form_fields(schema) or (), Form(), schema).problems == {"payload": "{} should be non-empty"}


def test_any_property_name_round_trips() -> None:
    schema = {"type": "object", "properties": {"a/b~c\"'": {"type": "integer"}}, "required": ["a/b~c\"'"]}
    fields = form_fields(schema) or ()
    assert parse_fields(fields, Form({fields[0].input_name: ["7"]}), schema).payload == {"a/b~c\"'": 7}
    assert parse_fields(fields, Form(), schema).problems == {"payload/a/b~c\"'": "is required"}


def test_json_payload_is_validated_with_paths() -> None:
    parsed = parse_json(
        '{"id": "x", "part": {}, "spare": 5, "tags": [1], "either": [], "extra": {}, "at": ""}', NESTED_SCHEMA
    )
    assert parsed.problems["payload"].split("; ") == [
        "id: 'x' is not of type 'integer'",
        "part/name: is required",
        "spare: 5 is not of type 'object'",
        "tags/0: 1 is not of type 'string'",
        "either: [] is not valid under any of the given schemas",
    ]


def test_json_is_parsed_strictly() -> None:
    assert parse_json("", {}).payload == {}
    for text in ('{"a": NaN}', "{", "[" * 100_000):
        assert parse_json(text, {}).problems["payload"].startswith("invalid JSON: ")


@pytest.mark.parametrize(
    "schema", [{"type": "no such type"}, {"properties": "none"}, {"type": "string", "pattern": "("}]
)
def test_invalid_schema_is_detected(schema: dict[str, Any]) -> None:
    assert not is_valid_schema(schema)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # jsonschema loads its metaschema once
@given(schema=st.dictionaries(st.sampled_from(["type", "properties", "anyOf", "$ref", "enum", "items"]), JSON_VALUES))
def test_any_valid_schema_has_a_form_or_an_example(schema: dict[str, Any]) -> None:
    if is_valid_schema(schema):
        example_payload(schema)
        parse_fields(form_fields(schema) or (), Form(), schema)
