"""Bring the jobs schema up to date: numbered migrations, one transaction each, under an advisory lock.

Applied migrations are recorded in ``{schema}.jobfn_migrations``. The platform's schema is never changed: jobfn uses it
as it is. A schema from a pre-release of jobfn is rejected.
"""

import contextlib
import functools
import hashlib
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib import resources
from typing import NamedTuple

import asyncpg

from jobfn.database.permissions import explain_denied, missing_right
from jobfn.database.privileges import NO_GRANTS, Grants, check_roles, grant
from jobfn.database.statements import query
from jobfn.errors import DatabaseError, SchemaError, error_text
from jobfn.sql.loader import render
from jobfn.sql.locks import MIGRATION_LOCK

#: Minimum PostgreSQL version of the migrations.
MIN_SERVER_VERSION = 14
#: Maximum number of deadlocks of a migration with services that run.
MAX_DEADLOCKS = 10

_FILE_NAME = re.compile(r"(?P<version>\d{4})_(?P<name>\w+)\.sql")


class SchemaKind(StrEnum):
    """Maker of a schema.

    ``PRERELEASE``: a pre-release of jobfn. Its migrations cannot be continued.
    """

    ABSENT = "absent"
    JOBFN = "jobfn"
    PLATFORM = "platform"
    PRERELEASE = "prerelease"


