"""Generate the SQL of triggers without a database, from the ``fields`` of the blueprint's tables.

The SQL is for review: it assumes jobfn's schema, and tables as the blueprint describes them. The notices name what only
a database can check.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from jobfn.errors import BlueprintError
from jobfn.sql.quoting import quote_identifier
from jobfn.triggers.blueprint import TableTriggers
from jobfn.triggers.node import DataJobTrigger
from jobfn.triggers.plan import ValidNode, generate_nodes
from jobfn.triggers.sql import NodeSql
from jobfn.triggers.table import Column, EntitySource, JobsSchema, PgType, Table, TypeKind, printable, qualified_label
from jobfn.triggers.validate_columns import error_prefix, referenced_columns, validate_columns

#: Built-in types by their names in blueprints: the name in SQL, and the name in the catalog.
_TYPES: Final = {
    alias: (name, catalog_name)
    for name, catalog_name, *aliases in (
        ("bigint", "int8", "bigserial", "serial8"),
        ("boolean", "bool"),
        ("bytea", "bytea"),
        ("character varying", "varchar"),
        ("date", "date"),
        ("double precision", "float8"),
        ("inet", "inet"),
        ("integer", "int4", "int", "serial", "serial4"),
        ("interval", "interval"),
        ("json", "json"),
        ("jsonb", "jsonb"),
        ("numeric", "numeric", "decimal"),
        ("real", "float4"),
        ("smallint", "int2", "smallserial", "serial2"),
        ("text", "text"),
        ("time without time zone", "time"),
        ("timestamp with time zone", "timestamptz"),
        ("timestamp without time zone", "timestamp"),
        ("uuid", "uuid"),
    )
    for alias in (name, catalog_name, *aliases)
}
#: Type of a column that the blueprint does not describe, or whose type is not built in.
_UNKNOWN: Final = PgType("unknown", catalog_name="unknown")
#: Parameters whose SQL depends on the types of their columns.
_TYPED_PARAMETERS: Final = frozenset({"watch_fields", "condition_field", "conditions"})
_DEFAULT_KEY: Final = "id"


def generate_without_database(
    tables: Sequence[TableTriggers], *, jobs_schema: str = "app_jobs"
) -> tuple[list[NodeSql], tuple[str, ...]]:
    """Return the SQL of every trigger on jobfn's schema, and notices of what was not checked.

    Raises:
        BlueprintError: A parameter does not match the fields, or its SQL depends on what only a database knows.
    """
    assumption = (
        f"without a database: the SQL is for jobfn's schema {jobs_schema}, and for tables without partitions and "
        "children; whether tables and columns exist as the blueprint says was not checked; run it only as the tables' "
        "owner, because the triggers run code of the owner with the rights of the role that runs it"
    )
    notices = [assumption]
    nodes: list[ValidNode] = []
    for entry in tables:
        for node in entry.triggers:
            table, assumed = _table(entry, node)
            prefix = error_prefix(table, node)
            problem = _problem(node, table)
            if problem is not None:
                raise BlueprintError(f"{prefix}: {problem}")
            notices += [f"{prefix}: {notice}" for notice in validate_columns(node, table)]
            notices += [f"{prefix}: not checked: {what}" for what in _unchecked(node, entry, assumed)]
            nodes.append((node, table, JobsSchema(jobs_schema), _entity(node)))
    return generate_nodes(nodes), tuple(notices)


def _table(entry: TableTriggers, node: DataJobTrigger) -> tuple[Table, list[str]]:
    """Return the table as the blueprint describes it, and the columns of the trigger that its fields do not name."""
    key = entry.primary_key or _DEFAULT_KEY
    columns = {name: Column(name, _type(type_name)) for name, type_name in entry.fields}
    needed = [name for _, name in referenced_columns(node)] + ([key] if node.payload_strategy == "row_id" else [])
    assumed = [name for name in dict.fromkeys(needed) if name not in columns]
    columns |= {name: Column(name, _UNKNOWN) for name in assumed}
    if not columns:  # the strategy row: the whole row is sent, whatever its columns are
        columns[key] = Column(key, _UNKNOWN)
    return Table(entry.schema, entry.table, tuple(columns.values()), (key,)), assumed


def _type(name: str) -> PgType:
    """Return the type of a name such as ``numeric(10, 2)`` or ``text[]``."""
    plain = " ".join(re.sub(r"\(.*?\)", " ", name).lower().split())
    if plain.endswith("[]"):
        inner = _type(plain.removesuffix("[]"))
        return inner if inner is _UNKNOWN else PgType(f"{inner.name}[]", TypeKind.ARRAY, inner=inner)
    if plain not in _TYPES:
        return _UNKNOWN
    sql_name, catalog_name = _TYPES[plain]
    return PgType(sql_name, catalog_name=catalog_name, comparable=catalog_name != "json")


def _problem(node: DataJobTrigger, table: Table) -> str | None:
    """Return why the SQL cannot be written without a database; None if it can."""
    for parameter, name in referenced_columns(node):
        column = table.column(name)
        if parameter in _TYPED_PARAMETERS and column is not None and column.type is _UNKNOWN:
            return (
                f"{parameter}: the blueprint's fields give {printable(name)} no built-in type, which the SQL depends "
                "on: add it, or use a database"
            )
    if node.entity_lookup is not None and node.entity_lookup.obj_schema is None:
        return "entity_lookup: obj_schema is missing: without a database, the table cannot be found by its name"
    return None


def _unchecked(node: DataJobTrigger, entry: TableTriggers, assumed: Sequence[str]) -> Iterator[str]:
    names = [name for name in assumed if name != entry.primary_key]
    if names:
        yield f"columns that the blueprint's fields do not name: {', '.join(map(printable, names))}"
    if node.payload_strategy == "row_id" and entry.primary_key is None and _DEFAULT_KEY in assumed:
        yield f"the primary key, taken to be {_DEFAULT_KEY}"
    for parameter in ("condition_value", "conditions", "run_at_delay", "max_delay", "expires_in", "unique_for"):
        if getattr(node, parameter) is not None:
            yield f"whether {parameter} is valid in PostgreSQL"
    lookup = node.entity_lookup
    if lookup is not None and lookup.obj_schema is not None:
        label = qualified_label(lookup.obj_schema, lookup.obj_table)
        column = printable(lookup.obj_field)
        yield f"whether {label} exists, its column {column}, and its key, taken to be {_DEFAULT_KEY}"


def _entity(node: DataJobTrigger) -> EntitySource | None:
    lookup = node.entity_lookup
    if node.entity_field is None or lookup is None or lookup.obj_schema is None:
        return None if node.entity_field is None else EntitySource(node.entity_field)
    name = f"{quote_identifier(lookup.obj_schema)}.{quote_identifier(lookup.obj_table)}"
    return EntitySource(node.entity_field, name, _DEFAULT_KEY, lookup.obj_field)
