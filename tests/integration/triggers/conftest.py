"""Databases with tables for triggers, on jobfn's schema and on schemas of the platform's shape."""

from typing import Any

import asyncpg
import pytest

from support.fixtures import ConnectTo
from support.triggers import BLUEPRINTS, PLATFORM_SCHEMAS, Shop


@pytest.fixture
async def shop(connection: "asyncpg.Connection[Any]") -> Shop:
    await connection.execute((BLUEPRINTS / "schema.sql").read_text("utf-8"))
    return Shop(connection)


@pytest.fixture(params=PLATFORM_SCHEMAS)
async def platform_shop(request: pytest.FixtureRequest, empty_database: str, connect_to: ConnectTo) -> Shop:
    connection = await connect_to(empty_database)
    await connection.execute(PLATFORM_SCHEMAS[request.param])
    await connection.execute((BLUEPRINTS / "schema.sql").read_text("utf-8"))
    return Shop(connection)
