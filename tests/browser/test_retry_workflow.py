"""A failed job in ``jobfn dev``: find it, read the error, fix the function, retry, and see it complete."""

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
FIXED = BROKEN.replace('raise KeyError("no price list for 2027")', 'return {"charged": payload.total}')


async def test_failed_job_is_fixed_and_retried(
    spawn: Spawn, tmp_path: Path, open_page: OpenPage, database: str, jobs: Jobs
) -> None:
    functions = tmp_path / "functions.py"
    functions.write_text(BROKEN)
    dev = await spawn(
        "jobfn", "dev", "functions.py", "--port", "0", "--dashboard-port", "0", "--database-url", database
    )
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
    await page.get_by_role("button", name="Enqueue job").click()
    await page.get_by_role("link", name="Overview").click()

    # find the job
    await expect(page.locator("#tile-failed")).to_contain_text("1", timeout=15_000)
    await page.locator("#tile-failed").click()
    await page.locator("[data-row]").get_by_text("process_invoice").click()
    # read the error
    await expect(page.locator("#error")).to_contain_text("no price list for 2027")
    await expect(page.locator("#payload")).to_contain_text('"total": 12.5')
    await expect(page.locator("#timeline")).to_contain_text("permanently failed")
    await page.evaluate("window.sameDocument = true")
    # fix the function
    functions.write_text(FIXED)
    await dev.until('"serving"', times=2)
    # retry
    await page.get_by_role("button", name="Retry").click()
    await page.locator("#confirm").get_by_role("button", name="Retry").click()
    await expect(page.locator("#toasts")).to_contain_text("Retried: 1 job.")
    # see it complete
    await expect(page.locator("#head .state")).to_have_text("completed", timeout=15_000)
    await expect(page.locator("#attempts li")).to_have_count(2)
    await expect(page.locator("#attempts")).to_contain_text("no price list for 2027")
    await expect(page.locator("#error")).to_have_count(0)
    assert await page.evaluate("window.sameDocument")
    assert await jobs.count() == 0
