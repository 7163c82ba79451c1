"""What a trigger will send against what a task takes: each kind of mismatch, and none where there is none."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from jobfn.payloads import Row, RowChange, RowId
from jobfn.triggers import DataJobTrigger
from jobfn.triggers.compatibility import Mismatch, check
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
    "shape": PgType("public.geometry", sends_json=True),
    "email": PgType("public.citext"),
}
TABLE = Table(
    "public",
    "t",
    (
        *(Column(name, kind, nullable=False) for name, kind in TYPES.items()),
        Column("whole", builtin("numeric"), nullable=False, whole_numbers=True),
        Column("maybe", builtin("text")),
    ),
    primary_key=("id",),
)


def problems(annotation: Any, **parameters: Any) -> list[tuple[str, str]]:
    """Field and problem of every mismatch between a trigger with these parameters and this annotation."""
    node = DataJobTrigger(task_identifier="t", **({"events": ("UPDATE",)} | parameters))
    found = check(node, TABLE, {"t": TypeAdapter(annotation).json_schema()})
    assert all((mismatch.table, mismatch.task) == ("public.t", "t") for mismatch in found)
    return [(mismatch.field, mismatch.problem) for mismatch in found]


def of_column(column: str, annotation: Any) -> list[tuple[str, str]]:
    """The mismatches of one column with the field that takes it."""
    return of_schema(column, TypeAdapter(annotation).json_schema())


def of_schema(column: str, model: dict[str, Any]) -> list[tuple[str, str]]:
    """As ``of_column``, with the field's JSON Schema."""
    definitions = model.pop("$defs", {})
    schema = {"type": "object", "properties": {column: model}, "required": [column], "$defs": definitions}
    node = DataJobTrigger(task_identifier="t", payload_strategy="fields", payload_fields=(column,), events=("INSERT",))
    return [(mismatch.field, mismatch.problem) for mismatch in check(node, TABLE, {"t": schema})]


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
        ("id", str),
        ("id", str | int),
        ("amount", float),
        ("amount", Decimal),
        ("whole", int),
        ("count", int),
        ("count", float),
        ("count", Decimal),
        ("share", float),
        ("open", bool),
        ("name", str),
        ("name", UUID),  # a text column may hold nothing else
        ("name", datetime),
        ("name", Literal["a", "b"]),
        ("name", Colour),
        ("day", date),
        ("day", datetime),
        ("at", datetime),
        ("at", str),
        ("hour", time),
        ("wait", str),
        ("data", dict[str, Any]),
        ("data", list[int]),
        ("data", int),
        ("status", Literal["new", "paid", "gone"]),
        ("status", str),
        ("tags", list[str | None]),
        ("tags", list[Any]),
        ("positive", int),
        ("place", Everywhere),
        ("place", dict[str, int | None]),
        ("shape", Everywhere),
        ("email", str),
        ("maybe", str | None),
        ("maybe", Any),
        ("maybe", Literal["a"] | None),
    ],
)
def test_a_column_fits(column: str, annotation: Any) -> None:
    """Where the value can be right, nothing is said."""
    assert of_column(column, annotation) == []


@pytest.mark.parametrize(
    ("column", "annotation", "field", "problem"),
    [
        ("amount", int, "amount", "column amount (numeric) can have fractions, and this field takes a whole number"),
        ("share", int | None, "share", "column share (float8) can have fractions, and this field takes a whole number"),
        ("count", str, "count", "column count (int8) is sent as a whole number, and this field takes text"),
        ("name", int, "name", "column name (text) is sent as text, and this field takes a whole number"),
        ("name", list[str], "name", "column name (text) is sent as text, and this field takes a list"),
        ("open", str, "open", "column open (bool) is sent as true or false, and this field takes text"),
        ("count", Literal["a"], "count", "column count (int8) is sent as a whole number, and this field takes text"),
        ("id", datetime, "id", "column id (uuid) is sent as uuid, and this field takes a date-time"),
        ("at", date, "at", "column at (timestamptz) is sent as date-time, and this field takes a date"),
        ("at", UUID, "at", "column at (timestamptz) is sent as date-time, and this field takes a uuid"),
        (
            "wait",
            timedelta,
            "wait",
            "column wait (interval) is sent as an interval as PostgreSQL writes it, and this field takes a duration",
        ),
        ("id", Literal["a"], "id", "column id (uuid) is sent, and this field takes only a"),
        ("status", Literal["new"], "status", "column status (status) can be paid, and this field takes only new"),
        ("status", Colour, "status", "column status (status) can be new, paid, and this field takes only red"),
        ("status", UUID, "status", "column status (status) is sent as one of its labels, and this field takes a uuid"),
        ("tags", list[str], "tags[]", "an element of column tags (text[]) can be NULL, and this field takes no null"),
        (
            "tags",
            list[int | None],
            "tags[]",
            "an element of column tags (text[]) is sent as text, and this field takes a whole number",
        ),
        ("tags", str, "tags", "column tags (text[]) is sent as a list, and this field takes text"),
        ("place", Flat, "place.x", "x of column place (place) can be NULL, and this field takes no null"),
        ("maybe", str, "maybe", "column maybe (text) can be NULL, and this field takes no null"),
        ("maybe", Literal["a"], "maybe", "column maybe (text) can be NULL, and this field takes no null"),
        ("name", None, "name", "column name (text) is sent as text, and this field takes nothing"),
    ],
)
def test_a_column_does_not_fit(column: str, annotation: Any, field: str, problem: str) -> None:
    """The column and its type, and what the field takes."""
    assert of_column(column, annotation) == [(field, problem)]


