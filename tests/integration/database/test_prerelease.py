"""A schema that a pre-release of jobfn made: recognised by every command and service, and left as it is."""

from pathlib import Path
from typing import Any

import asyncpg
import pytest

from jobfn.database.migrate import SchemaKind, migrate, prerelease_message, status
from jobfn.database.open_store import open_store
from jobfn.errors import SchemaError
from support.commands import Spawn
from support.fixtures import ConnectTo

LINE = prerelease_message("app_jobs")
#: The first migration of the pre-releases, in short, with its entry in the record.
SCHEMA = (Path(__file__).parent / "prerelease.sql").read_text("utf-8")


@pytest.fixture
async def old(empty_database: str, connect_to: ConnectTo) -> "asyncpg.Connection[Any]":
    """A connection to a database that a pre-release has migrated, with one job."""
    connection = await connect_to(empty_database)
    await connection.execute(SCHEMA)
    return connection


async def objects(connection: "asyncpg.Connection[Any]") -> list[Any]:
    """Everything in the schema, and the rows that count."""
    queries = (
        "select oid, relname from pg_class where relnamespace = 'app_jobs'::regnamespace order by 1",
        "select oid, proname from pg_proc where pronamespace = 'app_jobs'::regnamespace order by 1",
        "select * from app_jobs.jobs",
        "select * from app_jobs.jobfn_migrations",
    )
    return [await connection.fetch(query) for query in queries]


async def test_it_is_refused_and_left_alone(old: "asyncpg.Connection[Any]", empty_database: str) -> None:
    """Migrating and opening a store fail with one line that says what to do; no object and no row changes."""
    before = await objects(old)
    with pytest.raises(SchemaError) as refused:
        await migrate(old, "app_jobs")
    assert str(refused.value) == LINE
    async with asyncpg.create_pool(empty_database, min_size=1, max_size=1) as pool:
        with pytest.raises(SchemaError) as refused:
            await open_store(pool, "app_jobs")
    assert str(refused.value) == LINE
    found = await status(old, "app_jobs")
    assert (found.kind, found.migrations) == (SchemaKind.PRERELEASE, ())
    assert await objects(old) == before


async def test_commands_and_services_say_the_same_line(
    old: "asyncpg.Connection[Any]", empty_database: str, spawn: Spawn
) -> None:
    """`jobfn db status` with exit code 3, `jobfn db migrate` and `jobfn service` with 1."""
    for arguments, code in ((("db", "status"), 3), (("db", "migrate"), 1), (("service",), 1)):
        command = await spawn("jobfn", *arguments, DATABASE_URL=empty_database, INTERNAL_JOBS_CALLBACK_PORT="0")
        assert await command.wait() == code, arguments
        assert any(LINE in line for line in command.lines), arguments


async def test_another_name_is_free(old: "asyncpg.Connection[Any]") -> None:
    """Both pieces of advice in the line work."""
    await migrate(old, "new_jobs")
    assert (await status(old, "new_jobs")).kind is SchemaKind.JOBFN
    await old.execute("drop schema app_jobs cascade")
    await migrate(old, "app_jobs")
    assert (await status(old, "app_jobs")).kind is SchemaKind.JOBFN


async def test_a_migration_with_another_text_is_one_too(connection: "asyncpg.Connection[Any]") -> None:
    """A released migration never changes, so this came from a build between two commits."""
    await connection.execute("update app_jobs.jobfn_migrations set checksum = 'another' where version = 2")
    with pytest.raises(SchemaError) as refused:
        await migrate(connection, "app_jobs")
    assert str(refused.value) == LINE
