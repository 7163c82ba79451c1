"""Validate a trigger against the columns of its table.

Pure. ``validate_in_database.py`` checks what only PostgreSQL knows, for example whether a value matches the column's
type.
"""

from collections.abc import Iterator
from typing import Final

from jobfn.errors import BlueprintError
from jobfn.triggers.conditions import comparisons
from jobfn.triggers.node import META_KEY, DataJobTrigger
from jobfn.triggers.table import Table, printable, suggest

#: Types of an entity id. Without a database, the type of a column may be unknown (``offline.py``).
_UUID_TYPES: Final = frozenset({"uuid", "unknown"})


def error_prefix(table: Table, node: DataJobTrigger) -> str:
    """Return the table and the node that a message is about."""
    return f"table {table.label}, DataJobTrigger {printable(node.label)}"


def validate_columns(node: DataJobTrigger, table: Table) -> list[str]:
    """Check every column that a trigger names.

    Returns:
        Warnings about allowed but suspicious parameters.

    Raises:
        BlueprintError: A column does not exist, or ``row_id`` has no primary key to send. The message names the
            table, the node and the parameter.
    """
    problem = next(_problems(node, table), None)
    if problem is not None:
        raise BlueprintError(f"{error_prefix(table, node)}: {problem}")
    return [*node.notices(), *_notices(node, table)]


def _problems(node: DataJobTrigger, table: Table) -> Iterator[str]:
    if not table.columns:
        yield "the table has no columns, so there is no payload to send"
    for parameter, name in referenced_columns(node):
        column = table.column(name)
        if column is None:
            suggestion = suggest(name, (column.name for column in table.columns))
            yield f"{parameter}: the table has no column {printable(name)}{suggestion}"
        elif column.is_virtual:
            yield f"{parameter}: {printable(name)} is a virtual generated column, which triggers cannot read"
    entity = table.column(node.entity_field) if node.entity_field is not None and node.entity_lookup is None else None
    if entity is not None and entity.type.base_type.catalog_name not in _UUID_TYPES:
        yield (
            f"entity_field: {printable(entity.name)} is of type {entity.type.name}, and an entity id is a uuid: name "
            "another column, or add entity_lookup if this one is a foreign key"
        )
    if node.payload_strategy == "row_id" and table.id_column is None:
        yield f"payload_strategy: row_id sends the primary key, but {_key_problem(table)}: use fields or row"
    if node.payload_strategy == "row" and node.include_meta and table.column(META_KEY) is not None:
        sends_columns = not node.include_old or node.events != ("UPDATE",)
        if sends_columns:
            yield f"include_meta: the table has a column {META_KEY}: rename it in the payload with custom"


def _key_problem(table: Table) -> str:
    if not table.primary_key:
        return "the table has none"
    columns = ", ".join(printable(name) for name in table.primary_key)
    return f"it has several columns ({columns}) and none is named id"


def referenced_columns(node: DataJobTrigger) -> Iterator[tuple[str, str]]:
    """Yield each parameter that names a column, with the column."""
    if node.payload_strategy == "fields":
        yield from (("payload_fields", name) for name in node.payload_fields or ())
    if node.payload_strategy == "custom":
        yield from (("payload_custom", name) for name in (node.payload_custom or {}).values())
    yield from (("watch_fields", name) for name in node.watch_fields or ())
    if node.condition_field is not None:
        yield "condition_field", node.condition_field
    if node.job_key_field is not None:
        yield "job_key_field", node.job_key_field
    if node.entity_field is not None:
        yield "entity_field", node.entity_field
    for condition in node.conditions or ():
        for comparison in comparisons(condition):
            yield "conditions", comparison.field
            if comparison.ref is not None:
                yield "conditions", comparison.ref.field


def _notices(node: DataJobTrigger, table: Table) -> Iterator[str]:
    if node.payload_strategy == "row" or (node.include_old and "UPDATE" in node.events):
        for column in table.columns:
            if column.is_virtual:
                yield f"{printable(column.name)} is a virtual generated column: triggers cannot read it and send null"
