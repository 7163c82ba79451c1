"""What a trigger sends, as a shape: from the columns of its table and their types (contract, section 4).

Pure. ``check.py`` compares it with what a task takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from jobfn.triggers.conditions import Comparison
from jobfn.triggers.expressions import row_of
from jobfn.triggers.node import META_KEY, OLD_KEY, DataJobTrigger, Event
from jobfn.triggers.table import Column, PgType, Table, TypeKind, shown

JsonType = Literal["object", "array", "string", "number", "integer", "boolean", "any"]

_TYPES: Final[Mapping[str, JsonType]] = {
    "bool": "boolean",
    "int2": "integer",
    "int4": "integer",
    "int8": "integer",
    "float4": "number",
    "float8": "number",
    "numeric": "number",
    "json": "any",
    "jsonb": "any",
}
#: JSON Schema's formats for the types that PostgreSQL sends as text. Its own interval is none of them.
_FORMATS: Final = {
    "uuid": "uuid",
    "date": "date",
    "timestamp": "date-time",
    "timestamptz": "date-time",
    "time": "time",
    "timetz": "time",
    "interval": "interval",
}


@dataclass(frozen=True, slots=True)
class Value:
    """A value that is sent.

    Attributes:
        origin: Where it comes from, for a message: ``column amount (numeric)``.
        type: Its JSON type; ``any`` where the column decides row by row, as jsonb does.
        nullable: Whether it can be null.
        format: Of a string: its format as JSON Schema names it, or ``interval``.
        labels: Of a string: the only values it can have; empty for any.
        items: Of an array: its elements.
        properties: Of an object: its fields; None where they are not known.
    """

    origin: str
    type: JsonType
    nullable: bool = False
    format: str | None = None
    labels: tuple[str, ...] = ()
    items: "Value | None" = None
    properties: "Mapping[str, Value] | None" = field(default=None)


def sent(node: DataJobTrigger, table: Table, event: Event) -> Value:
    """The payload of one event.

    Args:
        node: A node that ``resolve`` has looked at.
        table: Its table.
        event: One of its events.
    """
    row = row_of(event)
    known = _never_null(node, row)
    fields: dict[str, Value] = {}
    with_old = node.include_old and event == "UPDATE"
    match node.payload_strategy:
        case "row" if with_old:
            fields["new"] = _row(table, "the row after the change", known)
        case "row":
            fields |= _columns(table, known)
        case "row_id":
            if table.id_column is not None:
                fields["id"] = _column(table.id_column)
        case "fields":
            columns = _columns(table, known)
            fields |= {name: columns[name] for name in node.payload_fields or ()}
        case "custom":
            columns = _columns(table, known)
            fields |= {key: columns[name] for key, name in (node.payload_custom or {}).items()}
    if with_old:
        fields[OLD_KEY] = _row(table, "the row before the change", frozenset())
    if node.include_meta:
        fields[META_KEY] = _meta(event)
    return Value("the payload", "object", properties=fields)


def _row(table: Table, origin: str, known: frozenset[str]) -> Value:
    return Value(origin, "object", properties=_columns(table, known))


def _columns(table: Table, known: frozenset[str]) -> dict[str, Value]:
    columns = {column.name: _column(column) for column in table.columns}
    return {name: replace(value, nullable=False) if name in known else value for name, value in columns.items()}


def _column(column: Column) -> Value:
    value = _value(column.type, f"column {shown(column.name)} ({column.type.name})")
    if column.whole_numbers and value.type == "number":
        value = replace(value, type="integer")
    return replace(value, nullable=column.nullable or column.is_virtual)


def _value(pg_type: PgType, origin: str) -> Value:
    plain = pg_type.plain
    if plain.sends_json:
        return Value(origin, "any")
    match plain.kind:
        case TypeKind.ARRAY:
            inner = _value(plain.inner, f"an element of {origin}") if plain.inner is not None else None
            return Value(origin, "array", items=replace(inner, nullable=True) if inner is not None else None)
        case TypeKind.COMPOSITE:
            attributes = {
                attribute.name: replace(_value(attribute.type, f"{shown(attribute.name)} of {origin}"), nullable=True)
                for attribute in plain.fields
            }
            return Value(origin, "object", properties=attributes)
        case TypeKind.ENUM:
            return Value(origin, "string", labels=plain.labels)
    name = plain.catalog_name or ""
    return Value(origin, _TYPES.get(name, "string"), format=_FORMATS.get(name))


def _meta(event: Event) -> Value:
    return Value(
        "what include_meta adds",
        "object",
        properties={
            "schema": Value("the table's schema", "string"),
            "table": Value("the table's name", "string"),
            "event": Value("the event", "string", labels=(event,)),
        },
    )


def _never_null(node: DataJobTrigger, row: Literal["NEW", "OLD"]) -> frozenset[str]:
    """Columns that a condition keeps from being null: it compares them, and nothing equals NULL."""
    tree = node.condition_tree()
    return frozenset(
        condition.field
        for condition in (tree.conditions if tree is not None else ())
        if isinstance(condition, Comparison)
        and (condition.row or row) == row
        and (condition.op != "IS NULL" and (condition.op != "IS DISTINCT FROM" or condition.is_not_null))
    )
