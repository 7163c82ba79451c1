"""Bringing the jobs schema up to date: numbered migrations, one transaction each, under an advisory lock.

What was applied is recorded in ``{schema}.jobfn_migrations``. A schema that another tool made (the platform's own)
is never touched: jobfn works on it as it is.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import asyncpg

from jobfn.database.privileges import NO_GRANTS, Grants, check_roles, grant
from jobfn.database.statements import migrations, query, render
from jobfn.errors import DatabaseError, SchemaError

#: The lowest PostgreSQL that the migrations run on.
LOWEST_SERVER_VERSION = 14


class SchemaKind(StrEnum):
    """Whose schema a database carries."""

    ABSENT = "absent"
    JOBFN = "jobfn"
    PLATFORM = "platform"


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step.

    Attributes:
        version: Its number, 1 for the first.
        name: What it is about.
        applied: Whether this database has it.
    """

    version: int
    name: str
    applied: bool


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """What ``jobfn db status`` shows.

    Attributes:
        schema: Its name.
        kind: Whose it is.
        migrations: All that this jobfn knows, in order; empty for a schema of the platform's own.
        unknown: Versions that the database has and this jobfn does not know: it is older than the schema.
        changed: Versions that were applied with another text than this jobfn's: a build between two releases did.
    """

    schema: str
    kind: SchemaKind
    migrations: tuple[Migration, ...]
    unknown: tuple[int, ...] = ()
    changed: tuple[int, ...] = ()

    @property
    def pending(self) -> tuple[Migration, ...]:
        """What ``migrate`` would apply."""
        return tuple(migration for migration in self.migrations if not migration.applied)


async def status(connection: "asyncpg.Connection[Any]", schema: str) -> SchemaStatus:
    """Look at the schema and change nothing.

    Raises:
        DatabaseError: The connection's role may not read the record of migrations.
    """
    kind = await kind_of(connection, schema)
    if kind is SchemaKind.PLATFORM:
        return SchemaStatus(schema, kind, ())
    applied: dict[int, str] = {}
    if kind is SchemaKind.JOBFN:
        try:
            rows = await connection.fetch(query("applied_migrations", schema))
        except asyncpg.InsufficientPrivilegeError as error:
            raise DatabaseError(f"this role may not look at schema {schema}: {error}. Connect as its owner") from error
        applied = {row["version"]: row["checksum"] for row in rows}
    known = migrations()
    return SchemaStatus(
        schema,
        kind,
        tuple(Migration(version, name, version in applied) for version, name, _ in known),
        unknown=tuple(sorted(set(applied) - {version for version, _, _ in known})),
        changed=tuple(version for version, _, text in known if applied.get(version, _sum(text)) != _sum(text)),
    )


async def kind_of(connection: "asyncpg.Connection[Any]", schema: str) -> SchemaKind:
    """Whose schema this is: it has our record of migrations, or a jobs table without one, or neither."""
    row = await connection.fetchrow(query("schema_kind", schema), schema)
    if row is None or not (row["has_record"] or row["has_jobs"]):
        return SchemaKind.ABSENT
    return SchemaKind.JOBFN if row["has_record"] else SchemaKind.PLATFORM


async def migrate(
    connection: "asyncpg.Connection[Any]", schema: str, *, grants: Grants = NO_GRANTS
) -> tuple[Migration, ...]:
    """Apply what is missing. Any number of processes may call it at once; each step is applied once.

    Args:
        connection: Its role must be able to create the schema, or own it.
        schema: The schema's name, any that PostgreSQL allows.
        grants: Roles to give what they need, whether or not something was missing. Default: none.

    Returns:
        What was applied now, in order; empty when all was there.

    Raises:
        SchemaError: The schema is the platform's own, newer than this jobfn, or the server is too old.
        ConfigurationError: A role of ``grants`` is not there; nothing was applied.
        DatabaseError: PostgreSQL refused a step; that step left nothing behind.
    """
    check_server(connection.get_server_version().major)
    applied_now: list[Migration] = []
    try:
        await connection.execute(query("lock_migrations", schema))
        try:
            found = await status(connection, schema)
            _check(found)
            await check_roles(connection, schema, grants)
            for migration in found.pending:
                await _apply(
                    connection, schema, migration, is_first=found.kind is SchemaKind.ABSENT and not applied_now
                )
                applied_now.append(Migration(migration.version, migration.name, applied=True))
            await grant(connection, schema, grants)
        finally:
            if not connection.is_closed():
                await connection.execute(query("unlock_migrations", schema))
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseError(
            f"this role may not change schema {schema}: {error}. Run `jobfn db migrate` as its owner"
        ) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise DatabaseError(f"schema {schema} could not be brought up to date: {error}") from error
    return tuple(applied_now)


def check_server(major: int) -> None:
    """Refuse a PostgreSQL that the migrations do not run on.

    Raises:
        SchemaError: It is older than ``LOWEST_SERVER_VERSION``.
    """
    if major < LOWEST_SERVER_VERSION:
        raise SchemaError(f"PostgreSQL {major} is too old for jobfn: use {LOWEST_SERVER_VERSION} or newer")


def _check(found: SchemaStatus) -> None:
    schema = found.schema
    if found.kind is SchemaKind.PLATFORM:
        raise SchemaError(
            f"schema {schema} was made by the platform, not by jobfn, and is left as it is: worker and service run "
            "on it. To have jobfn's own beside it, set JOBS_SCHEMA to another name"
        )
    if found.unknown:
        raise SchemaError(
            f"schema {schema} has migration {found.unknown[-1]}, which this jobfn does not know: upgrade jobfn"
        )
    if found.changed:
        raise SchemaError(
            f"schema {schema} got its migration {found.changed[0]} from a jobfn between two releases, and this one's "
            f"differs: drop the schema if its jobs may go, or set JOBS_SCHEMA to another name"
        )


async def _apply(connection: "asyncpg.Connection[Any]", schema: str, migration: Migration, *, is_first: bool) -> None:
    text = next(text for version, _, text in migrations() if version == migration.version)
    async with connection.transaction():
        if is_first:
            row = await connection.fetchrow(query("schema_kind", schema), schema)
            if row is None or not row["has_schema"]:  # its owner need not be allowed to create schemas
                await connection.execute(query("create_schema", schema))
            await connection.execute(query("create_record", schema))
        await connection.execute(render(text, schema))
        await connection.execute(query("record_migration", schema), migration.version, migration.name, _sum(text))


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
