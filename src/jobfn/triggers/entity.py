"""Find the source of the entity id of a trigger's jobs: ``entity_field`` and ``entity_lookup``.

The id is a column of the table, or, with a foreign key in ``entity_field``, a column of the related table.
``expressions.py`` writes the expression.
"""

from collections.abc import Sequence
from typing import Any

import asyncpg

from jobfn.errors import BlueprintError
from jobfn.sql.quoting import quote_identifier
from jobfn.triggers.catalog import query
from jobfn.triggers.expressions import TRIGGER_ROWS, entity_expression
from jobfn.triggers.node import DataJobTrigger, EntityLookup
from jobfn.triggers.rights import FunctionRole
from jobfn.triggers.table import EntitySource, Table, printable, qualified_label, suggest
from jobfn.triggers.validate_columns import error_prefix
from jobfn.triggers.validate_in_database import expression_problem


async def resolve_entity(
    connection: "asyncpg.Connection[Any]", node: DataJobTrigger, table: Table, role: FunctionRole
) -> tuple[EntitySource | None, tuple[str, ...]]:
    """Return the source of the entity id, and why code of other roles would run with the rights of the role.

    The source is None if the trigger sets no entity. ``validate_columns`` has checked the column.

    Raises:
        BlueprintError: The related table or its column does not exist, its name is ambiguous, it holds no uuids, or the
            role may not read it.
    """
    if node.entity_field is None:
        return None, ()
    lookup = node.entity_lookup
    if lookup is None:
        return EntitySource(node.entity_field), ()
    rows = await connection.fetch(
        query("lookup_tables"),
        lookup.obj_table,
        lookup.obj_schema,
        lookup.obj_field,
        table.sql,
        node.entity_field,
        role.name,
    )
    names = await connection.fetch(query("lookup_table_names"), lookup.obj_schema) if not rows else []
    problem = _problem(node.entity_field, lookup, rows, [row["name"] for row in names]) or _unreadable(
        rows[0], lookup, role
    )
    if problem is None:
        row = rows[0]
        name = f"{quote_identifier(row['schema'])}.{quote_identifier(row['name'])}"
        entity = EntitySource(node.entity_field, name, row["key"], lookup.obj_field)
        may_run_code = role.may_run_code and row["is_safe"]
        expression = entity_expression(entity, "UPDATE", TRIGGER_ROWS)
        problem = await expression_problem(connection, expression, table, may_run_code=may_run_code)
        if problem is None:
            return entity, () if row["is_safe"] else (_risk(row, table, role),)
    raise BlueprintError(f"{error_prefix(table, node)}: entity_lookup: {problem}")


def _unreadable(row: "asyncpg.Record", lookup: EntityLookup, role: FunctionRole) -> str | None:
    """Return why the role of the trigger's function cannot read the related row; None if it can."""
    label, name = qualified_label(row["schema"], row["name"]), printable(role.name)
    if not row["may_use"]:
        return f"triggers look the entity up as {name}, who may not use schema {printable(row['schema'])}: grant usage"
    columns = [column for column in (row["key"], lookup.obj_field) if column not in row["readable"]]
    if columns:
        missing = ", ".join(map(printable, columns))
        return f"triggers look the entity up as {name}, who may not read {missing} of {label}: grant select"
    return None


def _risk(row: "asyncpg.Record", table: Table, role: FunctionRole) -> str:
    owner, label = printable(row["owner"]), qualified_label(row["schema"], row["name"])
    return (
        f"the triggers of {table.label} would run code of {owner}, who owns {label} and may turn it into a view, with "
        f"the rights of role {printable(role.name)}: change the owner of one of them"
    )


def _problem(
    foreign_key: str, lookup: EntityLookup, rows: "Sequence[asyncpg.Record]", names: Sequence[str]
) -> str | None:
    """Return why the lookup is not possible with these tables; without any, suggest one of the names."""
    if not rows:
        schema = f"{printable(lookup.obj_schema)}." if lookup.obj_schema is not None else ""
        return f"table {schema}{printable(lookup.obj_table)} does not exist{suggest(lookup.obj_table, names)}"
    if len(rows) > 1:
        labels = ", ".join(qualified_label(row["schema"], row["name"]) for row in rows)
        return f"obj_table {printable(lookup.obj_table)} is ambiguous ({labels}): set obj_schema"
    row = rows[0]
    label = qualified_label(row["schema"], row["name"])
    if row["field_type"] is None:
        suggestion = suggest(lookup.obj_field, row["columns"])
        return f"table {label} has no column {printable(lookup.obj_field)}{suggestion}"
    if not row["holds_uuids"]:
        field = printable(lookup.obj_field)
        return f"{label}.{field} is of type {row['field_type']}, and an entity id is a uuid: name another obj_field"
    if row["key"] is None:
        return (
            f"{label} has no primary key of one column, and no foreign key leads to it from {printable(foreign_key)}: "
            "add one of them"
        )
    return None
