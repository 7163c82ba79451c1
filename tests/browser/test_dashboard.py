"""The dashboard in a browser, as a person uses it."""

import pytest
from playwright.async_api import Page, expect
from pydantic import BaseModel

from jobfn.function.app import create_app
from jobfn.function.task import task
from support.browser import Complaints, OpenPage
from support.dashboard import TOKEN, OpenSite, site
from support.fixtures import Serve
from support.jobs import WORKER, Jobs
from support.network import free_port


async def failed(jobs: Jobs, number: int = 1, task_name: str = "mail") -> list[int]:
    """So many jobs that are out of attempts."""
    made = [await jobs.add(task_name, {"n": n}, max_attempts=1) for n in range(number)]
    for job in made:
        await jobs.connection.fetch("select * from app_jobs.get_job($1, $2)", WORKER, [task_name])
        await jobs.connection.execute("select app_jobs.fail_job($1, $2, 'no route to mail.example')", WORKER, job)
    return made


async def live(page: Page) -> None:
    """Wait until the page follows the database."""
    await expect(page.locator("#pulse")).to_have_attribute("data-state", "live")


async def test_a_page_changes_by_itself(open_site: OpenSite, open_page: OpenPage, jobs: Jobs) -> None:
    """Counts, rows and states follow the database; the document is never loaded again, and focus stays."""
    site = await open_site()
    page = await open_page(f"{site.url}/jobs")
    await live(page)
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


async def test_ticked_jobs_are_retried_after_a_confirmation(
    open_site: OpenSite, open_page: OpenPage, jobs: Jobs
) -> None:
    """The buttons appear with the first tick; nothing happens before the dialog's own button is pressed."""
    site = await open_site()
    first, second, third = await failed(jobs, 3)
    page = await open_page(f"{site.url}/jobs?state=failed")
    await live(page)
    await expect(page.get_by_role("button", name="Retry")).to_be_hidden()
    await page.locator(f"#job-{first} input").check()
    await page.locator(f"#job-{second} input").check()
    await expect(page.locator("[data-chosen]")).to_have_text("2 selected")
    await page.get_by_role("button", name="Retry").click()
    dialog = page.locator("#ask")
    await expect(dialog).to_contain_text("Retry 2 jobs?")
    await dialog.get_by_role("link", name="Keep them").click()
    await expect(dialog).to_be_hidden()
    row = await jobs.row(first)
    assert row is not None
    assert row["exhausted"]
    await page.get_by_role("button", name="Retry").click()
    await dialog.get_by_role("button", name="Retry").click()
    await expect(page.locator("#toasts")).to_contain_text("Retried: 2 jobs.")
    await expect(page.locator(f"#job-{first}")).to_have_count(0)
    await expect(page.locator(f"#job-{third}")).to_be_visible()
    await expect(page.get_by_role("button", name="Retry")).to_be_hidden()


async def test_all_that_match_are_removed(open_site: OpenSite, open_page: OpenPage, jobs: Jobs) -> None:
    """More than one page holds."""
    site = await open_site()
    for number in range(60):
        await jobs.add("mail", {"n": number})
    kept = await jobs.add("other")
    page = await open_page(f"{site.url}/jobs?task=mail")
    await live(page)
    await page.get_by_label("Select all on this page").check()
    await page.get_by_label("all 60 that match").check()
    await page.get_by_role("button", name="Remove").click()
    await expect(page.locator("#ask")).to_contain_text("Remove 60 jobs?")
    await page.locator("#ask").get_by_role("button", name="Remove").click()
    await expect(page.locator("#toasts")).to_contain_text("Removed: 60 jobs.")
    await expect(page.locator("#jobs")).to_contain_text("No job matches")
    assert await jobs.row(kept) is not None


