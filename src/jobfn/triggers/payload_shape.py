"""Describe the payload that a trigger sends, from the columns of its table (contract, section 4).

Pure. Next step: ``compatibility.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from jobfn.triggers.conditions import Comparison, RowName
from jobfn.triggers.expressions import event_row
from jobfn.triggers.node import META_KEY, OLD_KEY, DataJobTrigger, Event
from jobfn.triggers.table import Column, PgType, Table, TypeKind, printable

JsonType = Literal["object", "array", "string", "number", "integer", "boolean", "any"]

#: JSON types of built-in types. Other types are sent as strings.
_JSON_TYPES: Final[Mapping[str, JsonType]] = {
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
#: JSON Schema formats of the types that are sent as strings. ``interval`` is PostgreSQL's own format.
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
class ValueShape:
    """The shape of a JSON value that a trigger sends.

    Attributes:
        origin: Source of the value, for messages: ``column amount (numeric)``.
        type: JSON type; ``any`` if it differs by row, as for jsonb.
        nullable: Whether the value can be null.
        format: Format of a string: a JSON Schema format, or ``interval``.
        labels: The only values of a string; empty for any value.
        items: Elements of an array.
        properties: Properties of an object; None if they are unknown.
    """

    origin: str
    type: JsonType
    nullable: bool = False
    format: str | None = None
    labels: tuple[str, ...] = ()
    items: "ValueShape | None" = None
    properties: "Mapping[str, ValueShape] | None" = None


def payload_shape(node: DataJobTrigger, table: Table, event: Event) -> ValueShape:
    """Return the shape of the payload for one event."""
    columns = _columns(table, non_null=_non_null_columns(node, event_row(event)))
    properties: dict[str, ValueShape] = {}
    includes_old = node.include_old and event == "UPDATE"
    match node.payload_strategy:
        case "row" if includes_old:
            properties["new"] = ValueShape("the new row", "object", properties=columns)
        case "row":
            properties |= columns
        case "row_id":
            if table.id_column is not None:
                properties["id"] = _column(table.id_column)
        case "fields":
            properties |= {name: columns[name] for name in node.payload_fields or ()}
        case "custom":
            properties |= {key: columns[name] for key, name in (node.payload_custom or {}).items()}
    if includes_old:
        properties[OLD_KEY] = ValueShape("the old row", "object", properties=_columns(table))
    if node.include_meta:
        properties[META_KEY] = _meta(event)
    return ValueShape("the payload", "object", properties=properties)


def _columns(table: Table, *, non_null: frozenset[str] = frozenset()) -> dict[str, ValueShape]:
    shapes = {column.name: _column(column) for column in table.columns}
    return {name: replace(shape, nullable=False) if name in non_null else shape for name, shape in shapes.items()}


def _column(column: Column) -> ValueShape:
    shape = _value(column.type, f"column {printable(column.name)} ({column.type.name})")
    if column.is_integral and shape.type == "number":
        shape = replace(shape, type="integer")
    return replace(shape, nullable=column.nullable or column.is_virtual)


def _value(pg_type: PgType, origin: str) -> ValueShape:
    base = pg_type.base_type
    if base.has_json_cast:
        return ValueShape(origin, "any")
    match base.kind:
        case TypeKind.ARRAY:
            items = _value(base.inner, f"an element of {origin}") if base.inner is not None else None
            return ValueShape(origin, "array", items=replace(items, nullable=True) if items is not None else None)
        case TypeKind.COMPOSITE:
            attributes = {
                attribute.name: replace(
                    _value(attribute.type, f"{printable(attribute.name)} of {origin}"), nullable=True
                )
                for attribute in base.fields
            }
            return ValueShape(origin, "object", properties=attributes)
        case TypeKind.ENUM:
            return ValueShape(origin, "string", labels=base.labels)
    name = base.catalog_name or ""
    return ValueShape(origin, _JSON_TYPES.get(name, "string"), format=_FORMATS.get(name))


def _meta(event: Event) -> ValueShape:
    return ValueShape(
        "the value of include_meta",
        "object",
        properties={
            "schema": ValueShape("the table's schema", "string"),
            "table": ValueShape("the table's name", "string"),
            "event": ValueShape("the event", "string", labels=(event,)),
        },
    )


def _non_null_columns(node: DataJobTrigger, row: RowName) -> frozenset[str]:
    """Return the columns that a condition compares in this row: a comparison with NULL is never true."""
    tree = node.condition_tree()
    return frozenset(
        condition.field
        for condition in (tree.conditions if tree is not None else ())
        if isinstance(condition, Comparison)
        and (condition.row or row) == row
        and (condition.op != "IS NULL" and (condition.op != "IS DISTINCT FROM" or condition.is_not_null))
    )
