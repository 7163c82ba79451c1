"""Bringing the schema up to date: once, whole or not at all, under any name, by any number of processes."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from jobfn.database.enqueue import enqueue
from jobfn.database.migrate import (
    MIN_SERVER_VERSION,
    SchemaKind,
    check_server_version,
    migrate,
    migration_files,
    status,
)
from jobfn.database.native_store import NativeJobStore
from jobfn.database.open_store import open_store
from jobfn.database.records import NewJob
from jobfn.errors import DatabaseError, SchemaError
from jobfn.sql.locks import MIGRATION_LOCK
from jobfn.sql.quoting import quote_identifier
from support.commands import Spawn
from support.fixtures import ConnectTo
from support.network import eventually

ALL = [version for version, _, _ in migration_files()]
NAMES = [
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


@pytest.fixture
async def empty(empty_database: str, connect_to: ConnectTo) -> "asyncpg.Connection[Any]":
    """A connection to a database without any schema of ours."""
    return await connect_to(empty_database)


async def versions(connection: "asyncpg.Connection[Any]", schema: str = "app_jobs") -> list[int]:
    """What is recorded as applied."""
    rows = await connection.fetch(f"select version from {quote_identifier(schema)}.jobfn_migrations order by version")
    return [row["version"] for row in rows]


async def test_a_second_time_changes_nothing(empty: "asyncpg.Connection[Any]") -> None:
    """The first applies all, in order; the second nothing, and no job is lost."""
    first = await migrate(empty, "app_jobs")
    assert [(step.version, step.applied) for step in first] == [(version, True) for version in ALL]
    await empty.execute("select app_jobs.add_job('x')")
    before = await empty.fetch("select * from app_jobs.jobfn_migrations")
    assert await migrate(empty, "app_jobs") == ()
    assert await empty.fetch("select * from app_jobs.jobfn_migrations") == before
    assert await empty.fetchval("select count(*) from app_jobs.jobs") == 1


@pytest.mark.parametrize("schema", NAMES)
async def test_any_name_will_do(empty_database: str, connect_to: ConnectTo, schema: str) -> None:
    """Installed, asked and worked on under a name that holds quotes, dollars, dots, line breaks or our own marks."""
    empty = await connect_to(empty_database)
    await migrate(empty, schema)
    assert await migrate(empty, schema) == ()
    found = await status(empty, schema)
    assert (found.kind, found.pending, found.unknown) == (SchemaKind.JOBFN, (), ())
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


async def test_schemas_live_side_by_side(empty: "asyncpg.Connection[Any]") -> None:
    """Two schemas in one database have their own jobs, and a queue held in one is free in the other."""
    for schema in ("one", "two"):
        await migrate(empty, schema)
        await empty.execute(f"select {schema}.add_job('x', queue_name := 'q')")
    async with empty.transaction():
        assert await empty.fetchval("select (one.get_job('worker')).id") is not None
        assert await empty.fetchval("select (two.get_job('worker')).id") is not None


async def test_processes_at_the_same_time_apply_each_step_once(
    empty_database: str, spawn: Spawn, connect_to: ConnectTo
) -> None:
    """Three `jobfn db migrate` at once all end well, and each step was applied by one of them."""
    commands = [await spawn("jobfn", "db", "migrate", "--database-url", empty_database) for _ in range(3)]
    assert [await command.wait() for command in commands] == [0, 0, 0]
    applied = [line for command in commands for line in command.lines if "applied" in line]
    assert len(applied) == len(ALL)
    assert await versions(await connect_to(empty_database)) == ALL


async def test_sessions_at_the_same_time_apply_each_step_once(empty_database: str, connect_to: ConnectTo) -> None:
    """Five sessions of one process, too."""
    connections = [await connect_to(empty_database) for _ in range(5)]
    applied = await asyncio.gather(*(migrate(connection, "app_jobs") for connection in connections))
    assert sorted(step.version for steps in applied for step in steps) == ALL


async def test_a_first_step_that_fails_leaves_nothing(empty: "asyncpg.Connection[Any]") -> None:
    """Something of that name is in the way: no schema of ours, no record, no table; and the lock is free again."""
    await empty.execute("create schema app_jobs")
    await empty.execute("create table app_jobs.scheduled_jobs ()")
    with pytest.raises(DatabaseError, match=r'schema app_jobs was not migrated.*"scheduled_jobs"'):
        await migrate(empty, "app_jobs")
    assert (await status(empty, "app_jobs")).kind is SchemaKind.ABSENT
    tables = await empty.fetch("select relname from pg_class where relnamespace = 'app_jobs'::regnamespace")
    assert [row["relname"] for row in tables] == ["scheduled_jobs"]
    await empty.execute("drop table app_jobs.scheduled_jobs")
    assert [step.version for step in await migrate(empty, "app_jobs")] == ALL


async def test_a_later_step_that_fails_leaves_the_earlier_ones(empty: "asyncpg.Connection[Any]") -> None:
    """Committed steps stay, the failing step leaves nothing, and the next run goes on from there."""
    await migrate(empty, "app_jobs")
    await empty.execute("delete from app_jobs.jobfn_migrations where version >= 3")
    before = await empty.fetch(
        "select oid, proname from pg_proc where pronamespace = 'app_jobs'::regnamespace order by 1"
    )
    with pytest.raises(DatabaseError, match="already exists"):
        await migrate(empty, "app_jobs")
    after = await empty.fetch(
        "select oid, proname from pg_proc where pronamespace = 'app_jobs'::regnamespace order by 1"
    )
    assert after == before
    found = await status(empty, "app_jobs")
    assert [step.version for step in found.pending] == ALL[2:]
    assert await versions(empty) == ALL[:2]


@pytest.mark.parametrize("table", ["jobs", '"jobs" (id bigserial, database_id uuid not null)'])
async def test_another_ones_schema_is_left_alone(empty: "asyncpg.Connection[Any]", table: str) -> None:
    """A jobs table without our record is the platform's: not one object is made in its schema."""
    await empty.execute("create schema app_jobs")
    await empty.execute(f"create table app_jobs.{table}" + ("" if "(" in table else " ()"))
    with pytest.raises(SchemaError, match=r"made by the platform.*set JOBS_SCHEMA to another name"):
        await migrate(empty, "app_jobs")
    found = await status(empty, "app_jobs")
    assert (found.kind, found.migrations) == (SchemaKind.PLATFORM, ())
    assert await empty.fetchval("select count(*) from pg_proc where pronamespace = 'app_jobs'::regnamespace") == 0
    await migrate(empty, "native_jobs")
    assert (await status(empty, "native_jobs")).kind is SchemaKind.JOBFN


