"""The dashboard in a browser."""

import pytest
from playwright.async_api import Page, expect
from pydantic import BaseModel

from jobfn.function.app import create_app
from jobfn.function.task import task
from support.browser import OpenPage, PageErrors
from support.dashboard import TOKEN, OpenSite, site
from support.durable import parked, step, wait
from support.fixtures import Serve
from support.jobs import WORKER, Jobs
from support.network import free_port


async def add_failed_jobs(jobs: Jobs, number: int = 1, task_name: str = "mail") -> list[int]:
    job_ids = [await jobs.add(task_name, {"n": n}, max_attempts=1) for n in range(number)]
    for job in job_ids:
        await jobs.connection.fetch("select * from app_jobs.get_job($1, $2)", WORKER, [task_name])
        await jobs.connection.execute("select app_jobs.fail_job($1, $2, 'no route to mail.example')", WORKER, job)
    return job_ids


async def until_live(page: Page) -> None:
    await expect(page.locator("#live-status")).to_have_attribute("data-state", "live")


async def test_live_update_keeps_focus_input_and_selection(
    open_site: OpenSite, open_page: OpenPage, jobs: Jobs
) -> None:
    site = await open_site()
    page = await open_page(f"{site.url}/jobs")
    await until_live(page)
    await page.evaluate("window.sameDocument = true")
    await page.locator("#q").fill("half-typed")
    job = await jobs.add("mail")
    row = page.locator(f"#job-{job}")
    await expect(row).to_contain_text("ready")
    await expect(page.locator("#states .ready")).to_contain_text("1")
    await row.locator("input").check()
    await row.locator("a").focus()
    await jobs.claim()
    await expect(row).to_contain_text("running")
    await expect(row.locator("input")).to_be_checked()
    await expect(row.locator("a")).to_be_focused()
    await expect(page.locator("#q")).to_have_value("half-typed")
    await jobs.connection.execute("select app_jobs.complete_job($1, $2)", WORKER, job)
    await expect(row).to_have_count(0)
    assert await page.evaluate("window.sameDocument")


async def test_selected_jobs_are_retried_after_confirmation(
    open_site: OpenSite, open_page: OpenPage, jobs: Jobs
) -> None:
    site = await open_site()
    first, second, third = await add_failed_jobs(jobs, 3)
    page = await open_page(f"{site.url}/jobs?state=failed")
    await until_live(page)
    await expect(page.get_by_role("button", name="Retry")).to_be_hidden()
    await page.locator(f"#job-{first} input").check()
    await page.locator(f"#job-{second} input").check()
    await expect(page.locator("[data-selected-count]")).to_have_text("2 selected")
    await page.get_by_role("button", name="Retry").click()
    dialog = page.locator("#confirm")
    await expect(dialog).to_contain_text("Retry 2 jobs?")
    await dialog.get_by_role("link", name="Keep them").click()
    await expect(dialog).to_be_hidden()
    row = await jobs.row(first)
    assert row["exhausted"]
    await page.get_by_role("button", name="Retry").click()
    await dialog.get_by_role("button", name="Retry").click()
    await expect(page.locator("#toasts")).to_contain_text("Retried: 2 jobs.")
    await expect(page.locator(f"#job-{first}")).to_have_count(0)
    await expect(page.locator(f"#job-{third}")).to_be_visible()
    await expect(page.get_by_role("button", name="Retry")).to_be_hidden()


async def test_all_matching_jobs_are_removed(open_site: OpenSite, open_page: OpenPage, jobs: Jobs) -> None:
    site = await open_site()
    for number in range(60):
        await jobs.add("mail", {"n": number})
    kept = await jobs.add("other")
    page = await open_page(f"{site.url}/jobs?task=mail")
    await until_live(page)
    await page.get_by_label("Select all on this page").check()
    await page.get_by_label("all 60 matching jobs").check()
    await page.get_by_role("button", name="Remove").click()
    await expect(page.locator("#confirm")).to_contain_text("Remove 60 jobs?")
    await page.locator("#confirm").get_by_role("button", name="Remove").click()
    await expect(page.locator("#toasts")).to_contain_text("Removed: 60 jobs.")
    await expect(page.locator("#jobs")).to_contain_text("No job matches")
    assert await jobs.exists(kept)


