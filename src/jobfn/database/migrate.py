"""Bring the jobs schema up to date: numbered migrations, one transaction each, under an advisory lock.

Applied migrations are recorded in ``{schema}.jobfn_migrations``. A schema that another tool made (the platform's own)
is never touched: jobfn works on it as it is. One that a pre-release of jobfn made is refused.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import asyncpg

from jobfn.database.privileges import NO_GRANTS, Grants, check_roles, grant
from jobfn.database.statements import migrations, query
from jobfn.errors import DatabaseError, SchemaError
from jobfn.sql.loader import render
from jobfn.sql.locks import MIGRATION_LOCK

#: The lowest PostgreSQL that the migrations run on.
LOWEST_SERVER_VERSION = 14


class SchemaKind(StrEnum):
    """Maker of the schema of a database.

    ``PRERELEASE``: a jobfn before its first release, whose migrations cannot be continued.
    """

    ABSENT = "absent"
    JOBFN = "jobfn"
    PLATFORM = "platform"
    PRERELEASE = "prerelease"


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step.

    Attributes:
        version: Its number, 1 for the first.
        name: Its topic.
        applied: Whether this database has it.
    """

    version: int
    name: str
    applied: bool


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """State of a schema, as ``jobfn db status`` shows it.

    Attributes:
        schema: Its name.
        kind: Who made it.
        migrations: The migrations of this jobfn, in order; empty unless it is ``ABSENT`` or ``JOBFN``.
        unknown: Versions that the database has and this jobfn does not know: it is older than the schema.
    """

    schema: str
    kind: SchemaKind
    migrations: tuple[Migration, ...]
    unknown: tuple[int, ...] = ()

    @property
    def pending(self) -> tuple[Migration, ...]:
        """The migrations that ``migrate`` would apply."""
        return tuple(migration for migration in self.migrations if not migration.applied)


async def status(connection: "asyncpg.Connection[Any]", schema: str) -> SchemaStatus:
    """Return which migrations the schema has, and change nothing.

    Raises:
        DatabaseError: The connection's role may not read the record of migrations.
    """
    kind = await kind_of(connection, schema)
    if kind not in {SchemaKind.ABSENT, SchemaKind.JOBFN}:
        return SchemaStatus(schema, kind, ())
    applied: dict[int, str] = {}
    if kind is SchemaKind.JOBFN:
        try:
            rows = await connection.fetch(query("applied_migrations", schema))
        except asyncpg.InsufficientPrivilegeError as error:
            raise DatabaseError(f"this role may not look at schema {schema}: {error}. Connect as its owner") from error
        applied = {row["version"]: row["checksum"] for row in rows}
    known = migrations()
    if any(applied.get(version, _sum(text)) != _sum(text) for version, _, text in known):
        return SchemaStatus(schema, SchemaKind.PRERELEASE, ())  # a released migration never changes
    return SchemaStatus(
        schema,
        kind,
        tuple(Migration(version, name, version in applied) for version, name, _ in known),
        unknown=tuple(sorted(set(applied) - {version for version, _, _ in known})),
    )


async def kind_of(connection: "asyncpg.Connection[Any]", schema: str) -> SchemaKind:
    """Return who made this schema, from the catalog, which every role may read."""
    row = await connection.fetchrow(query("schema_kind", schema), schema)
    if row is None or not (row["has_record"] or row["has_jobs"]):
        return SchemaKind.ABSENT
    if row["has_record"] and row["has_prerelease_function"]:
        return SchemaKind.PRERELEASE
    return SchemaKind.JOBFN if row["has_record"] else SchemaKind.PLATFORM


async def migrate(
    connection: "asyncpg.Connection[Any]", schema: str, *, grants: Grants = NO_GRANTS
) -> tuple[Migration, ...]:
    """Apply the missing migrations. Any number of processes may call it at once; each is applied once.

    Args:
        connection: Its role must be able to create the schema, or own it.
        schema: The schema's name, any that PostgreSQL allows.
        grants: Roles that get their rights, whether or not a migration was missing. Default: none.

    Returns:
        The migrations that were applied now, in order; empty if none was missing.

    Raises:
        SchemaError: The schema is the platform's own, from a pre-release or newer than this jobfn, or the server is too
            old.
        ConfigurationError: A role of ``grants`` is not there; nothing was applied.
        DatabaseError: PostgreSQL refused a step; that step left nothing behind.
    """
    check_server(connection.get_server_version().major)
    applied_now: list[Migration] = []
    try:
        await connection.execute(query("lock_migrations", schema), MIGRATION_LOCK)
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
                await connection.execute(query("unlock_migrations", schema), MIGRATION_LOCK)
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseError(
            f"this role may not change schema {schema}: {error}. Run `jobfn db migrate` as its owner"
        ) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise DatabaseError(f"schema {schema} could not be brought up to date: {error}") from error
    return tuple(applied_now)


def check_server(major: int) -> None:
    """Refuse a server that is too old for the migrations.

    Raises:
        SchemaError: It is older than ``LOWEST_SERVER_VERSION``.
    """
    if major < LOWEST_SERVER_VERSION:
        raise SchemaError(f"PostgreSQL {major} is too old for jobfn: use {LOWEST_SERVER_VERSION} or newer")


def prerelease_message(schema: str) -> str:
    """Return the line that says what to do with a schema that a pre-release made."""
    return (
        f"schema {schema} was made by a pre-release of jobfn and cannot be upgraded: finish or export its jobs and drop"
        " it, or set JOBS_SCHEMA to another name, then run `jobfn db migrate`"
    )


def _check(found: SchemaStatus) -> None:
    schema = found.schema
    if found.kind is SchemaKind.PLATFORM:
        raise SchemaError(
            f"schema {schema} was made by the platform, not by jobfn, and is left as it is: worker and service run "
            "on it. To have jobfn's own beside it, set JOBS_SCHEMA to another name"
        )
    if found.kind is SchemaKind.PRERELEASE:
        raise SchemaError(prerelease_message(schema))
    if found.unknown:
        raise SchemaError(
            f"schema {schema} has migration {found.unknown[-1]}, which this jobfn does not know: upgrade jobfn"
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
