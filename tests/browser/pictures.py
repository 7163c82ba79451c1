"""Take the screenshots of the documentation: ``python tests/browser/pictures.py``.

Uses an embedded PostgreSQL with the jobs of ``demo_jobs.py``. Needs Chromium, like the browser tests.
"""

import asyncio
import sys
from pathlib import Path

import asyncpg
from playwright.async_api import Page, ViewportSize, async_playwright

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1]))

from jobfn.database.migrate import migrate  # noqa: E402
from jobfn.devserver.postgres import EmbeddedPostgres  # noqa: E402
from support.browser import ARGUMENTS, chromium  # noqa: E402
from support.dashboard import site  # noqa: E402
from support.demo_jobs import fill  # noqa: E402

IMAGES = HERE.parents[2] / "docs" / "images"
SIZE = ViewportSize(width=1440, height=900)


async def take_screenshots(dsn: str) -> None:
    """Fill a database and take both screenshots."""
    connection = await asyncpg.connect(dsn)
    await migrate(connection, "app_jobs")
    await connection.close()
    await fill(dsn)
    async with site(dsn) as dashboard, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        light = await browser.new_page(viewport=SIZE, color_scheme="light", reduced_motion="reduce")
        await take_screenshot(light, dashboard.url, "dashboard-overview.png")
        dark = await browser.new_page(viewport=SIZE, color_scheme="dark", reduced_motion="reduce")
        await dark.goto(f"{dashboard.url}/jobs?state=failed&task=process_invoice")
        job = await dark.locator("[data-row] a").first.get_attribute("href")
        await take_screenshot(dark, f"{dashboard.url}{job}", "dashboard-job.png")
        await browser.close()


async def take_screenshot(page: Page, url: str, name: str) -> None:
    """Save a screenshot of a page after it has become live."""
    await page.goto(url)
    await page.locator('#live-status[data-state="live"]').wait_for()
    IMAGES.mkdir(exist_ok=True)
    await page.screenshot(path=IMAGES / name)


if __name__ == "__main__":
    postgres = EmbeddedPostgres()
    postgres.start()
    try:
        asyncio.run(take_screenshots(postgres.dsn()))
    finally:
        postgres.stop()
