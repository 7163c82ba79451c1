"""``Operations`` on jobfn's schema and on the platform's own."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from jobfn.operations import Operations, open_operations
from support.jobs import PLATFORM_SCHEMA

PLATFORM_TOOLS = Path(__file__).with_name("platform_tools.sql").read_text("utf-8")


@pytest.fixture
async def pool(database: str) -> "AsyncIterator[asyncpg.Pool[Any]]":
    async with asyncpg.create_pool(database, min_size=1, max_size=4) as connections:
        yield connections


@pytest.fixture
async def operations(pool: "asyncpg.Pool[Any]") -> Operations:
    return await open_operations(pool, "app_jobs")


@pytest.fixture
async def platform_pool(empty_database: str) -> "AsyncIterator[asyncpg.Pool[Any]]":
    """Connections to a database with the platform's own schema."""
    async with asyncpg.create_pool(empty_database, min_size=1, max_size=2) as connections:
        await connections.execute(PLATFORM_SCHEMA)
        await connections.execute(PLATFORM_TOOLS)
        yield connections


@pytest.fixture
async def platform_operations(platform_pool: "asyncpg.Pool[Any]") -> Operations:
    return await open_operations(platform_pool, "app_jobs")
