"""Read tables, columns, types and the jobs schema from PostgreSQL's catalog, as the values of ``table.py``."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import asyncpg

from jobfn.errors import BlueprintError, SchemaError
from jobfn.sql.loader import load_query
from jobfn.sql.quoting import quote_identifier
from jobfn.triggers.table import Column, EnqueueMethod, JobsSchema, PgType, Table, TypeKind, qualified_label, suggest

#: ``pg_class.relkind`` of relations that can have triggers: ordinary, partitioned and foreign tables.
_TABLE_KINDS: Final = frozenset({"r", "p", "f"})
_TYPE_KINDS: Final = {
    "a": TypeKind.ARRAY,
    "c": TypeKind.COMPOSITE,
    "d": TypeKind.DOMAIN,
    "e": TypeKind.ENUM,
    "m": TypeKind.RANGE,
    "r": TypeKind.RANGE,
}
#: Columns of ``jobs_schema`` that say what the schema has. The platform's has only the first of these.
_FEATURES: Final = ("accepts_entity", "accepts_signals", "accepts_unique", "accepts_expiry", "has_task_settings")


def query(name: str) -> str:
    """Return a statement of ``queries.sql``."""
    return load_query("jobfn.triggers", "queries.sql", name)


async def read_jobs_schema(connection: "asyncpg.Connection[Any]", name: str) -> JobsSchema:
    """Read how triggers enqueue into the jobs schema.

    Raises:
        SchemaError: The schema does not exist, or it has no ``add_job`` function.
    """
    row = await connection.fetchrow(query("jobs_schema"), name)
    if row is None or not row["has_jobs"]:
        raise SchemaError(f"this database has no jobs schema {name}: run `jobfn db migrate`, or set JOBS_SCHEMA")
    features = {feature: row[feature] for feature in _FEATURES}
    if row["is_ours"]:
        return JobsSchema(name, EnqueueMethod.INSERT, **features)
    if row["by_identifier"]:
        return JobsSchema(name, EnqueueMethod.ADD_JOB, **features)
    if row["by_tenant"]:
        return JobsSchema(name, EnqueueMethod.ADD_JOB_WITH_TENANT, requires_tenant=row["needs_tenant"], **features)
    raise SchemaError(
        f"schema {name} has no add_job function that matches the contract: run `jobfn db migrate`, or set JOBS_SCHEMA"
    )


async def read_tables(
    connection: "asyncpg.Connection[Any]", names: Sequence[tuple[str, str]], jobs_schema: str, *, lock: bool = False
) -> dict[int, Table]:
    """Read tables by schema and name.

    Args:
        connection: Connection that can read the catalog.
        names: Schema and name of each table.
        jobs_schema: Schema of the jobs; its tables cannot have triggers.
        lock: Whether to keep owners and types of the columns from changing until the transaction ends.

    Returns:
        The tables by oid, in the order of ``names``.

    Raises:
        BlueprintError: A table does not exist or cannot have triggers.
    """
    arguments = ([schema for schema, _ in names], [name for _, name in names])
    rows = await connection.fetch(query("tables"), *arguments)
    lockable = [row for row in rows if lock and row["is_lockable"]]
    if lockable:
        tables = ", ".join(
            f"only {quote_identifier(row['schema'])}.{quote_identifier(row['name'])}" for row in lockable
        )
        await connection.execute(f"lock table {tables} in access share mode")
        rows = await connection.fetch(query("tables"), *arguments)
    rows_by_name = {(row["schema"], row["name"]): row for row in rows}
    for schema, name in names:
        label = qualified_label(schema, name)
        if (schema, name) not in rows_by_name:
            raise BlueprintError(await _missing_table_message(connection, schema, name))
        if rows_by_name[schema, name]["kind"] not in _TABLE_KINDS:
            raise BlueprintError(f"{label} is not a table: only tables have row triggers")
        if schema == jobs_schema:
            raise BlueprintError(f"table {label} is in the jobs schema: each job would enqueue another one")
    columns = await _read_columns(connection, [row["oid"] for row in rows])
    return {
        row["oid"]: Table(
            schema=schema,
            name=name,
            columns=tuple(columns.get(row["oid"], ())),
            primary_key=tuple(row["primary_key"]),
            is_plain_table=row["stands_alone"],
        )
        for schema, name in names
        for row in [rows_by_name[schema, name]]
    }


async def _missing_table_message(connection: "asyncpg.Connection[Any]", schema: str, name: str) -> str:
    rows = await connection.fetch(
        "select relname::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "where n.nspname = $1 and c.relkind = any ($2::text[])",
        schema,
        sorted(_TABLE_KINDS),
    )
    return f"table {qualified_label(schema, name)} does not exist{suggest(name, (row['name'] for row in rows))}"


async def _read_columns(connection: "asyncpg.Connection[Any]", oids: Sequence[int]) -> dict[int, list[Column]]:
    rows = await connection.fetch(query("columns"), oids)
    types = await _read_types(connection, {row["type_oid"] for row in rows})
    columns: dict[int, list[Column]] = {}
    for row in rows:
        column_type = types[row["type_oid"]]
        columns.setdefault(row["table_oid"], []).append(
            Column(
                name=row["name"],
                type=column_type,
                nullable=row["nullable"] and not column_type.not_null,
                is_integral=row["whole_numbers"],
                is_virtual=row["is_virtual"],
            )
        )
    return columns


async def _read_types(connection: "asyncpg.Connection[Any]", oids: Iterable[int]) -> dict[int, PgType]:
    rows = {row["oid"]: row for row in await connection.fetch(query("types"), list(oids))}
    types: dict[int, PgType] = {}
    for oid in rows:
        _build_type(oid, rows, types)
    return types


def _build_type(oid: int, rows: Mapping[int, Any], types: dict[int, PgType]) -> PgType:
    """Build the type of an oid, after the types that it consists of."""
    if oid in types:
        return types[oid]
    row = rows[oid]
    kind = _TYPE_KINDS.get(row["made"], TypeKind.OTHER)
    inner = {TypeKind.ARRAY: row["element_oid"], TypeKind.DOMAIN: row["base_oid"]}.get(kind)
    inner_type = _build_type(inner, rows, types) if inner is not None else None
    attributes = json.loads(row["attributes"])
    pg_type = types[oid] = PgType(
        name=row["name"],
        kind=kind,
        catalog_name=row["catalog_name"],
        comparable=row["comparable"],
        operators=json.loads(row["operators"]),
        has_json_cast=row["sends_json"],
        labels=tuple(row["labels"]),
        inner=inner_type,
        not_null=row["not_null"] or (kind is TypeKind.DOMAIN and inner_type is not None and inner_type.not_null),
        fields=tuple(Column(name, _build_type(attribute, rows, types)) for name, attribute in attributes),
    )
    return pg_type
