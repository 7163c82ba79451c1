"""Idempotency keys are unique across databases: the worker sends the identity of its jobs schema."""

import contextlib
import uuid
from typing import Any

import asyncpg
import pytest

from jobfn import FunctionApp, JobContext, create_app, task
from jobfn.database.migrate import migrate
from jobfn.database.open_store import open_store
from jobfn.database.records import Job
from jobfn.in_process import local_tasks
from jobfn.worker.delivery import Succeeded
from jobfn.worker.settings import ServiceSettings
from support.fixtures import ConnectTo, Serve, StartService
from support.jobs import NEWEST_PLATFORM_SCHEMA, Jobs


@pytest.fixture
def keys() -> list[str]:
    """The idempotency keys that the handler of ``app`` got."""
    return []


@pytest.fixture
def app(keys: list[str]) -> FunctionApp:
    @task("charge")
    async def charge(payload: dict[str, Any], ctx: JobContext) -> None:
        keys.append(ctx.idempotency_key)

    return create_app(tasks=[charge])


async def installation_id(dsn: str, schema: str = "app_jobs") -> str:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        return await (await open_store(pool, schema)).installation_id()


async def test_schemas_have_different_identities_that_stay(
    database: str, empty_database: str, connection: asyncpg.Connection, connect_to: ConnectTo
) -> None:
    empty = await connect_to(empty_database)
    await migrate(empty, "app_jobs")
    await migrate(connection, "other_jobs")
    found = [
        await installation_id(database),
        await installation_id(database, "other_jobs"),
        await installation_id(empty_database),
    ]
    assert len(set(found)) == 3
    assert [str(uuid.UUID(each)) for each in found] == found
    assert await installation_id(database) == found[0]


async def test_rebuilt_schema_has_another_identity(database: str, connection: asyncpg.Connection) -> None:
    before = await installation_id(database)
    await connection.execute("drop schema app_jobs cascade")
    await migrate(connection, "app_jobs")
    assert await installation_id(database) != before


async def test_platform_schema_has_an_identity_without_a_table(
    database: str, connection: asyncpg.Connection, empty_database: str, connect_to: ConnectTo
) -> None:
    await connection.execute("drop schema app_jobs cascade")
    for each in (connection, await connect_to(empty_database)):
        await each.execute(NEWEST_PLATFORM_SCHEMA)
    first = await installation_id(database)
    assert first == await installation_id(database)
    assert first != await installation_id(empty_database)
    assert str(uuid.UUID(first)) == first


async def test_handler_has_the_key_alone_and_in_a_batch(
    jobs: Jobs, database: str, app: FunctionApp, keys: list[str], serve: Serve, start_service: StartService
) -> None:
    await start_service(await serve(app), concurrency=1)
    async with jobs.connection.transaction():
        ids = [await jobs.add("charge") for _ in range(50)]
        created_at = await jobs.connection.fetchval("select date_part('epoch', now())")
    await jobs.until_gone()
    installation = await installation_id(database)
    assert sorted(keys) == sorted(f"jobfn:{installation}:charge:{job}:{created_at}" for job in ids)


async def test_job_with_the_id_of_a_lost_job_has_another_key(
    jobs: Jobs, app: FunctionApp, keys: list[str], serve: Serve, start_service: StartService
) -> None:
    await start_service(await serve(app))
    first = await jobs.add("charge")
    await jobs.until_gone()
    await jobs.connection.execute("alter sequence app_jobs.jobs_id_seq restart with 1")  # as after a lossy failover
    assert await jobs.add("charge") == first
    await jobs.until_gone()
    assert len(keys) == len(set(keys)) == 2


async def test_handler_in_the_worker_s_own_process_has_the_key(
    database: str, app: FunctionApp, keys: list[str]
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        pool = await stack.enter_async_context(asyncpg.create_pool(database, min_size=1, max_size=1))
        store = await open_store(pool, "app_jobs")
        dispatcher = await stack.enter_async_context(local_tasks(app, store, ServiceSettings.from_environ({})))
        assert await dispatcher.deliver(Job(7, "charge", "{}", 1, created_at=1.5)) == Succeeded()
    assert keys == [f"jobfn:{await installation_id(database)}:charge:7:1.5"]
