"""From a JSON Schema to fields, and from fields to a payload and its problems."""

from datetime import date, datetime
from enum import IntEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from jobfn.dashboard.form_payload import fill, fill_json
from jobfn.dashboard.forms import Form
from jobfn.dashboard.schema_fields import Kind, fields_of, flat


class Size(IntEnum):
    SMALL = 1
    LARGE = 2


class ServiceRole(BaseModel):
    name: str
    weight: float | None


class Everything(BaseModel):
    text: str
    number: int
    share: float = 0.5
    sure: bool = False
    maybe: bool | None = None
    colour: Literal["red", "green"] = "red"
    size: Size | None = None
    when: datetime | None = None
    day: date = date(2026, 1, 31)
    tenant: UUID | None = None
    words: list[str] = []
    counts: list[int] = []
    parts: list[ServiceRole] = []
    part: ServiceRole
    spare: ServiceRole | None = None
    anything: dict[str, Any] = {}
    either: int | str = 1
    long: Annotated[str, Field(max_length=1000)] = ""
    fixed: Literal["v1"] = "v1"


SCHEMA = TypeAdapter(Everything).json_schema()
FIELDS = fields_of(SCHEMA)
BY_POINTER = {field.pointer: field for field in flat(FIELDS)}


def form(**values: str) -> Form:
    """A form; __ in a name stands for / in a pointer."""
    return Form({f"payload/{name.replace('__', '/')}": [value] for name, value in values.items()})


def test_each_type_has_its_kind_of_field() -> None:
    """What no simple field can hold is written as JSON."""
    assert {pointer: field.kind for pointer, field in BY_POINTER.items()} == {
        "/text": Kind.TEXT,
        "/number": Kind.INTEGER,
        "/share": Kind.NUMBER,
        "/sure": Kind.SWITCH,
        "/maybe": Kind.CHOICE,
        "/colour": Kind.CHOICE,
        "/size": Kind.CHOICE,
        "/when": Kind.TEXT,
        "/day": Kind.TEXT,
        "/tenant": Kind.TEXT,
        "/words": Kind.LINES,
        "/counts": Kind.LINES,
        "/parts": Kind.JSON,
        "/part": Kind.GROUP,
        "/part/name": Kind.TEXT,
        "/part/weight": Kind.NUMBER,
        "/spare": Kind.GROUP,
        "/spare/name": Kind.TEXT,
        "/spare/weight": Kind.NUMBER,
        "/anything": Kind.JSON,
        "/either": Kind.JSON,
        "/long": Kind.LONG_TEXT,
        "/fixed": Kind.CHOICE,
    }


def test_defaults_stand_in_the_fields() -> None:
    """As text, or as the choice's JSON."""
    assert BY_POINTER["/share"].value == "0.5"
    assert BY_POINTER["/day"].value == "2026-01-31"
    assert BY_POINTER["/colour"].value == '"red"'
    assert BY_POINTER["/size"].choices == (("1", "1"), ("2", "2"))


def test_what_is_filled_in_becomes_what_the_type_reads() -> None:
    """Each value by its kind; what is left empty is left out, or null where it must be there."""
    filled = fill(
        FIELDS,
        form(
            text="hello",
            number="7",
            share="1e-3",
            sure="true",
            maybe="false",
            size="2",
            when="2026-01-31T09:30:00Z",
            words="a\n\n b \n",
            counts="1\n2",
            parts='[{"name": "x", "weight": 1}]',
            part__name="wheel",
            part__weight="",
            either='"s"',
            fixed='"v1"',
        ),
        SCHEMA,
    )
    assert filled.problems == {}
    assert filled.payload["part"] == {"name": "wheel", "weight": None}
    assert filled.payload["words"] == ["a", " b"]
    assert "spare" not in filled.payload
    read = Everything.model_validate(filled.payload)
    assert (read.number, read.share, read.maybe, read.size, read.counts) == (7, 0.001, False, Size.LARGE, [1, 2])


def test_all_problems_are_found_at_once_each_at_its_field() -> None:
    """Also those within what is written as JSON, which are said at the field that holds it."""
    filled = fill(
        FIELDS,
        form(
            number="1.5",
            share="half",
            colour='"blue"',
            when="soon",
            counts="1\ntwo",
            parts='[{"name": 1, "weight": 1}]',
            anything="{",
            part__weight="heavy",
            tenant="me",
            long="x" * 1001,
        ),
        SCHEMA,
    )
    assert filled.problems == {
        "/text": "is required",
        "/number": "must be a whole number",
        "/share": "must be a number",
        "/colour": "must be one of red, green",
        "/counts": "1: must be a whole number",
        "/parts": "0/name: must be a text",
        "/anything": filled.problems["/anything"],
        "/part/name": "is required",
        "/part/weight": "must be a number",
        "/tenant": "must be a UUID",
        "/long": "must have 1000 characters or fewer",
    }
    assert filled.problems["/anything"].startswith("is no JSON")


