"""A real browser: the system's Chromium, headless, driven by playwright.

What a page says in its console, what breaks in its scripts, and what it asks of another host ends the test.
"""

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright
from starlette.types import ASGIApp

from jobfn.http.server import HttpServer, bind
from support.browser import ARGUMENTS, Complaints, OpenPage, chromium
from support.dashboard import OpenSite, Site, site
from support.fixtures import Serve
from support.network import LOOPBACK


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    path = chromium()
    if path is None:  # CI names one, so that these tests are never left out there
        (pytest.fail if "CHROMIUM" in os.environ else pytest.skip)(
            "no Chromium: apt-get install chromium, or name one in CHROMIUM"
        )
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield started
        await started.close()


@pytest.fixture
async def complaints() -> AsyncIterator[Complaints]:
    found = Complaints()
    yield found
    assert found.unexpected() == []


@pytest.fixture
async def open_page(browser: Browser, complaints: Complaints) -> AsyncIterator[OpenPage]:
    contexts = []

    async def start(url: str, **options: Any) -> Page:
        context = await browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        page = await context.new_page()
        complaints.watch(page)
        await page.goto(url)
        return page

    yield start
    for context in contexts:
        await context.close()


@pytest.fixture
async def open_site(database: str) -> AsyncIterator[OpenSite]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(*, functions: str | None = None, **settings: Any) -> Site:
            return await stack.enter_async_context(site(database, functions=functions, **settings))

        yield start


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serve a function app on a free port; returns its base URL."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(app: ASGIApp) -> str:
            server = HttpServer(app, bind(LOOPBACK, 0), shutdown_timeout_seconds=1)
            await server.start()
            stack.push_async_callback(server.stop)
            return f"http://{LOOPBACK}:{server.port}"

        yield start
