"""A durable function in a browser: its timeline, live, and the actions on it."""

import json

from playwright.async_api import expect

from support.browser import OpenPage, PageErrors
from support.dashboard import OpenSite
from support.durable import parked, step, wait
from support.jobs import Jobs


async def test_signal_and_retry_from_a_step(
    open_site: OpenSite, open_page: OpenPage, page_errors: PageErrors, jobs: Jobs
) -> None:
    job = await parked(
        jobs,
        "fulfil_order",
        step(1, "charge", '{"id": "ch_7"}', seconds=1.5),
        wait(2, "wait:approved", "wait", event="approved", seconds=86_400 * 3),
        wait(3, "call:print_label", "call", 3, task="print_label", payload={}),
        wait(4, "call:print_label#2", "call", 3, task="print_label", payload={}),
    )
    page = await open_page(f"{(await open_site()).url}/jobs/{job}")
    await expect(page.locator("#live-status")).to_have_attribute("data-state", "live")
    await expect(page.locator("#waits")).to_contain_text("waits for the signal 'approved' (times out in 2 d)")
    await expect(page.locator("#children li")).to_have_count(2)

    page_errors.expected.append("422")
    await page.get_by_role("button", name="Send signal").click()
    dialog = page.locator("#confirm")
    await expect(dialog.get_by_label("Event")).to_have_value("approved")
    await dialog.get_by_label("Payload, JSON").fill("{by")
    await dialog.get_by_role("button", name="Send signal").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("The payload is not valid JSON")
    await dialog.get_by_label("Payload, JSON").fill('{"by": "ada"}')
    await dialog.get_by_role("button", name="Send signal").click()
    await expect(page.locator("#toasts")).to_contain_text(f"Sent: approved to job #{job}.")
    await expect(page.locator("#step-2")).to_contain_text("ada")
    await expect(page.locator("#head .state")).to_have_text("ready")
    result = await jobs.connection.fetchval("select result from app_jobs.job_steps where position = 2")
    assert json.loads(result) == {"by": "ada"}

    await page.get_by_role("button", name="Retry from wait:approved").click()
    await expect(dialog).to_contain_text("this step and the 2 after it")
    await dialog.get_by_role("button", name="Retry from here").click()
    await expect(page.locator("#run li")).to_have_count(1)
    await page.locator("#head").get_by_role("link", name="Jobs").click()
    await expect(page.locator("#states .cancelled")).to_contain_text("2")  # the children
