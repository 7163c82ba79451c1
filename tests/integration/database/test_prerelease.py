"""A schema from a pre-release of jobfn is rejected and not changed."""

from pathlib import Path

import asyncpg
import pytest

from jobfn.database.migrate import SchemaKind, migrate, prerelease_message, status
from jobfn.database.open_store import open_store
from jobfn.errors import SchemaError
from support.commands import Spawn

MESSAGE = prerelease_message("app_jobs")
PRERELEASE_SCHEMA = Path(__file__).with_name("prerelease.sql").read_text("utf-8")


@pytest.fixture
async def prerelease(empty: asyncpg.Connection) -> asyncpg.Connection:
    """A connection to a database that a pre-release has migrated, with one job."""
    await empty.execute(PRERELEASE_SCHEMA)
    return empty


async def contents(connection: asyncpg.Connection) -> list[object]:
    """Return all objects of the schema, and its rows."""
    queries = (
        "select oid, relname from pg_class where relnamespace = 'app_jobs'::regnamespace order by 1",
        "select oid, proname from pg_proc where pronamespace = 'app_jobs'::regnamespace order by 1",
        "select * from app_jobs.jobs",
        "select * from app_jobs.jobfn_migrations",
    )
    return [await connection.fetch(query) for query in queries]


async def test_migrate_and_open_store_reject_it(prerelease: asyncpg.Connection, empty_database: str) -> None:
    before = await contents(prerelease)
    with pytest.raises(SchemaError) as caught:
        await migrate(prerelease, "app_jobs")
    assert str(caught.value) == MESSAGE
    async with asyncpg.create_pool(empty_database, min_size=1, max_size=1) as pool:
        with pytest.raises(SchemaError) as caught:
            await open_store(pool, "app_jobs")
    assert str(caught.value) == MESSAGE
    schema_status = await status(prerelease, "app_jobs")
    assert (schema_status.kind, schema_status.migrations) == (SchemaKind.PRERELEASE, ())
    assert await contents(prerelease) == before


@pytest.mark.parametrize(("arguments", "code"), [(("db", "status"), 3), (("db", "migrate"), 1), (("service",), 1)])
async def test_command_prints_the_message(
    prerelease: asyncpg.Connection, empty_database: str, spawn: Spawn, arguments: tuple[str, ...], code: int
) -> None:
    command = await spawn("jobfn", *arguments, DATABASE_URL=empty_database, INTERNAL_JOBS_CALLBACK_PORT="0")
    assert await command.wait() == code
    assert any(MESSAGE in line for line in command.lines)


async def test_dropping_it_or_another_schema_name_works(prerelease: asyncpg.Connection) -> None:
    await migrate(prerelease, "new_jobs")
    assert (await status(prerelease, "new_jobs")).kind is SchemaKind.JOBFN
    await prerelease.execute("drop schema app_jobs cascade")
    await migrate(prerelease, "app_jobs")
    assert (await status(prerelease, "app_jobs")).kind is SchemaKind.JOBFN


async def test_migration_with_another_checksum_is_from_a_prerelease(connection: asyncpg.Connection) -> None:
    await connection.execute("update app_jobs.jobfn_migrations set checksum = 'another' where version = 2")
    with pytest.raises(SchemaError) as caught:
        await migrate(connection, "app_jobs")
    assert str(caught.value) == MESSAGE
