"""Comparison of a trigger's payload with a task's payload."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from jobfn.payloads import Row, RowChange, RowId
from jobfn.triggers import DataJobTrigger
from jobfn.triggers.compatibility import Mismatch, check_compatibility
from jobfn.triggers.table import Column, PgType, Table, TypeKind


def builtin(name: str) -> PgType:
    return PgType(name, catalog_name=name)


STATUS = PgType("status", TypeKind.ENUM, labels=("new", "paid"))
POINT = PgType("place", TypeKind.COMPOSITE, fields=(Column("x", builtin("int4")), Column("y", builtin("int4"))))
TYPES = {
    "id": builtin("uuid"),
    "amount": builtin("numeric"),
    "count": builtin("int8"),
    "share": builtin("float8"),
    "open": builtin("bool"),
    "name": builtin("text"),
    "day": builtin("date"),
    "at": builtin("timestamptz"),
    "hour": builtin("time"),
    "wait": builtin("interval"),
    "data": builtin("jsonb"),
    "status": STATUS,
    "tags": PgType("text[]", TypeKind.ARRAY, catalog_name="_text", inner=builtin("text")),
    "positive": PgType("positive", TypeKind.DOMAIN, inner=builtin("int4")),
    "place": POINT,
    "shape": PgType("public.geometry", has_json_cast=True),
    "email": PgType("public.citext"),
}
TABLE = Table(
    "public",
    "t",
    (
        *(Column(name, kind, nullable=False) for name, kind in TYPES.items()),
        Column("whole", builtin("numeric"), nullable=False, is_integral=True),
        Column("maybe", builtin("text")),
    ),
    primary_key=("id",),
)


def problems(annotation: Any, **parameters: Any) -> list[tuple[str, str]]:
    """Return field and problem of each mismatch."""
    node = DataJobTrigger(task_identifier="t", **({"events": ("UPDATE",)} | parameters))
    mismatches = check_compatibility(node, TABLE, {"t": TypeAdapter(annotation).json_schema()})
    assert all((mismatch.table, mismatch.task) == ("public.t", "t") for mismatch in mismatches)
    return [(mismatch.field, mismatch.problem) for mismatch in mismatches]


def column_problems(column: str, annotation: Any) -> list[tuple[str, str]]:
    return schema_problems(column, TypeAdapter(annotation).json_schema())


def schema_problems(column: str, field_schema: dict[str, Any]) -> list[tuple[str, str]]:
    definitions = field_schema.pop("$defs", {})
    schema = {"type": "object", "properties": {column: field_schema}, "required": [column], "$defs": definitions}
    node = DataJobTrigger(task_identifier="t", payload_strategy="fields", payload_fields=(column,), events=("INSERT",))
    return [(mismatch.field, mismatch.problem) for mismatch in check_compatibility(node, TABLE, {"t": schema})]


class Colour(StrEnum):
    RED = "red"


class Everywhere(BaseModel):
    x: int | None
    y: int | None


class Flat(BaseModel):
    x: int
    y: int | None


@pytest.mark.parametrize(
    ("column", "annotation"),
    [
        ("id", UUID),
        ("id", str | int),
        ("amount", Decimal),
        ("whole", int),
        ("count", int),
        ("share", float),
        ("open", bool),
        ("name", str),
        ("name", UUID),  # a text column may contain only UUIDs
        ("name", Literal["a", "b"]),
        ("day", datetime),
        ("at", datetime),
        ("hour", time),
        ("wait", str),
        ("data", dict[str, Any]),
        ("status", Literal["new", "paid", "gone"]),
        ("status", str),
        ("tags", list[str | None]),
        ("positive", int),
        ("place", Everywhere),
        ("shape", Everywhere),
        ("email", str),
        ("maybe", str | None),
        ("maybe", Any),
    ],
)
def test_matching_column_has_no_problem(column: str, annotation: Any) -> None:
    assert column_problems(column, annotation) == []


@pytest.mark.parametrize(
    ("column", "annotation", "problem"),
    [
        ("amount", int, "column amount (numeric) can be fractional, but the field accepts an integer"),
        ("count", str, "column count (int8) is sent as an integer, but the field accepts a string"),
        ("name", int, "column name (text) is sent as a string, but the field accepts an integer"),
        ("name", None, "column name (text) is sent as a string, but the field accepts null"),
        ("id", datetime, "column id (uuid) is sent as uuid, but the field accepts a date-time"),
        ("at", date, "column at (timestamptz) is sent as date-time, but the field accepts a date"),
        (
            "wait",
            timedelta,
            "column wait (interval) is sent as a PostgreSQL interval, but the field accepts a duration",
        ),
        ("id", Literal["a"], "column id (uuid) is sent, but the field accepts only a"),
        ("status", Literal["new"], "column status (status) can be paid, but the field accepts only new"),
        ("status", Colour, "column status (status) can be new, paid, but the field accepts only red"),
        ("status", UUID, "column status (status) is sent as one of its labels, but the field accepts a uuid"),
        ("maybe", str, "column maybe (text) can be NULL, but the field does not accept null"),
    ],
)
def test_mismatching_column_is_reported(column: str, annotation: Any, problem: str) -> None:
    assert column_problems(column, annotation) == [(column, problem)]


@pytest.mark.parametrize(
    ("column", "annotation", "field", "problem"),
    [
        (
            "tags",
            list[str],
            "tags[]",
            "an element of column tags (text[]) can be NULL, but the field does not accept null",
        ),
        ("place", Flat, "place.x", "x of column place (place) can be NULL, but the field does not accept null"),
    ],
)
def test_mismatching_part_of_a_column_is_reported(column: str, annotation: Any, field: str, problem: str) -> None:
    assert column_problems(column, annotation) == [(field, problem)]


NULL = "column maybe (text) can be NULL, but the field does not accept null"
TEXT = "column maybe (text) is sent as a string, but the field accepts an integer"


@pytest.mark.parametrize(
    ("schema", "problems"),
    [
        ({"allOf": [{"$ref": "#/$defs/T"}], "$defs": {"T": {"type": ["string", "null"]}}}, []),
        ({"allOf": [{"$ref": "#/$defs/T"}], "$defs": {"T": {"type": "string"}}}, [NULL]),
        ({"allOf": [{"type": "integer"}, {}]}, [NULL, TEXT]),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}, []),
        ({"anyOf": [{"anyOf": [{"type": "null"}, {"type": "integer"}]}, {"type": "string"}]}, []),
        ({"oneOf": [{"type": "null"}]}, ["column maybe (text) is sent, but the field accepts only null"]),
        ({"enum": ["a", None]}, []),
        ({"enum": [1, 2]}, [NULL, TEXT]),
        ({"const": "a"}, [NULL]),
        ({"type": ["integer", "null"]}, [TEXT.replace("an integer", "an integer or null")]),
    ],
)
def test_schemas_of_other_libraries_are_understood(schema: dict[str, Any], problems: list[str]) -> None:
    assert [problem for _, problem in schema_problems("maybe", schema)] == problems


class Invoice(BaseModel):
    id: UUID
    amount: float


class Strict(Invoice):
    model_config = ConfigDict(extra="forbid")


class Renamed(BaseModel):
    invoice: UUID = Field(alias="id")


class WithOld(BaseModel):
    id: UUID
    old: Invoice


class Needs(BaseModel):
    missing: int


INVOICE = {"payload_strategy": "fields", "payload_fields": ("id", "amount")}


@pytest.mark.parametrize(
    ("annotation", "parameters"),
    [
        (RowId, {}),
        (RowId, {"include_meta": True, "include_old": True}),
        (dict[str, Any], {}),
        (Invoice, {"payload_strategy": "row", "include_meta": True}),
        (Strict, INVOICE),
        (Row[Strict], INVOICE | {"include_meta": True}),
        (Row[Invoice], {"payload_strategy": "row"}),
        (RowChange[Invoice], {"payload_strategy": "row", "include_old": True, "include_meta": True}),
        (Renamed, {}),
        (WithOld, {"include_old": True}),
        (Needs | Invoice, INVOICE),
        (dict[str, UUID], {}),
        (Invoice, {"payload_strategy": "custom", "payload_custom": {"id": "id", "amount": "count"}}),
    ],
)
def test_matching_payload_has_no_problem(annotation: Any, parameters: dict[str, Any]) -> None:
    assert problems(annotation, **parameters) == []


@pytest.mark.parametrize(
    ("annotation", "parameters", "expected"),
    [
        (Invoice, {}, [("amount", "the task requires this field, but the trigger sends only id")]),
        (
            Invoice,
            {"payload_strategy": "custom", "payload_custom": {"invoice": "id", "amount": "name"}},
            [
                ("id", "the task requires this field, but the trigger sends only invoice, amount"),
                ("amount", "column name (text) is sent as a string, but the field accepts a number"),
            ],
        ),
        (
            Strict,
            INVOICE | {"include_meta": True},
            [("_meta", "the value of include_meta is sent, but the task forbids additional fields")],
        ),
        (list[int], {}, [("", "the payload is sent as an object, but the field accepts an array")]),
        (dict[str, int], {}, [("id", "column id (uuid) is sent as a string, but the field accepts an integer")]),
        (
            RowChange[Invoice],
            INVOICE,
            [
                ("new", "the task requires this field, but the trigger sends only id, amount"),
                ("old", "the task requires this field, but the trigger sends only id, amount"),
            ],
        ),
        (Needs | Strict, {}, [("missing", "the task requires this field, but the trigger sends only id")]),
    ],
)
def test_mismatching_payload_is_reported(
    annotation: Any, parameters: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert problems(annotation, **parameters) == expected


def test_mismatch_lists_its_events() -> None:
    node = DataJobTrigger(
        task_identifier="t", payload_strategy="row", include_old=True, events=("INSERT", "UPDATE", "DELETE")
    )
    mismatches = check_compatibility(node, TABLE, {"t": TypeAdapter(RowChange[Invoice]).json_schema()})
    assert [(mismatch.field, mismatch.events) for mismatch in mismatches] == [
        ("new", ("INSERT", "DELETE")),
        ("old", ("INSERT", "DELETE")),
    ]


def test_unknown_task_is_reported_with_a_suggestion() -> None:
    node = DataJobTrigger(task_identifier="process_invoise", events=("INSERT",))
    expected = "no function has this task (nearest: process_invoice)"
    assert check_compatibility(node, TABLE, {"process_invoice": {}}) == [
        Mismatch("public.t", "process_invoise", ("INSERT",), "", expected)
    ]


@pytest.mark.parametrize(
    ("parameters", "excludes_null"),
    [
        ({"condition_field": "maybe", "condition_value": "a"}, True),
        ({"conditions": ({"field": "maybe", "op": "IS NOT NULL"},)}, True),
        ({"conditions": ({"field": "maybe", "op": "LIKE", "value": "a%"},)}, True),
        ({"conditions": ({"field": "maybe", "op": "IS DISTINCT FROM", "value": None},)}, True),
        ({"conditions": ({"field": "maybe", "op": "IS DISTINCT FROM", "value": "a"},)}, False),
        ({"conditions": ({"field": "maybe", "op": "IS NULL"},)}, False),
        ({"conditions": ({"NOT": {"field": "maybe", "op": "=", "value": "a"}},)}, False),
        ({"conditions": ({"field": "maybe", "op": "=", "value": "a", "row": "OLD"},)}, False),
        ({"watch_fields": ("maybe",)}, False),
    ],
)
def test_condition_can_exclude_null(parameters: dict[str, Any], *, excludes_null: bool) -> None:
    class Maybe(BaseModel):
        maybe: str

    mismatches = problems(Maybe, payload_strategy="fields", payload_fields=("maybe",), **parameters)
    assert (mismatches == []) is excludes_null
