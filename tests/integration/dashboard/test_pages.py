"""What the pages show, and that whatever jobs hold is shown as text."""

import re
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from jobfn.function.app import create_app
from jobfn.function.task import task
from support import demo_jobs
from support.dashboard import OpenSite, Site, site
from support.fixtures import Serve
from support.jobs import TENANT, WORKER, Jobs

#: The platform's own schema, as it publishes it.
PLATFORM = [Path(__file__).parents[1] / name for name in ("database/platform.sql", "operations/platform_tools.sql")]
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7777777}}</textarea>"


@pytest.fixture
async def shop(database: str, tmp_path: Any) -> None:
    """A shop's jobs in every state."""
    await demo_jobs.fill(database, tmp_path)


def test_words_are_escaped_in_every_template() -> None:
    """No template says that something is safe."""
    from jobfn.dashboard.render import environment  # noqa: PLC0415  - jinja2, loaded where it is used

    made = environment()
    assert made.autoescape is True
    for name in made.list_templates():
        source = made.loader.get_source(made, name)[0] if made.loader is not None else ""
        assert "| safe" not in source
        assert "autoescape" not in source


@pytest.mark.usefixtures("shop")
async def test_the_overview_counts(open_dashboard: Site, connection: "asyncpg.Connection[Any]") -> None:
    """Each state in all, by task and by queue; the last hour as two pictures; the latest failures."""
    html = (await open_dashboard.get("/")).text
    failed = await connection.fetchval("select count(*) from app_jobs.jobs where exhausted and locked_at is null")
    assert failed
    assert re.search(rf'tile failed.*?number">{failed}<', html, re.DOTALL)
    assert 'href="/jobs?task=sync_stock&amp;state=ready"' in html
    assert 'href="/jobs?queue=warehouse&amp;state=ready"' in html
    assert html.count('<rect class="bar completed"') > 50
    assert re.search(r'<path class="curve" d="M[\d.]+ ', html)
    assert "no such mailbox" in html
    assert "alive, 1 silent" in html


@pytest.mark.usefixtures("shop")
async def test_the_list_is_filtered_and_paged(open_dashboard: Site) -> None:
    """Every filter narrows; the next page goes on where this one ends, and keeps the filter."""
    html = (await open_dashboard.get("/jobs?task=index_article")).text
    assert html.count("data-row") == 50
    assert "85 match" in html
    assert re.search(r'Delayed <span class="number">85<', html)
    assert '<span class="number">' not in (await open_dashboard.get("/jobs?task=index_article&since=1h")).text
    following = re.search(r'rel="next" href="([^"]+)"', html)
    assert following is not None
    rest = (await open_dashboard.get(following.group(1).replace("&amp;", "&"))).text
    assert rest.count("data-row") == 35
    assert 'rel="next"' not in rest
    assert not set(re.findall(r'id="(job-\d+)"', html)) & set(re.findall(r'id="(job-\d+)"', rest))
    for query, found in (
        ("state=running", "page 16 of 25"),
        ("state=failed&error=MAILBOX", "no such mailbox"),
        ("queue=warehouse", "in warehouse"),
        ("q=receipt-7", "key receipt-7"),
        ("worker=worker-2", "worker-2"),
        ("state=completed", "completed"),
        ("since=1h", "data-row"),
        ("before=7d", "No job matches"),
        ("q=999999999", "No job matches"),
    ):
        assert found in (await open_dashboard.get(f"/jobs?{query}")).text, query


@pytest.mark.parametrize(
    "query", ["state=odd", "tenant=none", "since=ever", "after=%21%21", "q=%00", "task=" + "x" * 900]
)
async def test_a_filter_that_means_nothing_breaks_nothing(open_dashboard: Site, query: str) -> None:
    """A person who edits the address gets a page."""
    assert (await open_dashboard.get(f"/jobs?{query}")).status_code == 200