async def test_keyboard_navigation(open_site: OpenSite, open_page: OpenPage, jobs: Jobs) -> None:
    site = await open_site()
    older, newer = await add_failed_jobs(jobs, 2)
    page = await open_page(site.url)
    press = page.keyboard.press
    await press("Tab")
    await expect(page.get_by_text("Skip to content")).to_be_focused()
    await press("Enter")
    await expect(page.locator("main")).to_be_focused()
    await press("?")
    await expect(page.locator("#shortcuts")).to_be_visible()
    await press("Escape")
    await expect(page.locator("#shortcuts")).to_be_hidden()
    await press("g")
    await press("j")
    await page.wait_for_url("**/jobs")
    await until_live(page)
    await press("/")
    await expect(page.locator("#q")).to_be_focused()
    await page.keyboard.type("rx")  # shortcut letters in a text input
    await expect(page.locator("#q")).to_have_value("rx")
    await press("Escape")
    await press("j")
    await expect(page.locator(f"#job-{newer} a")).to_be_focused()
    outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    await press("j")
    await expect(page.locator(f"#job-{older} a")).to_be_focused()
    await press("x")
    await expect(page.locator(f"#job-{older} input")).to_be_checked()
    await press("Escape")
    await expect(page.locator(f"#job-{older} input")).not_to_be_checked()
    await press("a")
    await expect(page.locator("[data-selected-count]")).to_have_text("2 selected")
    await press("Escape")
    await page.locator(f"#job-{older} a").focus()
    await press("Enter")
    await page.wait_for_url(f"**/jobs/{older}")
    await until_live(page)
    await press("r")
    await expect(page.locator("#confirm").get_by_role("button", name="Retry")).to_be_focused()
    await press("Enter")
    await expect(page.locator("#head")).to_contain_text("ready")
    await press("T")
    assert ":" in (await page.locator("#attempts time").first.inner_text())


class Invoice(BaseModel):
    id: int
    customer: str


@task("process_invoice")
async def process_invoice(payload: Invoice) -> None:
    """Charge an invoice."""


async def test_enqueue_form_shows_errors_at_its_fields(
    open_site: OpenSite, open_page: OpenPage, serve: Serve, jobs: Jobs, page_errors: PageErrors
) -> None:
    page_errors.expected.append("422")
    site = await open_site(functions=await serve(create_app(tasks=[process_invoice])))
    page = await open_page(f"{site.url}/enqueue")
    await page.get_by_role("link", name="process_invoice").click()
    await page.get_by_label("id", exact=True).fill("many")
    await page.get_by_role("button", name="Enqueue job").click()
    await expect(page.get_by_role("alert")).to_contain_text("was not enqueued")
    number = page.get_by_label("id", exact=True)
    await expect(number).to_have_attribute("aria-invalid", "true")
    await expect(number).to_have_accessible_description("'many' is not of type 'integer'")
    await expect(page.get_by_label("customer")).to_have_accessible_description("is required")
    await number.fill("7")
    await page.get_by_label("customer").fill("Ada")
    await page.get_by_role("button", name="Enqueue job").click()
    await page.wait_for_url("**/jobs/*")
    await expect(page.locator("#payload")).to_contain_text('"customer": "Ada"')
    assert await jobs.count() == 1


async def test_login_and_logout(open_site: OpenSite, open_page: OpenPage, page_errors: PageErrors, jobs: Jobs) -> None:
    page_errors.expected.append("401")
    site = await open_site(token=TOKEN)
    await jobs.add("mail")
    page = await open_page(f"{site.url}/jobs?task=mail")
    await page.get_by_label("Token").fill("wrong")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("alert")).to_contain_text("Wrong token")
    await page.get_by_label("Token").fill(TOKEN)
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_url("**/jobs?task=mail")
    await until_live(page)
    assert await page.evaluate("document.cookie") == ""
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_label("Token")).to_be_visible()


