"""Further connections, notifications, and every job store on every kind of schema."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from jobfn.database.native_store import NativeJobStore
from jobfn.database.open_store import open_store
from jobfn.database.platform_store import PlatformJobStore
from support.fixtures import Connect, ConnectTo, NotificationsOf
from support.jobs import NEWEST_PLATFORM_SCHEMA, PLATFORM_SCHEMA, StoreHarness

ADD_ID_COLUMNS = "alter table app_jobs.jobs add actor_id uuid, add entity_id uuid"


@pytest.fixture
def connect(database: str, connect_to: ConnectTo) -> Connect:
    """Open further connections to ``database``."""

    async def open_connection(**settings: str) -> asyncpg.Connection:
        return await connect_to(database, **settings)

    return open_connection


@pytest.fixture
async def empty(empty_database: str, connect_to: ConnectTo) -> asyncpg.Connection:
    """A connection to a database without schemas of jobfn."""
    return await connect_to(empty_database)


@pytest.fixture
async def notifications_of(connect: Connect, connection: asyncpg.Connection) -> NotificationsOf:
    """Run a statement, and return the notifications that it sent."""
    listener = await connect()
    received: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    for name in ("jobs:insert", "jobs:pause", "scheduled_jobs:insert", "end"):
        await listener.add_listener(name, lambda _c, _pid, channel, payload: received.put_nowait((channel, payload)))

    async def until_end() -> list[tuple[str, str]]:
        await connection.execute('notify "end"')  # notifications arrive in order, so this is the last one
        notifications = []
        async with asyncio.timeout(10):
            while (notification := await received.get())[0] != "end":
                notifications.append(notification)
        return notifications

    async def run(statement: str) -> list[tuple[str, str]]:
        await until_end()
        await connection.fetch(statement)
        return await until_end()

    return run


@pytest.fixture(params=["native", "one by one", "platform", "platform with ids", "newest platform"])
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of store and schema. "one by one": the platform's store on jobfn's schema."""
    return str(request.param)


@pytest.fixture
def dsn(request: pytest.FixtureRequest, kind: str) -> str:
    """The DSN of a database for this kind."""
    return str(request.getfixturevalue("empty_database" if "platform" in kind else "database"))


@pytest.fixture
async def harness(kind: str, dsn: str, connect_to: ConnectTo) -> AsyncIterator[StoreHarness]:
    """A job store on a schema without jobs."""
    connection = await connect_to(dsn)
    is_platform = "platform" in kind
    if is_platform:
        await connection.execute(NEWEST_PLATFORM_SCHEMA if kind == "newest platform" else PLATFORM_SCHEMA)
    if kind == "platform with ids":
        await connection.execute(ADD_ID_COLUMNS)
    async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        store = await open_store(pool, "app_jobs")
        assert isinstance(store, PlatformJobStore if is_platform else NativeJobStore)
        if kind == "one by one":
            store = PlatformJobStore(pool, "app_jobs", has_actor_id=True, has_entity_id=True, has_organization_id=False)
        yield StoreHarness(
            connection,
            store,
            is_platform=is_platform,
            has_ids=kind != "platform",
            requires_tenant=kind in {"platform", "platform with ids"},
        )