class MigrationFile(NamedTuple):
    """A file in ``schema/``.

    Attributes:
        version: Its number, from 1.
        name: Its topic.
        sql: Its text, with placeholders.
    """

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """The SHA-256 of the text, as recorded in the database."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Migration:
    """A migration in a database.

    Attributes:
        version: Its number, from 1.
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
        kind: Its maker.
        migrations: The migrations of this jobfn, in order; empty unless the schema is ``ABSENT`` or ``JOBFN``.
        unknown: Versions of applied migrations that this jobfn does not have: it is older than the schema.
    """

    schema: str
    kind: SchemaKind
    migrations: tuple[Migration, ...]
    unknown: tuple[int, ...] = ()

    @property
    def pending(self) -> tuple[Migration, ...]:
        """The migrations that ``migrate`` would apply."""
        return tuple(migration for migration in self.migrations if not migration.applied)


@functools.cache
def migration_files() -> tuple[MigrationFile, ...]:
    """Return the migrations of this jobfn, in order."""
    files = (resources.files("jobfn.database") / "schema").iterdir()
    matches = ((_FILE_NAME.fullmatch(file.name), file) for file in files)
    return tuple(
        sorted(
            MigrationFile(int(match["version"]), match["name"], file.read_text("utf-8"))
            for match, file in matches
            if match is not None
        )
    )


async def status(connection: asyncpg.Connection, schema: str) -> SchemaStatus:
    """Return the state of a schema, without changing it.

    Raises:
        PermissionDenied: The connection's role may not read the record of migrations.
    """
    kind = await schema_kind(connection, schema)
    if kind not in {SchemaKind.ABSENT, SchemaKind.JOBFN}:
        return SchemaStatus(schema, kind, ())
    checksums: dict[int, str] = {}
    if kind is SchemaKind.JOBFN:
        async with explain_denied(connection, schema):
            rows = await connection.fetch(query("applied_migrations", schema))
        checksums = {row["version"]: row["checksum"] for row in rows}
    files = migration_files()
    if any(checksums.get(file.version, file.checksum) != file.checksum for file in files):
        return SchemaStatus(schema, SchemaKind.PRERELEASE, ())  # a released migration never changes
    return SchemaStatus(
        schema,
        kind,
        tuple(Migration(file.version, file.name, file.version in checksums) for file in files),
        unknown=tuple(sorted(set(checksums) - {file.version for file in files})),
    )


async def schema_kind(connection: asyncpg.Connection, schema: str) -> SchemaKind:
    """Return the maker of a schema, from the catalog, which every role may read."""
    row = await connection.fetchrow(query("schema_kind", schema), schema)
    if not (row["has_record"] or row["has_jobs"]):
        return SchemaKind.ABSENT
    if row["has_record"] and row["has_prerelease_function"]:
        return SchemaKind.PRERELEASE
    return SchemaKind.JOBFN if row["has_record"] else SchemaKind.PLATFORM


async def migrate(
    connection: asyncpg.Connection,
    schema: str,
    *,
    grants: Grants = NO_GRANTS,
    max_payload_bytes: int | None = None,
    audit_days: float | None = None,
) -> tuple[Migration, ...]:
    """Apply the pending migrations. Several processes can call it at the same time; each migration is applied once.

    Args:
        connection: Its role must be able to create the schema, or own it.
        schema: The schema's name: any that PostgreSQL allows.
        grants: Roles to grant privileges to, even if no migration is pending.
        max_payload_bytes: Maximum size of the payloads of new jobs. None: as it is, at first 10 MiB.
        audit_days: Retention of the audit list. None: as it is, at first 365 days.

    Returns:
        The migrations that were applied, in order.

    Raises:
        SchemaError: The schema is the platform's, from a pre-release, or newer than this jobfn, or the server is too
            old.
        ConfigurationError: A role of ``grants`` does not exist; nothing was applied.
        PermissionDenied: The connection's role is not the owner of the schema.
        DatabaseError: PostgreSQL rejected a migration, which was rolled back; those before it stay.
    """
    check_server_version(connection.get_server_version().major)
    applied: list[Migration] = []
    try:
        while (migration := await _migrate_next(connection, schema, grants)) is not None:
            applied.append(migration)
        if max_payload_bytes is not None:
            await connection.execute(query("set_max_payload_bytes", schema), max_payload_bytes)
        if audit_days is not None:
            await connection.execute(query("set_audit_retention", schema), audit_days)
    except asyncpg.InsufficientPrivilegeError as error:
        row = await connection.fetchrow(query("schema_kind", schema), schema)
        raise DatabaseError(
            f"role {row['role']} may not create or change schema {schema}: {error}. Run `jobfn db migrate` as another "
            "role"
        ) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise DatabaseError(f"schema {schema} was not migrated: {error_text(error)}") from error
    return tuple(applied)


async def _migrate_next(connection: asyncpg.Connection, schema: str, grants: Grants) -> Migration | None:
    """Apply the next pending migration, again if PostgreSQL ends it because of a deadlock with a running service."""
    for _ in range(MAX_DEADLOCKS):
        with contextlib.suppress(asyncpg.DeadlockDetectedError):
            return await _migrate_once(connection, schema, grants)
    return await _migrate_once(connection, schema, grants)


async def _migrate_once(connection: asyncpg.Connection, schema: str, grants: Grants) -> Migration | None:
    """Apply the next pending migration and return it. If there is none, grant the privileges.

    Each has a lock of its transaction: a lock of the session would outlive this process in a connection pooler.
    """
    async with connection.transaction():
        await connection.execute(query("lock_migrations", schema), MIGRATION_LOCK)
        await _check_owner(connection, schema)
        current = await status(connection, schema)
        _check_migratable(current)
        await check_roles(connection, grants)
        if not current.pending:
            await grant(connection, schema, grants)
            return None
        migration = current.pending[0]
        await _apply(connection, schema, migration.version, is_first=current.kind is SchemaKind.ABSENT)
        return replace(migration, applied=True)


def check_server_version(major: int) -> None:
    """Check that the server is new enough for the migrations.

    Raises:
        SchemaError: It is older than ``MIN_SERVER_VERSION``.
    """
    if major < MIN_SERVER_VERSION:
        raise SchemaError(f"PostgreSQL {major} is too old for jobfn: use {MIN_SERVER_VERSION} or newer")


def prerelease_message(schema: str) -> str:
    """Return the error text for a schema from a pre-release."""
    return (
        f"schema {schema} was made by a pre-release of jobfn and cannot be upgraded: finish or export its jobs and drop"
        " it, or set JOBS_SCHEMA to another name, then run `jobfn db migrate`"
    )


def _check_migratable(current: SchemaStatus) -> None:
    schema = current.schema
    if current.kind is SchemaKind.PLATFORM:
        raise SchemaError(
            f"schema {schema} was made by the platform and is not changed: jobfn runs on it as it is. To install "
            "jobfn's schema beside it, set JOBS_SCHEMA to another name"
        )
    if current.kind is SchemaKind.PRERELEASE:
        raise SchemaError(prerelease_message(schema))
    if current.unknown:
        raise SchemaError(
            f"schema {schema} has migration {current.unknown[-1]}, which this jobfn does not know: upgrade jobfn"
        )


async def _check_owner(connection: asyncpg.Connection, schema: str) -> None:
    """Check that the role owns the schema's tables. A role with fewer rights can grant nothing, and gets no error."""
    row = await connection.fetchrow(query("schema_owner", schema), schema)
    if row is not None and not row["is_owner"]:
        right = f"the right to change schema {schema}"
        raise missing_right(row["role"], right, schema=schema, owner=row["owner"], grant=None)


async def _apply(connection: asyncpg.Connection, schema: str, version: int, *, is_first: bool) -> None:
    file = migration_files()[version - 1]
    if is_first:
        row = await connection.fetchrow(query("schema_kind", schema), schema)
        if not row["has_schema"]:  # the owner of an existing schema may not create schemas
            await connection.execute(query("create_schema", schema))
        await connection.execute(query("create_record", schema))
    await connection.execute(render(file.sql, schema))
    await connection.execute(query("record_migration", schema), version, file.name, file.checksum)