async def test_form_of_another_site_is_rejected(
    open_site: OpenSite, open_page: OpenPage, jobs: Jobs, page_errors: PageErrors
) -> None:
    page_errors.expected += ["403", "404"]  # the error response has no icon
    site = await open_site()
    job = await jobs.add("mail")
    page = await open_page(site.url)
    await page.goto("data:text/html,<title>elsewhere</title>")
    await page.set_content(
        f'<form method="post" action="{site.url}/jobs/apply"><input name="action" value="remove">'
        f'<input name="id" value="{job}"><button>Win a prize</button></form>'
    )
    async with page.expect_response(f"{site.url}/jobs/apply") as response:
        await page.get_by_role("button").click()
    assert (await response.value).status == 403
    assert await jobs.exists(job)


async def test_hostile_text_creates_no_elements(open_site: OpenSite, open_page: OpenPage, jobs: Jobs) -> None:
    hostile = "<img src=x onerror=document.title='taken'><script>document.title='taken'</script>"
    site = await open_site()
    page = await open_page(f"{site.url}/jobs")
    await until_live(page)
    job = await jobs.add(hostile, {"<b>": hostile}, max_attempts=1)
    await expect(page.locator(f"#job-{job}")).to_contain_text(hostile)
    await page.goto(f"{site.url}/jobs/{job}")
    await until_live(page)
    await jobs.claim()
    await jobs.connection.execute("select app_jobs.fail_job($1, $2, $3)", WORKER, job, hostile)
    await expect(page.locator("#error")).to_contain_text(hostile)
    await page.get_by_role("button", name="Remove").click()
    await expect(page.locator("#confirm")).to_contain_text(f"Remove job #{job}?")
    assert await page.locator("main img, main script, main b").count() == 0
    assert "taken" not in (await page.title()).partition("·")[2]


async def test_page_reconnects_after_a_restart(
    database: str, open_page: OpenPage, jobs: Jobs, page_errors: PageErrors
) -> None:
    page_errors.expected += ["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_EMPTY_RESPONSE"]
    (job,) = await add_failed_jobs(jobs)
    port = free_port()
    async with site(database, port=port) as first:
        page = await open_page(f"{first.url}/jobs/{job}")
        await until_live(page)
    await expect(page.locator("#live-status")).to_have_attribute("data-state", "lost")
    async with site(database, port=port):
        await expect(page.locator("#live-status")).to_have_attribute("data-state", "live", timeout=20_000)
        await page.get_by_role("button", name="Retry").click()
        await page.locator("#confirm").get_by_role("button", name="Retry").click()
        await expect(page.locator("#head")).to_contain_text("ready")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
async def test_pages_fit_the_screen_with_enough_contrast(
    open_site: OpenSite, open_page: OpenPage, jobs: Jobs, width: int, scheme: str
) -> None:
    site = await open_site()
    await add_failed_jobs(jobs, 2, "a_task_with_a_name_that_is_rather_long_for_a_narrow_screen")
    await jobs.add("mail", {"long": "x" * 300}, queue_name="q" * 60)
    (job,) = await add_failed_jobs(jobs)
    name = "a_step_with_a_name_that_is_rather_long_for_a_narrow_screen"
    durable = await parked(
        jobs,
        "fulfil",
        step(1, name, f'"{"x" * 300}"'),
        step(2, "refund", state="failed", error="no route"),
        wait(3, "sleep", "sleep", seconds=3600),
        wait(4, f"call:{name}", "call", task="a_child", payload={}),
    )
    await jobs.connection.execute("select app_jobs.signal($1::bigint, $2, '{}')", durable, name)
    long_task = "a_schedule_with_a_name_that_is_rather_long_for_its_column"
    await jobs.connection.execute(
        f"select app_jobs.add_scheduled_job('{long_task}', '0 9 * * *'); select app_jobs.pause(task := '{long_task}');"
        f"select app_jobs.set_limit('api', '{long_task}', per := 'payload.customer', concurrency := 2, rate_count := 9,"
        " rate_interval := '1 day'); select app_jobs.pause_limit_key('api', 'a-customer-with-a-long-name', 'infinity')"
    )
    page = await open_page(
        site.url, viewport={"width": width, "height": 844}, color_scheme=scheme, reduced_motion="reduce"
    )
    for path in (
        "/",
        "/audit",
        "/limits",
        "/pauses",
        "/jobs",
        "/errors",
        f"/jobs/{job}",
        f"/jobs/{durable}",
        "/enqueue",
        "/enqueue?task=mail",
        "/schedules",
        "/triggers",
        "/workers",
    ):
        await page.goto(f"{site.url}{path}")
        assert await page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert await page.evaluate(TOO_WIDE) == [], path
        assert await page.evaluate(OVERLAPPING) == [], path
        assert await page.locator(".side nav").evaluate("nav => nav.scrollWidth <= nav.clientWidth"), path
        assert await page.evaluate(LOW_CONTRAST) == [], path


