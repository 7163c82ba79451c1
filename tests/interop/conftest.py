"""Fixtures of the tests with the platform's packages."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from interop.parts import Parts
from support.commands import Spawn


@pytest.fixture
async def connection(empty_database: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    opened = await asyncpg.connect(empty_database)
    yield opened
    await opened.close()


@pytest.fixture
async def parts(spawn: Spawn, empty_database: str) -> AsyncIterator[Parts]:
    parts = Parts(spawn, empty_database)
    yield parts
    parts.kill_node_processes()