async def test_the_keyboard_is_enough(open_site: OpenSite, open_page: OpenPage, jobs: Jobs) -> None:
    """From the start page to a failed job, through its confirmation, without a mouse."""
    site = await open_site()
    older, newer = await failed(jobs, 2)
    page = await open_page(site.url)
    press = page.keyboard.press
    await press("Tab")
    await expect(page.get_by_text("Skip to the content")).to_be_focused()
    await press("Enter")
    await expect(page.locator("main")).to_be_focused()
    await press("?")
    await expect(page.locator("#shortcuts")).to_be_visible()
    await press("Escape")
    await expect(page.locator("#shortcuts")).to_be_hidden()
    await press("g")
    await press("j")
    await page.wait_for_url("**/jobs")
    await live(page)
    await press("/")
    await expect(page.locator("#q")).to_be_focused()
    await page.keyboard.type("rx")  # letters, while something is typed in
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
    await expect(page.locator("[data-chosen]")).to_have_text("2 selected")
    await press("Escape")
    await page.locator(f"#job-{older} a").focus()
    await press("Enter")
    await page.wait_for_url(f"**/jobs/{older}")
    await live(page)
    await press("r")
    await expect(page.locator("#ask").get_by_role("button", name="Retry")).to_be_focused()
    await press("Enter")
    await expect(page.locator("#head")).to_contain_text("ready")
    await press("T")
    shown = page.locator("#attempts time").first
    assert ":" in (await shown.inner_text())


class Invoice(BaseModel):
    """What the task takes."""

    id: int
    customer: str


@task("process_invoice")
async def process_invoice(payload: Invoice) -> None:
    """Charge an invoice."""


async def test_an_enqueue_form_says_what_is_wrong_at_its_fields(
    open_site: OpenSite, open_page: OpenPage, serve: Serve, jobs: Jobs, complaints: Complaints
) -> None:
    """And, once that is mended, leads to the job."""
    complaints.expected.append("422")
    site = await open_site(functions=await serve(create_app(tasks=[process_invoice])))
    page = await open_page(f"{site.url}/enqueue")
    await page.get_by_role("link", name="process_invoice").click()
    await page.get_by_label("id", exact=True).fill("many")
    await page.get_by_role("button", name="Add job").click()
    await expect(page.get_by_role("alert")).to_contain_text("was not added")
    number = page.get_by_label("id", exact=True)
    await expect(number).to_have_attribute("aria-invalid", "true")
    await expect(number).to_have_accessible_description("must be a whole number")
    await expect(page.get_by_label("customer")).to_have_accessible_description("is required")
    await number.fill("7")
    await page.get_by_label("customer").fill("Ada")
    await page.get_by_role("button", name="Add job").click()
    await page.wait_for_url("**/jobs/*")
    await expect(page.locator("#payload")).to_contain_text('"customer": "Ada"')
    assert await jobs.count() == 1


async def test_a_login_and_its_end(
    open_site: OpenSite, open_page: OpenPage, complaints: Complaints, jobs: Jobs
) -> None:
    """A wrong token is told, the right one leads on to the page that was asked for; no script reads the cookie."""
    complaints.expected.append("401")
    site = await open_site(token=TOKEN)
    await jobs.add("mail")
    page = await open_page(f"{site.url}/jobs?task=mail")
    await page.get_by_label("Token").fill("wrong")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("alert")).to_contain_text("not the token")
    await page.get_by_label("Token").fill(TOKEN)
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_url("**/jobs?task=mail")
    await live(page)
    assert await page.evaluate("document.cookie") == ""
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_label("Token")).to_be_visible()


async def test_a_form_of_another_site_is_refused(
    open_site: OpenSite, open_page: OpenPage, jobs: Jobs, complaints: Complaints
) -> None:
    """A page of somebody else's that posts to the dashboard brings neither cookie nor token."""
    complaints.expected += ["403", "404"]  # the answer is no page of ours, and has no icon
    site = await open_site()
    job = await jobs.add("mail")
    page = await open_page(site.url)
    await page.goto("data:text/html,<title>elsewhere</title>")
    await page.set_content(
        f'<form method="post" action="{site.url}/jobs/act"><input name="action" value="remove">'
        f'<input name="id" value="{job}"><button>Win a prize</button></form>'
    )
    async with page.expect_response(f"{site.url}/jobs/act") as answered:
        await page.get_by_role("button").click()
    assert (await answered.value).status == 403
    assert await jobs.row(job) is not None


