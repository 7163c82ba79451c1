"""Fixtures of the dashboard tests."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.dashboard import OpenSite, Site, site


@pytest.fixture
async def open_site(database: str) -> AsyncIterator[OpenSite]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(*, functions: str | None = None, **settings: Any) -> Site:
            return await stack.enter_async_context(site(database, functions=functions, **settings))

        yield start


@pytest.fixture
async def dashboard(open_site: OpenSite) -> Site:
    return await open_site()
