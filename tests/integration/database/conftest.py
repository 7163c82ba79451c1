"""Sessions beside the first, what a database announces, and the stores on every schema that they may meet."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from jobfn.database.native_store import NativeJobStore
from jobfn.database.open_store import open_store
from jobfn.database.platform_store import PlatformJobStore
from support.fixtures import Connect, ConnectTo, Heard
from support.jobs import Stage

PLATFORM = Path(__file__).with_name("platform.sql").read_text("utf-8")
IDS = "alter table app_jobs.jobs add actor_id uuid, add entity_id uuid"


@pytest.fixture
def connect(database: str, connect_to: ConnectTo) -> Connect:
    """Open further connections to ``database``."""

    async def open_connection(**settings: str) -> "asyncpg.Connection[Any]":
        return await connect_to(database, **settings)

    return open_connection


@pytest.fixture
async def heard(connect: Connect, connection: "asyncpg.Connection[Any]") -> Heard:
    """Run a statement and say which notifications it sent."""
    listener = await connect()
    arrived: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    for channel in ("jobs:insert", "scheduled_jobs:insert", "end"):
        await listener.add_listener(channel, lambda _c, _pid, channel, payload: arrived.put_nowait((channel, payload)))

    async def until_end() -> list[tuple[str, str]]:
        await connection.execute('notify "end"')  # notifications come in order: what is here before it is all
        found = []
        async with asyncio.timeout(10):
            while (notification := await arrived.get())[0] != "end":
                found.append(notification)
        return found

    async def hear(statement: str, *arguments: object) -> list[tuple[str, str]]:
        await until_end()
        await connection.fetch(statement, *arguments)
        return await until_end()

    return hear


@pytest.fixture(params=["batches", "one by one", "platform", "platform with actor and entity"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each store on each schema that it may meet."""
    return str(request.param)


@pytest.fixture
def dsn(request: pytest.FixtureRequest, kind: str) -> str:
    """A database for it, with our schema or without."""
    return str(request.getfixturevalue("empty_database" if kind.startswith("platform") else "database"))


@pytest.fixture
async def stage(kind: str, dsn: str, connect_to: ConnectTo) -> AsyncIterator[Stage]:
    """The store, on a schema with no job."""
    connection = await connect_to(dsn)
    is_platform = kind.startswith("platform")
    if is_platform:
        await connection.execute(PLATFORM)
    if kind == "platform with actor and entity":
        await connection.execute(IDS)
    async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        store = await open_store(pool, "app_jobs")
        assert isinstance(store, PlatformJobStore if is_platform else NativeJobStore)
        if kind == "one by one":
            store = PlatformJobStore(pool, "app_jobs", has_actor_id=True, has_entity_id=True)
        yield Stage(store, connection, is_platform=is_platform, has_ids=kind != "platform")