async def test_a_job_shows_all_that_is_known(open_dashboard: Site, jobs: Jobs) -> None:
    """Payload, attempts, each error with its worker, progress, and its life in order."""
    number = await jobs.add("mail", {"to": "ada"}, job_key="k-1", queue_name="out", max_attempts=2)
    await jobs.claim()
    await jobs.connection.execute(
        "select app_jobs.fail_job($1, $2, $3)", WORKER, number, "first: no route\n  at line 7"
    )
    await jobs.connection.execute("update app_jobs.jobs set run_at = now() where id = $1", number)
    await jobs.claim()
    await jobs.connection.execute(
        "update app_jobs.jobs set progress = 0.25, progress_message = 'halfway to half' where id = $1", number
    )
    running = (await open_dashboard.get(f"/jobs/{number}")).text
    for text in ("running", "25 %", "halfway to half", WORKER, "k-1", "out", "first: no route", "2 of 2"):
        assert text in running, text
    await jobs.connection.execute("select app_jobs.fail_job($1, $2, $3)", WORKER, number, "second: gone")
    failed = (await open_dashboard.get(f"/jobs/{number}")).text
    assert "Why it failed" in failed
    assert failed.index("second: gone") < failed.index("Attempt 2") < failed.index("Attempt 1")
    assert "&#34;to&#34;: &#34;ada&#34;" in failed
    assert failed.index("enqueued") < failed.rindex("permanently failed")


async def test_a_completed_job_is_known_from_its_history(open_dashboard: Site, jobs: Jobs) -> None:
    """Its row is gone, its attempts are not."""
    number = await jobs.add("mail")
    await jobs.claim()
    await jobs.connection.execute("select app_jobs.complete_job($1, $2)", WORKER, number)
    html = (await open_dashboard.get(f"/jobs/{number}")).text
    assert "Attempt 1" in html
    assert "The payload was deleted" in html
    assert 'name="action"' not in html


@pytest.mark.parametrize("number", ["123456", "99999999999999999999999"])
async def test_a_job_that_is_not_there(open_dashboard: Site, number: str) -> None:
    """404, and what may have become of it."""
    answer = await open_dashboard.get(f"/jobs/{number}")
    assert answer.status_code == 404
    assert "completed, removed, or never added" in answer.text


@pytest.mark.usefixtures("shop")
async def test_schedules_triggers_and_workers(open_dashboard: Site) -> None:
    """Next times in order, the tables that are watched, who is alive and who is silent."""
    schedules = (await open_dashboard.get("/schedules")).text
    assert "Europe/Paris" in schedules
    times = re.findall(
        r'datetime="([^"]+)"', schedules[schedules.index("close_month") : schedules.index("render_report")]
    )
    assert len(times) == 3
    assert times == sorted(times)
    triggers = (await open_dashboard.get("/triggers")).text
    assert triggers.index("public.articles") < triggers.index("public.invoices")
    assert "watch_fields" in triggers
    workers = (await open_dashboard.get("/workers")).text
    assert (workers.count(">alive<"), workers.count(">silent<")) == (2, 1)


async def test_without_its_database_a_page_says_so(open_dashboard: Site, jobs: Jobs) -> None:
    """503 and a page of ours; it is whole again when the database is."""
    await jobs.connection.execute("alter schema app_jobs rename to away")
    answer = await open_dashboard.get("/jobs")
    assert (answer.status_code, "The database refused" in answer.text) == (503, True)
    await jobs.connection.execute("alter schema away rename to app_jobs")
    assert (await open_dashboard.get("/jobs")).status_code == 200


async def test_empty_pages_say_what_to_do(open_dashboard: Site) -> None:
    """A first visit is not a blank page."""
    for page, text in (
        ("/jobs", "Nothing is waiting"),
        ("/schedules", "jobfn schedules add"),
        ("/triggers", "jobfn triggers apply"),
        ("/workers", "jobfn service"),
        ("/enqueue", "No task is known"),
        ("/", "No job is out of attempts"),
    ):
        assert text in (await open_dashboard.get(page)).text, page


async def test_without_history_the_overview_says_so(open_site: OpenSite, jobs: Jobs) -> None:
    """No charts, and why."""
    await jobs.connection.execute("select app_jobs.set_history_retention(0)")
    site = await open_site()
    assert "JOBS_HISTORY_DAYS is 0" in (await site.get("/")).text
    assert "Completed" not in (await site.get("/jobs")).text