async def test_hostile_words_make_no_element(open_site: OpenSite, open_page: OpenPage, jobs: Jobs) -> None:
    """What jobs hold is text, on the page as it comes and in what is put into it later."""
    hostile = "<img src=x onerror=document.title='taken'><script>document.title='taken'</script>"
    site = await open_site()
    page = await open_page(f"{site.url}/jobs")
    await live(page)
    job = await jobs.add(hostile, {"<b>": hostile}, max_attempts=1)
    await expect(page.locator(f"#job-{job}")).to_contain_text(hostile)
    await page.goto(f"{site.url}/jobs/{job}")
    await live(page)
    await jobs.claim()
    await jobs.connection.execute("select app_jobs.fail_job($1, $2, $3)", WORKER, job, hostile)
    await expect(page.locator("#why")).to_contain_text(hostile)
    await page.get_by_role("button", name="Remove").click()
    await expect(page.locator("#ask")).to_contain_text(f"Remove job #{job}?")
    assert await page.locator("main img, main script, main b").count() == 0
    assert "taken" not in (await page.title()).partition("·")[2]


async def test_read_only_shows_and_does_not_act(open_site: OpenSite, open_page: OpenPage, jobs: Jobs) -> None:
    """No boxes, no buttons; the page is as live."""
    site = await open_site(read_only=True)
    (job,) = await failed(jobs)
    page = await open_page(f"{site.url}/jobs/{job}")
    await live(page)
    await expect(page.get_by_text("no route to mail.example").first).to_be_visible()
    await expect(page.get_by_role("button", name="Retry")).to_have_count(0)
    await page.goto(f"{site.url}/jobs")
    await expect(page.get_by_role("checkbox")).to_have_count(0)
    await jobs.add("more")
    await expect(page.locator("[data-row]")).to_have_count(2)


async def test_a_restart_of_the_dashboard_is_survived(
    database: str, open_page: OpenPage, jobs: Jobs, complaints: Complaints
) -> None:
    """The open page finds the new one by itself, and its buttons work there, although all keys are new."""
    complaints.expected += ["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_EMPTY_RESPONSE"]
    (job,) = await failed(jobs)
    port = free_port()
    async with site(database, at_port=port) as first:
        page = await open_page(f"{first.url}/jobs/{job}")
        await live(page)
    await expect(page.locator("#pulse")).to_have_attribute("data-state", "lost")
    async with site(database, at_port=port):
        await expect(page.locator("#pulse")).to_have_attribute("data-state", "live", timeout=20_000)
        await page.get_by_role("button", name="Retry").click()
        await page.locator("#ask").get_by_role("button", name="Retry").click()
        await expect(page.locator("#head")).to_contain_text("ready")


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits_a_screen_and_can_be_read(
    open_site: OpenSite, open_page: OpenPage, jobs: Jobs, width: int, scheme: str
) -> None:
    """No page is wider than the screen, whatever stands in it; words stand out from their ground by 4.5 or more."""
    site = await open_site()
    await failed(jobs, 2, "a_task_with_a_name_that_is_rather_long_for_a_narrow_screen")
    await jobs.add("mail", {"long": "x" * 300}, queue_name="q" * 60)
    (job,) = await failed(jobs)
    page = await open_page(
        site.url, viewport={"width": width, "height": 844}, color_scheme=scheme, reduced_motion="reduce"
    )
    for path in ("/", "/jobs", f"/jobs/{job}", "/enqueue", "/enqueue?task=mail", "/schedules", "/triggers", "/workers"):
        await page.goto(f"{site.url}{path}")
        assert await page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert await page.locator(".side nav").evaluate("nav => nav.scrollWidth <= nav.clientWidth"), path
        assert await page.evaluate(LOW_CONTRAST) == [], path


#: The words on a page whose colour is too near to what is behind them (WCAG 2.2, 1.4.3), with how near.
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
  const ground = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) {
      layers.push(rgba(getComputedStyle(one).backgroundColor));
    }
    return layers.reverse().reduce((below, top) => over(top, below), [1, 1, 1, 1]);
  };
  const low = [];
  for (const element of document.querySelectorAll("body *:not(script, option, title)")) {
    const words = [...element.childNodes].some((node) => node.nodeType === 3 && node.nodeValue.trim());
    if (!words || !element.checkVisibility({ opacityProperty: true })) continue;
    const behind = ground(element);
    const style = getComputedStyle(element);
    let ink = rgba(style.color);
    ink = over([ink[0], ink[1], ink[2], ink[3] * Number(style.opacity)], behind);
    const [high, lower] = [luminance(ink), luminance(behind)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (lower + 0.05);
    if (ratio < 4.5) low.push(`${element.textContent.trim().slice(0, 30)} (${element.className}): ${ratio.toFixed(2)}`);
  }
  return low;
}
"""