@pytest.mark.parametrize(
    ("schema", "value", "problem"),
    [
        ({"type": "integer", "minimum": 1}, "0", "must be 1 or more"),
        ({"type": "integer", "exclusiveMinimum": 1}, "1", "must be more than 1"),
        ({"type": "number", "maximum": 1}, "2", "must be 1 or less"),
        ({"type": "number", "exclusiveMaximum": 1}, "1", "must be less than 1"),
        ({"type": "integer", "multipleOf": 5}, "4", "must be a multiple of 5"),
        ({"type": "string", "pattern": "^a"}, "b", "must match ^a"),
        ({"type": "string", "minLength": 3}, "b", "must have 3 characters or more"),
        ({"type": "string", "format": "email"}, "b", "must be an email address"),
        ({"type": "array", "items": {"type": "string"}, "minItems": 2}, "b", "needs 2 or more"),
        ({"type": "array", "items": {"type": "string"}, "maxItems": 1}, "b\nc", "takes 1 at most"),
        ({"type": "array", "items": {"type": "string"}, "uniqueItems": True}, "b\nb", "does not fit the schema"),
        ({"const": 1}, "2", "must be 1"),
        ({"type": "object", "additionalProperties": False}, '{"b": 1}', "has a member that is not among those allowed"),
        ({"anyOf": [{"type": "integer"}, {"type": "boolean"}]}, '"b"', "must be"),
        ({"type": "number"}, "NaN", "must be a number"),
        ({"type": "integer"}, "true", "must be a whole number"),
    ],
)
def test_a_rule_is_told_and_not_the_value(schema: dict[str, Any], value: str, problem: str) -> None:
    """One sentence for each rule of JSON Schema."""
    whole = {"type": "object", "properties": {"a": schema}}
    filled = fill(fields_of(whole), form(a=value), whole)
    assert filled.problems["/a"].startswith(problem)


def test_names_with_slashes_and_tildes_meet_again() -> None:
    """A pointer escapes them; the payload has them as they are."""
    whole = {"type": "object", "properties": {"a/b~c": {"type": "integer"}}, "required": ["a/b~c"]}
    fields = fields_of(whole)
    assert fields[0].pointer == "/a~1b~0c"
    assert fill(fields, Form({"payload/a~1b~0c": ["7"]}), whole).payload == {"a/b~c": 7}
    assert fill(fields, Form(), whole).problems == {"/a~1b~0c": "is required"}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"$ref": "#/nowhere"},
        {"$ref": "#"},
        {"type": "array"},
        {"type": "object"},
        {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}},
        {"type": "object", "properties": {"a": True}},
        {"type": "no such type", "properties": "none"},
        {"$ref": "https://elsewhere.example/schema.json"},
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}},
    ],
)
def test_a_schema_that_says_little_or_nonsense_breaks_nothing(schema: dict[str, Any]) -> None:
    """A form, or a place to write JSON; and no request to anybody."""
    fields = fields_of(schema)
    fill(fields, form(a="1"), schema)
    fill_json("{}", schema)


def test_a_task_without_a_payload_has_no_fields() -> None:
    """Its payload is empty."""
    assert fields_of({"type": "null"}) == ()


def test_deep_objects_are_written_as_json() -> None:
    """A form is three levels deep at most."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(5):
        schema = {"type": "object", "properties": {"in": schema}}
    assert [field.kind for field in flat(fields_of(schema))] == [Kind.GROUP, Kind.GROUP, Kind.JSON]


def test_json_is_read_strictly() -> None:
    """NaN is none; an empty text is an empty object."""
    assert fill_json("", {}).payload == {}
    assert "no JSON" in fill_json('{"a": NaN}', {}).problems[""]
    assert "no JSON" in fill_json("[" * 100_000, {}).problems[""]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # jsonschema reads its own schema once
@given(schema=st.dictionaries(st.sampled_from(["type", "properties", "anyOf", "$ref", "enum", "items"]), JSON_VALUES))
def test_no_schema_breaks_the_page(schema: dict[str, Any]) -> None:
    """Whatever a function lists, the dashboard shows a form or a place to write JSON."""
    fields = fields_of(schema)
    fill(fields, Form(), schema)
