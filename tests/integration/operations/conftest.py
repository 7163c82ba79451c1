"""``Operations`` on a database of jobfn's own, and on one of the platform's."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from jobfn.operations import Operations, open_operations

HERE = Path(__file__).parent
PLATFORM = (HERE.parent / "database" / "platform.sql").read_text("utf-8")
TOOLS = (HERE / "platform_tools.sql").read_text("utf-8")


@pytest.fixture
async def pool(database: str) -> "AsyncIterator[asyncpg.Pool[Any]]":
    """Connections to ``database``."""
    async with asyncpg.create_pool(database, min_size=1, max_size=4) as opened:
        yield opened


@pytest.fixture
async def operations(pool: "asyncpg.Pool[Any]") -> Operations:
    """What operators see of ``database``."""
    return await open_operations(pool, "app_jobs")


@pytest.fixture
async def platform_pool(empty_database: str) -> "AsyncIterator[asyncpg.Pool[Any]]":
    """Connections to a database with a schema of the platform's own."""
    async with asyncpg.create_pool(empty_database, min_size=1, max_size=2) as opened:
        await opened.execute(PLATFORM)
        await opened.execute(TOOLS)
        yield opened


@pytest.fixture
async def on_platform(platform_pool: "asyncpg.Pool[Any]") -> Operations:
    """What operators see of it."""
    return await open_operations(platform_pool, "app_jobs")
