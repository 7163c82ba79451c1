"""The whole path of a person whose job failed: find it, read why, fix the function, retry, see it pass.

``jobfn dev`` as it is: a real database, worker, function app and dashboard; the file is edited while all of it runs.
"""

from pathlib import Path
from textwrap import dedent

from playwright.async_api import expect

from jobfn.devserver.state import DevState
from support.browser import OpenPage
from support.commands import Spawn
from support.jobs import Jobs

BROKEN = dedent(
    """
    from pydantic import BaseModel

    from jobfn import task


    class Invoice(BaseModel):
        id: int
        total: float


    @task("process_invoice", max_attempts=1)
    async def process_invoice(payload: Invoice) -> dict:
        \"\"\"Charge an invoice.\"\"\"
        raise KeyError("no price list for 2027")
    """
)
MENDED = BROKEN.replace('raise KeyError("no price list for 2027")', 'return {"charged": payload.total}')


async def test_a_failed_job_is_found_understood_mended_and_retried(
    spawn: Spawn, tmp_path: Path, open_page: OpenPage, database: str, jobs: Jobs
) -> None:
    """From the first look at the start page to "completed", on one open page after the other."""
    functions = tmp_path / "functions.py"
    functions.write_text(BROKEN)
    dev = await spawn("jobfn", "dev", "functions.py", "--port", "0", "--dashboard-port", "0", DATABASE_URL=database)
    await dev.until("dashboard      http://")
    await dev.until('"serving"')
    state = DevState.find(tmp_path)
    assert state is not None
    assert state.dashboard_url is not None

    page = await open_page(state.dashboard_url)
    await page.get_by_role("link", name="Enqueue").click()
    await page.get_by_role("link", name="process_invoice").click()
    await page.get_by_label("id", exact=True).fill("7")
    await page.get_by_label("total", exact=True).fill("12.50")
    await page.get_by_role("button", name="Add job").click()
    await page.get_by_role("link", name="Overview").click()

    # finds it
    await expect(page.locator("#tile-failed")).to_contain_text("1", timeout=15_000)
    await page.locator("#tile-failed").click()
    await page.locator("[data-row]").get_by_text("process_invoice").click()
    # reads why
    await expect(page.locator("#why")).to_contain_text("no price list for 2027")
    await expect(page.locator("#payload")).to_contain_text('"total": 12.5')
    await expect(page.locator("#timeline")).to_contain_text("failed for good")
    await page.evaluate("window.sameDocument = true")
    # mends the function
    functions.write_text(MENDED)
    await dev.until('"serving"', times=2)
    # retries
    await page.get_by_role("button", name="Retry").click()
    await page.locator("#ask").get_by_role("button", name="Retry").click()
    await expect(page.locator("#toasts")).to_contain_text("Retried: 1 job.")
    # and sees it pass
    await expect(page.locator("#head .state")).to_have_text("completed", timeout=15_000)
    await expect(page.locator("#attempts li")).to_have_count(2)
    await expect(page.locator("#attempts")).to_contain_text("no price list for 2027")
    await expect(page.locator("#why")).to_have_count(0)
    assert await page.evaluate("window.sameDocument")
    assert await jobs.count() == 0
