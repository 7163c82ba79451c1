"""Headless Chromium, driven by playwright.

A console message, a script error or a request to another host fails the test.
"""

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect
from starlette.types import ASGIApp

from jobfn.http.server import HttpServer, bind
from support.browser import ARGUMENTS, OpenPage, PageErrors, chromium
from support.dashboard import open_site
from support.fixtures import Serve
from support.network import LOOPBACK

# On a busy machine, a live update and its rendering take more than the five seconds that are Playwright's default.
expect.set_options(timeout=30_000)

__all__ = ["browser", "open_page", "open_site", "page_errors", "serve"]


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    path = chromium()
    if path is None:  # CI sets CHROMIUM, so that these tests are never skipped there
        (pytest.fail if "CHROMIUM" in os.environ else pytest.skip)(
            "no Chromium: run apt-get install chromium, or set CHROMIUM"
        )
    async with async_playwright() as playwright:
        chromium_browser = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium_browser
        await chromium_browser.close()


@pytest.fixture
async def page_errors() -> AsyncIterator[PageErrors]:
    errors = PageErrors()
    yield errors
    assert errors.unexpected() == []


@pytest.fixture
async def open_page(browser: Browser, page_errors: PageErrors) -> AsyncIterator[OpenPage]:
    contexts = []

    async def start(url: str, **options: Any) -> Page:
        context = await browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        page = await context.new_page()
        page_errors.watch(page)
        await page.goto(url)
        return page

    yield start
    for context in contexts:
        await context.close()


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