NULL = "column maybe (text) can be NULL, and this field takes no null"
TEXT = "column maybe (text) is sent as text, and this field takes a whole number"


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        ({"allOf": [{"$ref": "#/$defs/T"}], "$defs": {"T": {"type": ["string", "null"]}}}, []),
        ({"allOf": [{"$ref": "#/$defs/T"}], "$defs": {"T": {"type": "string"}}}, [NULL]),
        ({"allOf": [{"type": "integer"}, {}]}, [NULL, TEXT]),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}, []),
        ({"anyOf": [{"anyOf": [{"type": "null"}, {"type": "integer"}]}, {"type": "string"}]}, []),
        ({"oneOf": [{"type": "null"}]}, ["column maybe (text) is sent, and this field takes only null"]),
        ({"enum": ["a", None]}, []),
        ({"enum": [1, 2]}, [NULL, TEXT]),
        ({"const": "a"}, [NULL]),
        ({"type": ["integer", "null"]}, [TEXT.replace("a whole number", "a whole number or nothing")]),
    ],
)
def test_schemas_that_other_libraries_write(schema: dict[str, Any], found: list[str]) -> None:
    """A task may describe its payload by a schema that pydantic would have written otherwise."""
    assert [problem for _, problem in of_schema("maybe", schema)] == found


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
        (dict, {"payload_strategy": "row"}),
        (Any, {}),
        (Invoice, {"payload_strategy": "row", "include_meta": True}),
        (Strict, INVOICE),
        (Row[Strict], INVOICE),
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
def test_a_payload_fits(annotation: Any, parameters: dict[str, Any]) -> None:
    """Shapes of ours and of the user's, with everything that may be added."""
    assert problems(annotation, **parameters) == []


@pytest.mark.parametrize(
    ("annotation", "parameters", "expected"),
    [
        (Invoice, {}, [("amount", "the task needs this field, and the trigger sends only id")]),
        (
            Invoice,
            {"payload_strategy": "custom", "payload_custom": {"invoice": "id", "amount": "name"}},
            [
                ("id", "the task needs this field, and the trigger sends only invoice, amount"),
                ("amount", "column name (text) is sent as text, and this field takes a number"),
            ],
        ),
        (
            Strict,
            INVOICE | {"include_meta": True},
            [("_meta", "what include_meta adds is sent, and the task forbids fields that it does not know")],
        ),
        (None, {}, [("", "the payload is sent as an object, and this field takes nothing")]),
        (list[int], {}, [("", "the payload is sent as an object, and this field takes a list")]),
        (dict[str, int], {}, [("id", "column id (uuid) is sent as text, and this field takes a whole number")]),
        (
            RowChange[Invoice],
            INVOICE,
            [
                ("new", "the task needs this field, and the trigger sends only id, amount"),
                ("old", "the task needs this field, and the trigger sends only id, amount"),
            ],
        ),
        (
            RowChange[Needs],
            {"payload_strategy": "row", "include_old": True, "events": ("UPDATE",)},
            [
                (
                    f"{row}.missing",
                    f"the task needs this field, and the trigger sends only {', '.join([*TYPES, 'whole', 'maybe'])}",
                )
                for row in ("new", "old")
            ],
        ),
        (
            Needs | Strict,
            {},
            [("missing", "the task needs this field, and the trigger sends only id")],
        ),
    ],
)
def test_a_payload_does_not_fit(annotation: Any, parameters: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """Each field by name; of several shapes, the one that is nearest."""
    assert problems(annotation, **parameters) == expected


def test_a_mismatch_names_the_events_it_is_about() -> None:
    """With include_old only an UPDATE sends new and old: a task for both does not fit the other events."""
    node = DataJobTrigger(
        task_identifier="t", payload_strategy="row", include_old=True, events=("INSERT", "UPDATE", "DELETE")
    )
    found = check(node, TABLE, {"t": TypeAdapter(RowChange[Invoice]).json_schema()})
    assert [(mismatch.field, mismatch.events) for mismatch in found] == [
        ("new", ("INSERT", "DELETE")),
        ("old", ("INSERT", "DELETE")),
    ]


def test_a_task_that_no_function_has() -> None:
    """With the nearest name that one has."""
    node = DataJobTrigger(task_identifier="process_invoise", events=("INSERT",))
    expected = "no function has this task (nearest: process_invoice)"
    assert check(node, TABLE, {"process_invoice": {}}) == [
        Mismatch("public.t", "process_invoise", ("INSERT",), "", expected)
    ]


@pytest.mark.parametrize(
    ("parameters", "fits"),
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
def test_a_condition_can_keep_null_away(parameters: dict[str, Any], *, fits: bool) -> None:
    """A column that is compared in the row that is sent is not NULL there."""

    class Maybe(BaseModel):
        maybe: str

    found = problems(Maybe, payload_strategy="fields", payload_fields=("maybe",), **parameters)
    assert (found == []) is fits
