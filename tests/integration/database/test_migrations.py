"""Migrations: each is applied once, completely or not at all, under any schema name."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from jobfn.database.enqueue import enqueue
from jobfn.database.migrate import SchemaKind, check_server_version, migrate, migration_files, status
from jobfn.database.native_store import NativeJobStore
from jobfn.database.open_store import open_store
from jobfn.database.records import NewJob
from jobfn.database.statements import query
from jobfn.errors import DatabaseError, SchemaError
from jobfn.sql.locks import MIGRATION_LOCK
from jobfn.sql.quoting import quote_identifier
from support.commands import Spawn
from support.fixtures import ConnectTo
from support.migrations import migrate_to
from support.network import eventually
from support.roles import temporary_role

VERSIONS = [file.version for file in migration_files()]
SCHEMA_NAMES = [
    "app_jobs",
    "App Jobs",
    'say "jobs"',
    "it's",
    "a.b",
    "$$",
    "$jobfn$",
    "@schema@",
    "работа-工作",
    "a\nb",
    "--",
    "/*",
    "%I $1 {0}",
    "\\",
    "select",
    "x" * 63,
]


async def recorded_versions(connection: asyncpg.Connection) -> list[int]:
    """Return the versions that the database records as applied."""
    rows = await connection.fetch("select version from app_jobs.jobfn_migrations order by version")
    return [row["version"] for row in rows]


async def test_second_run_changes_nothing(empty: asyncpg.Connection) -> None:
    applied = await migrate(empty, "app_jobs")
    assert [(migration.version, migration.applied) for migration in applied] == [(each, True) for each in VERSIONS]
    await empty.execute("select app_jobs.add_job('x')")
    before = await empty.fetch("select * from app_jobs.jobfn_migrations")
    assert await migrate(empty, "app_jobs") == ()
    assert await empty.fetch("select * from app_jobs.jobfn_migrations") == before
    assert await empty.fetchval("select count(*) from app_jobs.jobs") == 1


@pytest.mark.parametrize("schema", SCHEMA_NAMES)
async def test_any_schema_name_works(empty: asyncpg.Connection, empty_database: str, schema: str) -> None:
    await migrate(empty, schema)
    assert await migrate(empty, schema) == ()
    schema_status = await status(empty, schema)
    assert (schema_status.kind, schema_status.pending, schema_status.unknown) == (SchemaKind.JOBFN, (), ())
    async with asyncpg.create_pool(empty_database, min_size=1, max_size=1) as pool:
        store = await open_store(pool, schema)
        assert isinstance(store, NativeJobStore)
        job = await enqueue(empty, schema, NewJob("x", queue="q", key="k"))
        await enqueue(empty, schema, NewJob("y", database_id=str(uuid.uuid4())))
        assert [claimed.id for claimed in await store.claim("worker", tasks=["x"], limit=5)] == [job]
        await store.release("worker")
        assert await store.seconds_until_next() is None
    quoted = quote_identifier(schema)
    await empty.execute(f"select {quoted}.run_scheduled_job(({quoted}.add_scheduled_job('x', '0 9 * * *')).id)")
    assert await empty.fetchval(f"select sum(job_count) from {quoted}.job_queues") == 1


async def test_schemas_in_one_database_do_not_share_queue_locks(empty: asyncpg.Connection) -> None:
    for schema in ("one", "two"):
        await migrate(empty, schema)
        await empty.execute(f"select {schema}.add_job('x', queue_name := 'q')")
    async with empty.transaction():
        assert await empty.fetchval("select (one.get_job('worker')).id") is not None
        assert await empty.fetchval("select (two.get_job('worker')).id") is not None


async def test_concurrent_commands_apply_each_migration_once(
    empty: asyncpg.Connection, empty_database: str, spawn: Spawn
) -> None:
    commands = [await spawn("jobfn", "db", "migrate", "--database-url", empty_database) for _ in range(3)]
    assert [await command.wait() for command in commands] == [0, 0, 0]
    applied = [line for command in commands for line in command.lines if "applied" in line]
    assert len(applied) == len(VERSIONS)
    assert await recorded_versions(empty) == VERSIONS


async def test_concurrent_sessions_apply_each_migration_once(empty_database: str, connect_to: ConnectTo) -> None:
    connections = [await connect_to(empty_database) for _ in range(5)]
    applied = await asyncio.gather(*(migrate(connection, "app_jobs") for connection in connections))
    assert sorted(migration.version for migrations in applied for migration in migrations) == VERSIONS


async def test_failed_first_migration_is_rolled_back(empty: asyncpg.Connection) -> None:
    await empty.execute("create schema app_jobs")
    await empty.execute("create table app_jobs.scheduled_jobs ()")
    with pytest.raises(DatabaseError, match=r'schema app_jobs was not migrated.*"scheduled_jobs"'):
        await migrate(empty, "app_jobs")
    assert (await status(empty, "app_jobs")).kind is SchemaKind.ABSENT
    tables = await empty.fetch("select relname from pg_class where relnamespace = 'app_jobs'::regnamespace")
    assert [row["relname"] for row in tables] == ["scheduled_jobs"]
    await empty.execute("drop table app_jobs.scheduled_jobs")
    assert [migration.version for migration in await migrate(empty, "app_jobs")] == VERSIONS


async def test_failed_later_migration_leaves_the_earlier_ones(connection: asyncpg.Connection) -> None:
    functions = "select oid, proname from pg_proc where pronamespace = 'app_jobs'::regnamespace order by 1"
    await connection.execute("delete from app_jobs.jobfn_migrations where version >= 3")
    before = await connection.fetch(functions)
    with pytest.raises(DatabaseError, match="already exists"):
        await migrate(connection, "app_jobs")
    assert await connection.fetch(functions) == before
    schema_status = await status(connection, "app_jobs")
    assert [migration.version for migration in schema_status.pending] == VERSIONS[2:]
    assert await recorded_versions(connection) == [1, 2]


async def test_roles_keep_their_rights_and_jobs_their_state_after_an_upgrade(
    empty: asyncpg.Connection, role: str
) -> None:
    await migrate_to(empty, 11)
    await empty.execute(
        f"""
        grant usage on schema app_jobs to {role};
        grant execute on function
            app_jobs.add_job(text, json, text, text, timestamptz, int, int),
            app_jobs.add_scheduled_job(text, json, json, text, text, int, int),
            app_jobs.claim_jobs, app_jobs.settle_jobs
            to {role};
        grant select (run_at, exhausted, locked_at) on app_jobs.jobs to {role};
        """
    )
    await empty.execute("select app_jobs.add_job('x', job_key := 'k'), app_jobs.get_job('worker')")
    await migrate(empty, "app_jobs")
    await empty.execute(f"set role {role}")
    await empty.execute("select app_jobs.add_job('x', '{}'::json, 'k', entity_type := 'org')")
    await empty.execute("select app_jobs.add_scheduled_job('x', '{}'::json, '{\"hour\": 9}'::json)")
    settle = "select (app_jobs.settle_jobs('{worker}', '{1}', '{1}', '{completed}', '{null}', '{null}')).id"
    assert await empty.fetchval(settle) == 1
    assert await empty.fetch("select app_jobs.claim_jobs_of_queues('worker', '{q}', null, '1 hour', 1)") == []
    assert await empty.fetchval("select app_jobs.has_lease('worker', 1, 1)") is False
    assert await empty.fetchval("select app_jobs.installation_id()") is not None
    assert len(await empty.fetchval("select app_jobs.callback_secret()")) == 64
    assert await empty.fetchval("select app_jobs.is_locked_without_lease('worker', 1)") is None
    snooze = "select app_jobs.snooze_jobs('{worker}', '{1}', '{1}', '{later}', '{1 min}', '{1 day}')"
    assert await empty.fetch(snooze) == []
    depth = await empty.fetchrow(query("queue_depth", "app_jobs"))
    assert depth is not None
    assert (depth["ready"], depth["parked"]) == (1, 0)
    await empty.execute("reset role")
    rows = await empty.fetch("select id, key, entity_type from app_jobs.jobs")
    assert [tuple(row) for row in rows] == [(2, "k", "org")]


@pytest.mark.parametrize("columns", ["", "id bigserial, database_id uuid not null"])
async def test_platform_schema_is_not_changed(empty: asyncpg.Connection, columns: str) -> None:
    await empty.execute(f"create schema app_jobs create table jobs ({columns})")
    with pytest.raises(SchemaError, match=r"made by the platform.*set JOBS_SCHEMA to another name"):
        await migrate(empty, "app_jobs")
    schema_status = await status(empty, "app_jobs")
    assert (schema_status.kind, schema_status.migrations) == (SchemaKind.PLATFORM, ())
    assert await empty.fetchval("select count(*) from pg_proc where pronamespace = 'app_jobs'::regnamespace") == 0
    await migrate(empty, "native_jobs")
    assert (await status(empty, "native_jobs")).kind is SchemaKind.JOBFN


async def test_schema_newer_than_jobfn_is_not_changed(connection: asyncpg.Connection) -> None:
    await connection.execute("insert into app_jobs.jobfn_migrations values (9000, 'from the future', 'x')")
    await connection.execute("delete from app_jobs.jobfn_migrations where version = $1", VERSIONS[-1])
    with pytest.raises(SchemaError, match="has migration 9000, which this jobfn does not know: upgrade jobfn"):
        await migrate(connection, "app_jobs")
    schema_status = await status(connection, "app_jobs")
    assert schema_status.unknown == (9000,)
    assert [migration.version for migration in schema_status.pending] == [VERSIONS[-1]]


async def test_status_of_a_missing_schema_does_not_create_it(empty: asyncpg.Connection) -> None:
    schema_status = await status(empty, "app_jobs")
    assert schema_status.kind is SchemaKind.ABSENT
    assert [migration.version for migration in schema_status.pending] == VERSIONS
    assert await empty.fetchval("select to_regnamespace('app_jobs')") is None


async def test_existing_schema_keeps_its_other_tables(empty: asyncpg.Connection) -> None:
    await empty.execute("create schema app_jobs create table unrelated ()")
    await migrate(empty, "app_jobs")
    assert await empty.fetchval("select count(*) from app_jobs.unrelated") == 0
    assert await recorded_versions(empty) == VERSIONS


@pytest.mark.parametrize("major", [9, 13])
def test_old_server_is_rejected(major: int) -> None:
    with pytest.raises(SchemaError, match=f"PostgreSQL {major} is too old for jobfn: use 14 or newer"):
        check_server_version(major)
    check_server_version(14)


@pytest.fixture
async def role(empty: asyncpg.Connection) -> AsyncIterator[str]:
    """A role without privileges, which ``empty`` can act as."""
    async with temporary_role(empty) as name:
        yield name


async def test_owner_of_the_schema_can_migrate_without_the_right_to_create_schemas(
    empty: asyncpg.Connection, role: str
) -> None:
    await empty.execute(f"create schema app_jobs authorization {role}")
    await empty.execute(f"set role {role}")
    assert [migration.version for migration in await migrate(empty, "app_jobs")] == VERSIONS


async def test_role_without_privileges_cannot_migrate(empty: asyncpg.Connection, role: str) -> None:
    await empty.execute(f"set role {role}")
    with pytest.raises(
        DatabaseError, match=rf"role {role} may not create or change schema app_jobs: .* as another role"
    ):
        await migrate(empty, "app_jobs")
    assert (await status(empty, "app_jobs")).kind is SchemaKind.ABSENT


async def test_connection_lost_while_waiting_for_the_lock_is_a_database_error(
    empty: asyncpg.Connection, empty_database: str, connect_to: ConnectTo
) -> None:
    other = await connect_to(empty_database)
    await other.execute("select pg_advisory_lock($1)", MIGRATION_LOCK)
    pid = empty.get_server_pid()
    migrating = asyncio.create_task(migrate(empty, "app_jobs"))
    waiting = "select exists (select from pg_locks where pid = $1 and locktype = 'advisory' and not granted)"
    await eventually(lambda: other.fetchval(waiting, pid))
    await other.execute("select pg_terminate_backend($1)", pid)
    with pytest.raises(DatabaseError, match="schema app_jobs was not migrated"):
        await migrating


async def test_migration_is_repeated_after_a_deadlock(
    empty: asyncpg.Connection, empty_database: str, connect_to: ConnectTo
) -> None:
    await migrate_to(empty, len(migration_files()) - 1)
    other = await connect_to(empty_database)
    await other.execute("set deadlock_timeout = '60s'")  # so that PostgreSQL ends the migration
    transaction = other.transaction()
    await transaction.start()
    await other.execute("lock table app_jobs.jobfn_migrations in share mode")
    migrating = asyncio.create_task(migrate(empty, "app_jobs"))
    waiting = "select wait_event_type = 'Lock' from pg_stat_activity where pid = $1"
    await eventually(lambda: other.fetchval(waiting, empty.get_server_pid()))
    await other.execute("select pg_advisory_xact_lock($1)", MIGRATION_LOCK)
    assert not migrating.done()
    await transaction.commit()
    assert len(await migrating) == 1
