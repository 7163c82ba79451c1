"""A process on an older schema ends at the start with one line; on a newer one it logs a line and goes on."""

import asyncpg
import pytest

from jobfn.database.migrate import migrate, migration_files
from jobfn.database.native_store import NativeJobStore
from jobfn.database.open_store import open_store
from jobfn.database.privileges import Grants
from jobfn.database.schema_version import newer_migration, required_functions
from jobfn.errors import SchemaError
from support.commands import Command, Spawn
from support.migrations import migrate_to
from support.network import free_port
from support.roles import login_role

LAST = migration_files()[-1].version
NEWER = "insert into app_jobs.jobfn_migrations (version, name, checksum) values (9000, 'x', 'x')"


async def error_at_start(dsn: str) -> str:
    """Open a store, which fails, and return the message."""
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        with pytest.raises(SchemaError) as raised:
            await open_store(pool, "app_jobs")
    return str(raised.value)


async def test_statements_call_functions_that_the_schema_has(connection: asyncpg.Connection) -> None:
    names = await connection.fetch(
        "select proname::text as name from pg_proc where pronamespace = 'app_jobs'::regnamespace"
    )
    assert required_functions() - {row["name"] for row in names} == set()
    assert {"claim_jobs", "advance_schedule", "record_steps", "renew_leases"} <= required_functions()


async def test_schema_without_the_last_migration_is_refused(empty: asyncpg.Connection, empty_database: str) -> None:
    await migrate_to(empty, LAST - 1)
    last = migration_files()[-1]
    assert await error_at_start(empty_database) == (
        f"schema app_jobs is older than this jobfn and lacks migration {LAST:04d} {last.name}: run `jobfn db migrate`"
    )


async def test_role_that_may_not_read_the_migrations_is_told_the_same(
    empty: asyncpg.Connection, empty_database: str
) -> None:
    await migrate_to(empty, 18)
    async with login_role(empty, empty_database) as role:
        await empty.execute(f"grant usage on schema app_jobs to {role.name}")
        message = "schema app_jobs is older than this jobfn: run `jobfn db migrate`"
        assert await error_at_start(role.dsn) == message


async def test_newer_schema_is_used(database: str, connection: asyncpg.Connection) -> None:
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool:
        assert await newer_migration(pool, "app_jobs") is None
        await connection.execute(NEWER)
        assert isinstance(await open_store(pool, "app_jobs"), NativeJobStore)
        assert await newer_migration(pool, "app_jobs") == 9000
    async with login_role(connection, database) as role:
        await connection.execute(f"grant usage on schema app_jobs to {role.name}")
        async with asyncpg.create_pool(role.dsn, min_size=1, max_size=1) as pool:
            assert await newer_migration(pool, "app_jobs") is None


async def test_worker_role_sees_whether_the_schema_is_newer(database: str, connection: asyncpg.Connection) -> None:
    async with login_role(connection, database) as role:
        await migrate(connection, "app_jobs", grants=Grants(worker=(role.name,)))
        await connection.execute(NEWER)
        async with asyncpg.create_pool(role.dsn, min_size=1, max_size=1) as pool:
            assert isinstance(await open_store(pool, "app_jobs"), NativeJobStore)
            assert await newer_migration(pool, "app_jobs") == 9000


async def test_service_on_an_older_schema_ends_with_an_error(
    empty: asyncpg.Connection, empty_database: str, command: Command
) -> None:
    await migrate_to(empty, LAST - 1)
    result = await command("jobfn", "service", DATABASE_URL=empty_database, INTERNAL_JOBS_CALLBACK_PORT="0")
    error = result.output.splitlines()[-1]
    assert (result.code, "Traceback" in result.output) == (1, False)
    assert error.startswith("jobfn: schema app_jobs is older than this jobfn and lacks migration ")
    assert error.endswith("run `jobfn db migrate` [J122]")


async def test_service_on_a_newer_schema_says_so_and_works(
    database: str, connection: asyncpg.Connection, spawn: Spawn
) -> None:
    await connection.execute(NEWER)
    port = str(free_port())
    service = await spawn("jobfn", "service", DATABASE_URL=database, INTERNAL_JOBS_CALLBACK_PORT=port)
    line = await service.until("schema is newer than this jobfn: upgrade it soon")
    assert ('"level":"warning"' in line, '"migration":9000' in line) == (True, True)
    await service.until("looking for jobs")
