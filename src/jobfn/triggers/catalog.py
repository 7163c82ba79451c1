"""Tables, columns and types as the database has them, and the jobs schema that triggers enqueue into.

What is read here becomes ``table.py``'s values, which everything after it works on.
"""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, Final

import asyncpg

from jobfn.errors import BlueprintError, SchemaError
from jobfn.triggers.table import AddJob, Column, JobsSchema, PgType, Table, TypeKind, label_of, nearest

_QUERIES: Final = resources.files("jobfn.triggers") / "queries"
#: ``pg_class.relkind`` of what a trigger can be on: ordinary, partitioned and foreign tables.
_TABLE_KINDS: Final = frozenset({"r", "p", "f"})
_TYPE_KINDS: Final = {
    "a": TypeKind.ARRAY,
    "b": TypeKind.BASE,
    "c": TypeKind.COMPOSITE,
    "d": TypeKind.DOMAIN,
    "e": TypeKind.ENUM,
    "m": TypeKind.RANGE,
    "r": TypeKind.RANGE,
}


@functools.cache
def query(name: str) -> str:
    """The statement of ``queries/{name}.sql``."""
    return (_QUERIES / f"{name}.sql").read_text("utf-8")


async def read_jobs_schema(connection: "asyncpg.Connection[Any]", name: str) -> JobsSchema:
    """How jobs get into the jobs schema.

    Raises:
        SchemaError: There is none of that name, or it has no ``add_job``.
    """
    found = await connection.fetchrow(query("jobs_schema"), name)
    if found is None or not found["has_jobs"]:
        raise SchemaError(f"this database has no jobs schema {name}: run `jobfn db migrate`, or set JOBS_SCHEMA")
    if found["is_ours"]:
        return JobsSchema(name, AddJob.TABLE, may_add=bool(found["may_insert"]))
    if found["by_identifier"]:
        return JobsSchema(name, AddJob.IDENTIFIER, may_add=found["may_call"])
    if found["by_tenant"]:
        return JobsSchema(name, AddJob.TENANT, needs_tenant=found["needs_tenant"], may_add=found["may_call"])
    raise SchemaError(
        f"schema {name} has no add_job as the contract has it: run `jobfn db migrate`, or set JOBS_SCHEMA"
    )


async def read_tables(
    connection: "asyncpg.Connection[Any]", names: Sequence[tuple[str, str]], jobs_schema: str
) -> dict[int, Table]:
    """The tables of these schemas and names, by oid and in this order.

    Raises:
        BlueprintError: One is not there, or is nothing that a trigger can be on; names it.
    """
    rows = await connection.fetch(query("tables"), [schema for schema, _ in names], [name for _, name in names])
    found = {(row["schema"], row["name"]): row for row in rows}
    for schema, name in names:
        if (schema, name) not in found:
            raise BlueprintError(await _not_there(connection, schema, name))
        if found[schema, name]["kind"] not in _TABLE_KINDS:
            raise BlueprintError(f"{label_of(schema, name)} is no table, so its rows have no triggers")
        if schema == jobs_schema:
            raise BlueprintError(
                f"table {label_of(schema, name)} belongs to the jobs themselves: its jobs would never end"
            )
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
        for row in [found[schema, name]]
    }


async def _not_there(connection: "asyncpg.Connection[Any]", schema: str, name: str) -> str:
    known = await connection.fetch(
        "select relname::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "where n.nspname = $1 and c.relkind = any ($2::text[])",
        schema,
        sorted(_TABLE_KINDS),
    )
    return f"table {label_of(schema, name)} does not exist{nearest(name, (row['name'] for row in known))}"


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
                whole_numbers=row["whole_numbers"],
                is_virtual=row["is_virtual"],
            )
        )
    return columns


async def _read_types(connection: "asyncpg.Connection[Any]", oids: Iterable[int]) -> dict[int, PgType]:
    rows = {row["oid"]: row for row in await connection.fetch(query("types"), list(oids))}
    types: dict[int, PgType] = {}
    for oid in rows:
        _type(oid, rows, types)
    return types


def _type(oid: int, rows: Mapping[int, Any], types: dict[int, PgType]) -> PgType:
    """The type of an oid, after those it is made of. A type cannot hold itself except through a row of its table."""
    if oid in types:
        return types[oid]
    row = rows[oid]
    kind = _TYPE_KINDS.get(row["made"], TypeKind.OTHER)
    inner = {TypeKind.ARRAY: row["element_oid"], TypeKind.DOMAIN: row["base_oid"]}.get(kind)
    inner_type = _type(inner, rows, types) if inner is not None else None
    attributes = json.loads(row["attributes"])
    found = PgType(
        name=row["name"],
        kind=kind,
        catalog_name=row["catalog_name"],
        comparable=row["comparable"],
        operators=json.loads(row["operators"]),
        sends_json=row["sends_json"],
        labels=tuple(row["labels"]),
        inner=inner_type,
        not_null=row["not_null"] or (kind is TypeKind.DOMAIN and inner_type is not None and inner_type.not_null),
        fields=tuple(Column(name, _type(attribute, rows, types)) for name, attribute in attributes),
    )
    types[oid] = found
    return found