#: Script that lists the tables that are wider than their card.
TOO_WIDE = """
() => [...document.querySelectorAll(".card table")]
  .filter((table) => table.getBoundingClientRect().right > table.closest(".card").getBoundingClientRect().right + 1)
  .map((table) => table.textContent.slice(0, 60))
"""
#: Script that lists the cells of stacked tables that are lower than their labels, which then cover the next cell.
OVERLAPPING = """
() => [...document.querySelectorAll(".stacked td[data-label]")]
  .filter((cell) => cell.scrollHeight > cell.clientHeight + 1)
  .map((cell) => cell.dataset.label)
"""
#: Script that lists the text with a contrast below 4.5 (WCAG 2.2, 1.4.3).
LOW_CONTRAST = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].map((part) => part / 255);
  };
  const luminance = (parts) => parts.slice(0, 3)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, index) => sum + c * [0.2126, 0.7152, 0.0722][index], 0);
  const over = (top, below) => top.map((part, index) => (index < 3 ? part * top[3] + below[index] * (1 - top[3]) : 1));
  const background = (element) => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) {
      layers.push(rgba(getComputedStyle(each).backgroundColor));
    }
    return layers.reverse().reduce((below, top) => over(top, below), [1, 1, 1, 1]);
  };
  const low = [];
  for (const element of document.querySelectorAll("body *:not(script, option, title)")) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.nodeValue.trim());
    if (!hasText || !element.checkVisibility({ opacityProperty: true })) continue;
    const behind = background(element);
    const style = getComputedStyle(element);
    let text = rgba(style.color);
    text = over([text[0], text[1], text[2], text[3] * Number(style.opacity)], behind);
    const [high, lower] = [luminance(text), luminance(behind)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (lower + 0.05);
    if (ratio < 4.5) low.push(`${element.textContent.trim().slice(0, 30)} (${element.className}): ${ratio.toFixed(2)}`);
  }
  return low;
}
"""


async def test_only_selected_rows_are_marked(open_site: OpenSite, open_page: OpenPage, jobs: Jobs) -> None:
    """A row with a list of choices, of which one is always chosen, is not selected."""
    site = await open_site()
    await jobs.connection.execute("select app_jobs.add_scheduled_job('report', '0 9 * * *')")
    await jobs.add("mail")
    page = await open_page(f"{site.url}/schedules")
    assert await page.locator("tbody tr select").count() == 1
    none = "rgba(0, 0, 0, 0)"
    await page.mouse.move(0, 0)
    assert await page.locator("tbody tr").first.evaluate(BACKGROUND) == none
    await page.goto(f"{site.url}/jobs")
    assert await page.locator("tbody tr").first.evaluate(BACKGROUND) == none
    await page.locator("tbody tr input").first.check()
    await page.mouse.move(0, 0)
    assert await page.locator("tbody tr").first.evaluate(BACKGROUND) != none


BACKGROUND = "row => getComputedStyle(row).backgroundColor"