async def test_a_newer_schema_is_left_alone(connection: "asyncpg.Connection[Any]") -> None:
    """A version that this jobfn does not know: it says so, and applies nothing, not even what is missing."""
    await connection.execute("insert into app_jobs.jobfn_migrations values (9000, 'from the future', 'x')")
    await connection.execute("delete from app_jobs.jobfn_migrations where version = $1", ALL[-1])
    with pytest.raises(SchemaError, match="has migration 9000, which this jobfn does not know: upgrade jobfn"):
        await migrate(connection, "app_jobs")
    found = await status(connection, "app_jobs")
    assert (found.unknown, [step.version for step in found.pending]) == ((9000,), [ALL[-1]])


async def test_the_status_of_nothing(empty: "asyncpg.Connection[Any]") -> None:
    """Asking makes nothing: no schema, and all steps pending."""
    found = await status(empty, "app_jobs")
    assert (found.kind, [step.version for step in found.pending]) == (SchemaKind.ABSENT, ALL)
    assert await empty.fetchval("select to_regnamespace('app_jobs')") is None


async def test_an_empty_schema_is_made_use_of(empty: "asyncpg.Connection[Any]") -> None:
    """A role without the right to create schemas uses one that exists; other tables in it stay."""
    await empty.execute("create schema app_jobs create table unrelated ()")
    await migrate(empty, "app_jobs")
    assert await empty.fetchval("select count(*) from app_jobs.unrelated") == 0
    assert await versions(empty) == ALL


@pytest.mark.parametrize("major", [9, 13, MIN_SERVER_VERSION - 1])
def test_an_old_server_is_refused(major: int) -> None:
    """Below PostgreSQL 14 nothing is tried."""
    with pytest.raises(SchemaError, match=f"PostgreSQL {major} is too old for jobfn: use 14 or newer"):
        check_server_version(major)
    check_server_version(14)


@pytest.fixture
async def role(empty: "asyncpg.Connection[Any]") -> AsyncIterator[str]:
    """A role without any right, as which ``empty`` can act."""
    name = f"jobfn_test_{uuid.uuid4().hex[:12]}"
    await empty.execute(f"create role {name} login")
    yield name
    await empty.execute("reset role")
    await empty.execute(f"drop owned by {name} cascade")
    await empty.execute(f"drop role {name}")


async def test_the_owner_of_the_schema_may_migrate_it(empty: "asyncpg.Connection[Any]", role: str) -> None:
    """Without the right to create schemas, its owner fills it."""
    await empty.execute(f"create schema app_jobs authorization {role}")
    await empty.execute(f"set role {role}")
    assert [step.version for step in await migrate(empty, "app_jobs")] == ALL


async def test_a_role_without_rights_is_told_what_to_do(empty: "asyncpg.Connection[Any]", role: str) -> None:
    """One line that names the schema and who can do it; nothing is made."""
    await empty.execute(f"set role {role}")
    with pytest.raises(DatabaseError, match=r"this role may not change schema app_jobs.*as its owner"):
        await migrate(empty, "app_jobs")
    assert (await status(empty, "app_jobs")).kind is SchemaKind.ABSENT


async def test_a_lost_connection_is_a_readable_error(
    empty: "asyncpg.Connection[Any]", empty_database: str, connect_to: ConnectTo
) -> None:
    """The server ends the session while it waits for another's migration: one line, not a traceback of the driver's."""
    other = await connect_to(empty_database)
    await other.execute("select pg_advisory_lock($1)", MIGRATION_LOCK)
    pid = empty.get_server_pid()
    migrating = asyncio.create_task(migrate(empty, "app_jobs"))
    waiting = "select exists (select from pg_locks where pid = $1 and locktype = 'advisory' and not granted)"
    await eventually(lambda: other.fetchval(waiting, pid))
    await other.execute("select pg_terminate_backend($1)", pid)
    with pytest.raises(DatabaseError, match="was not migrated"):
        await migrating