async def test_hostile_words_stay_words(open_site: OpenSite, jobs: Jobs, serve: Serve) -> None:
    """Task, queue, key, payload, error, worker, progress, trigger, schema: shown, never run."""
    hostile_task = task(HOSTILE[:100])(_hostile)
    functions = await serve(create_app(tasks=[hostile_task]))
    site = await open_site(functions=functions)
    name = HOSTILE[:100]
    number = await jobs.add(name, {HOSTILE: HOSTILE}, job_key=HOSTILE, queue_name=HOSTILE[:120], max_attempts=1)
    await jobs.claim(HOSTILE[:60])
    await jobs.connection.execute("update app_jobs.jobs set progress_message = $1", HOSTILE)
    pages = [(await site.get(path)).text for path in ("/", "/jobs", f"/jobs/{number}", "/workers", "/enqueue")]
    await jobs.connection.execute("select app_jobs.fail_job($1, $2, $3)", HOSTILE[:60], number, HOSTILE)
    after = ("/", "/jobs", f"/jobs/{number}", f"/jobs?{_query()}", "/enqueue", f"/enqueue?{_query()}")
    pages += [(await site.get(path)).text for path in after]
    pages.append((await site.post("/enqueue", {"task": name, "payload/words": HOSTILE, "queue": HOSTILE * 9})).text)
    pages.append((await site.post("/jobs/ask", {"action": "cancel", "scope": "matching", "filter": _query()})).text)
    for html in pages:
        assert "&lt;script&gt;" in html
        assert "<script>" not in html
        assert "<img" not in html
        assert str(7 * 7777777) not in html
    async with site.events(f"/jobs/{number}") as events:
        assert "<script>" not in await events.until("Why it failed")


def _hostile(payload: dict[str, int]) -> None:
    """<script>alert(3)</script>."""


def _query() -> str:
    from urllib.parse import urlencode  # noqa: PLC0415  - only here

    return urlencode({"task": HOSTILE[:100], "error": HOSTILE})


async def test_payloads_are_not_logged(open_dashboard: Site, jobs: Jobs, capfd: pytest.CaptureFixture[str]) -> None:
    """They are shown to whoever looks, and written nowhere."""
    number = await jobs.add("x", {"secret": "hunter-2-hunter"})
    assert "hunter-2-hunter" in (await open_dashboard.get(f"/jobs/{number}")).text
    await open_dashboard.post("/enqueue", {"task": "x", "as": "json", "payload": '{"secret": "hunter-2-hunter"}'})
    await open_dashboard.post("/jobs/act", {"action": "remove", "id": str(number)})
    captured = capfd.readouterr()
    assert "hunter-2-hunter" not in captured.out + captured.err


async def test_on_a_schema_of_the_platforms_own(empty_database: str) -> None:
    """What there is to see is shown, what is not is said; a job is added for its tenant and acted on."""
    connection = await asyncpg.connect(empty_database)
    for part in PLATFORM:
        await connection.execute(part.read_text("utf-8"))
    async with site(empty_database) as dashboard:
        for page, text in (
            ("/", "not kept on a schema of the platform"),
            ("/jobs", "No jobs"),
            ("/schedules", "No schedules"),
            ("/triggers", "No triggers"),
            ("/workers", "do not register on this schema"),
        ):
            answer = await dashboard.get(page)
            assert (answer.status_code, text in answer.text) == (200, True), page
        form = {"task": "mail", "payload": "{}", "max_attempts": "1"}
        refused = await dashboard.post("/enqueue", form)
        assert (refused.status_code, "wants the tenant" in refused.text) == (422, True)
        added = await dashboard.post("/enqueue", form | {"database_id": TENANT})
        assert added.status_code == 303, added.text
        job = added.headers["Location"].removeprefix("/jobs/")
        await connection.execute("select app_jobs.get_job($1)", WORKER)
        await connection.execute("select app_jobs.fail_job($1, $2, 'no route')", WORKER, int(job))
        assert "no route" in (await dashboard.get(f"/jobs/{job}")).text
        answer = await dashboard.post("/jobs/act", {"action": "retry", "id": job})
        assert "Retried: 1 job." in answer.text
    await connection.close()
