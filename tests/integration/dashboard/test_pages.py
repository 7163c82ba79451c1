"""Content of the read-only pages, and escaping."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import asyncpg
import pytest
from pydantic import BaseModel, ConfigDict, Field

from jobfn.function.app import create_app
from jobfn.function.task import task
from support import demo_jobs
from support.dashboard import OpenSite, Site, site
from support.fixtures import Serve
from support.jobs import TENANT, WORKER, Jobs

#: The schema that the platform publishes.
PLATFORM = [Path(__file__).parents[1] / name for name in ("database/platform.sql", "operations/platform_tools.sql")]
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7777777}}</textarea>"
HOSTILE_TASK = HOSTILE[:100]
HOSTILE_QUERY = urlencode({"task": HOSTILE_TASK, "error": HOSTILE})


@pytest.fixture
async def shop(database: str) -> None:
    await demo_jobs.fill(database)


def test_no_template_disables_escaping() -> None:
    from jobfn.dashboard.render import environment  # noqa: PLC0415  - jinja2, loaded where it is used

    engine = environment()
    assert engine.autoescape is True
    for name in engine.list_templates():
        source = engine.loader.get_source(engine, name)[0] if engine.loader is not None else ""
        assert "| safe" not in source
        assert "autoescape" not in source


@pytest.mark.usefixtures("shop")
async def test_overview_shows_counts_charts_and_failures(
    dashboard: Site, connection: "asyncpg.Connection[Any]"
) -> None:
    html = (await dashboard.get("/")).text
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
async def test_charts_have_a_range_and_a_task(dashboard: Site) -> None:
    hour = (await dashboard.get("/")).text
    assert '<a href="/?range=7d">7 d</a>' in hour
    for query, text in (
        ("range=24h", "jobs per 15 minutes"),
        ("range=7d", "Jobs per 2 hours in the last 7 days"),
        ("range=7d", "3 d 12 h"),
        ("range=odd", "jobs per minute"),
    ):
        assert text in (await dashboard.get(f"/?{query}")).text, query
    one_task = (await dashboard.get("/?task=sync_stock&range=24h")).text
    assert re.search(r'class="completed">[1-9][\d,]+ completed', one_task)
    assert 'class="completed">0 completed' in (await dashboard.get("/?task=index_article")).text
    assert 'value="sync_stock" list="tasks"' in one_task
    assert '<a href="/?task=sync_stock">1 h</a>' in one_task
    assert "&lt;b&gt;" in (await dashboard.get("/?task=<b>")).text


@pytest.mark.usefixtures("shop")
async def test_job_list_is_filtered_and_paged(dashboard: Site) -> None:
    html = (await dashboard.get("/jobs?task=index_article")).text
    assert html.count("data-row") == 50
    assert "85 match" in html
    assert re.search(r'Delayed <span class="number">85<', html)
    for query in (
        "task=index_article&since=7d",
        "task=index_article&error=none&state=failed",
        "task=none",
        "q=index_a",
    ):
        filtered = (await dashboard.get(f"/jobs?{query}")).text
        delayed = 85 if query in {"task=index_article&since=7d", "q=index_a"} else 0
        assert re.search(rf'Delayed <span class="number">{delayed}<', filtered), query
    following = re.search(r'rel="next" href="([^"]+)"', html)
    assert following is not None
    rest = (await dashboard.get(following.group(1).replace("&amp;", "&"))).text
    assert rest.count("data-row") == 35
    assert 'rel="next"' not in rest
    assert not set(re.findall(r'id="(job-\d+)"', html)) & set(re.findall(r'id="(job-\d+)"', rest))
    for query, text in (
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
        assert text in (await dashboard.get(f"/jobs?{query}")).text, query


async def test_invalid_filter_still_shows_the_list(dashboard: Site) -> None:
    for query in ("state=odd", "tenant=none", "since=ever", "after=%21%21", "q=%00", "task=" + "x" * 900):
        assert (await dashboard.get(f"/jobs?{query}")).status_code == 200, query


async def test_job_page_shows_payload_attempts_errors_and_progress(dashboard: Site, jobs: Jobs) -> None:
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
    running = (await dashboard.get(f"/jobs/{number}")).text
    for text in ("running", "25 %", "halfway to half", WORKER, "k-1", "out", "first: no route", "2 of 2"):
        assert text in running, text
    await jobs.connection.execute("select app_jobs.fail_job($1, $2, $3)", WORKER, number, "second: gone")
    failed = (await dashboard.get(f"/jobs/{number}")).text
    assert "<h2>Error</h2>" in failed
    assert failed.index("second: gone") < failed.index("Attempt 2") < failed.index("Attempt 1")
    assert "&#34;to&#34;: &#34;ada&#34;" in failed
    assert failed.index("enqueued") < failed.rindex("permanently failed")


async def test_job_page_shows_the_traceback_of_an_attempt(dashboard: Site, jobs: Jobs) -> None:
    number = await jobs.add("mail")
    await jobs.claim()
    await jobs.connection.execute(
        "select app_jobs.settle_jobs_with_tracebacks("
        "array[$1], array[$2::bigint], '{1}', '{failed}', '{boom}', '{null}', null, null, null, array[$3])",
        WORKER,
        number,
        'File "<stdin>", line 7, in send_mail',
    )
    html = (await dashboard.get(f"/jobs/{number}")).text
    shown = "<summary>Traceback</summary><pre>File &#34;&lt;stdin&gt;&#34;, line 7, in send_mail</pre>"
    assert html.index("Attempt 1") < html.index("<pre>boom</pre>") < html.index(shown)
    assert "No traceback" not in html


async def test_job_page_says_why_there_is_no_traceback(dashboard: Site, jobs: Jobs) -> None:
    number = await jobs.add("mail", max_attempts=3)
    assert "No traceback" not in (await dashboard.get(f"/jobs/{number}")).text
    for _ in range(2):
        await jobs.connection.execute("update app_jobs.jobs set run_at = now()")
        assert await jobs.claim_id() == number
        await jobs.fail(number)
    html = (await dashboard.get(f"/jobs/{number}")).text
    assert html.count("<summary>No traceback</summary>") == 1
    assert html.index("Attempt 2") < html.index("(JOBFN_INVOKE_SECRET), or on its machine") < html.index("Attempt 1<")
    await jobs.connection.execute("select app_jobs.cancel_jobs($1, 'wrong', false)", [number])
    assert "No traceback" not in (await dashboard.get(f"/jobs/{number}")).text


async def test_completed_job_is_shown_from_the_history(dashboard: Site, jobs: Jobs) -> None:
    number = await jobs.add("mail")
    await jobs.claim()
    await jobs.connection.execute("select app_jobs.complete_job($1, $2)", WORKER, number)
    html = (await dashboard.get(f"/jobs/{number}")).text
    assert "Attempt 1" in html
    assert "The payload was deleted" in html
    assert 'name="action"' not in html


async def test_unknown_job_is_404(dashboard: Site) -> None:
    for number in ("123456", "99999999999999999999999"):
        response = await dashboard.get(f"/jobs/{number}")
        assert (response.status_code, "or it never existed" in response.text) == (404, True)


@pytest.mark.usefixtures("shop")
async def test_schedules_triggers_and_workers_pages(dashboard: Site) -> None:
    schedules = (await dashboard.get("/schedules")).text
    assert "Europe/Paris" in schedules
    times = re.findall(
        r'datetime="([^"]+)"', schedules[schedules.index("close_month") : schedules.index("render_report")]
    )
    assert len(times) == 3
    assert times == sorted(times)
    triggers = (await dashboard.get("/triggers")).text
    assert triggers.index("public.articles") < triggers.index("public.invoices")
    assert "watch_fields" in triggers
    workers = (await dashboard.get("/workers")).text
    assert (workers.count(">alive<"), workers.count(">silent<")) == (2, 1)


async def test_database_error_page_is_503(dashboard: Site, jobs: Jobs) -> None:
    await jobs.connection.execute("alter schema app_jobs rename to away")
    response = await dashboard.get("/jobs")
    assert (response.status_code, "Database error" in response.text) == (503, True)
    await jobs.connection.execute("alter schema away rename to app_jobs")
    assert (await dashboard.get("/jobs")).status_code == 200


async def test_empty_pages_show_a_hint(dashboard: Site) -> None:
    for page, text in (
        ("/jobs", "No job is waiting"),
        ("/schedules", "jobfn schedules add"),
        ("/triggers", "jobfn triggers apply"),
        ("/workers", "jobfn service"),
        ("/enqueue", "No tasks found"),
        ("/", "No job has failed permanently"),
    ):
        assert text in (await dashboard.get(page)).text, page


async def test_overview_without_history_has_a_notice(open_site: OpenSite, jobs: Jobs) -> None:
    await jobs.connection.execute("select app_jobs.set_history_retention(0)")
    site = await open_site()
    assert "JOBS_HISTORY_DAYS is 0" in (await site.get("/")).text
    assert "Completed" not in (await site.get("/jobs")).text


class HostilePayload(BaseModel):
    model_config = ConfigDict(alias_generator=lambda name: f"{name} {HOSTILE}")

    words: str = Field(default=HOSTILE, description=HOSTILE)
    number: int | None = None


@task(HOSTILE_TASK)
async def hostile_task(payload: HostilePayload) -> None:
    """<script>alert(3)</script>."""


async def test_hostile_text_is_escaped_on_every_page(open_site: OpenSite, jobs: Jobs, serve: Serve) -> None:
    functions = await serve(create_app(tasks=[hostile_task]))
    site = await open_site(functions=functions)
    number = await jobs.add(HOSTILE_TASK, {HOSTILE: HOSTILE}, job_key=HOSTILE, queue_name=HOSTILE[:120], max_attempts=1)
    await jobs.claim(HOSTILE[:60])
    await jobs.connection.execute("update app_jobs.jobs set progress_message = $1", HOSTILE)
    pages = [(await site.get(path)).text for path in ("/", "/jobs", f"/jobs/{number}", "/workers", "/enqueue")]
    await jobs.connection.execute("select app_jobs.fail_job($1, $2, $3)", HOSTILE[:60], number, HOSTILE)
    after = (
        "/",
        "/jobs",
        f"/jobs/{number}",
        f"/jobs?{HOSTILE_QUERY}",
        "/enqueue",
        f"/enqueue?{HOSTILE_QUERY}",
        f"/enqueue?{HOSTILE_QUERY}&as=json",
    )
    pages += [(await site.get(path)).text for path in after]
    form = {"task": HOSTILE_TASK, f"payload/number {HOSTILE}": HOSTILE, "queue": HOSTILE * 9}
    pages.append((await site.post("/enqueue", form)).text)
    pages.append((await site.post("/enqueue", form | {"as": "json", "payload": json.dumps(HOSTILE)})).text)
    pages.append(
        (await site.post("/jobs/confirm", {"action": "retry", "scope": "matching", "filter": HOSTILE_QUERY})).text
    )
    for html in pages:
        assert "&lt;script&gt;" in html
        assert "<script>" not in html
        assert "<img" not in html
        assert str(7 * 7777777) not in html
    async with site.events(f"/jobs/{number}") as events:
        assert "<script>" not in await events.until("<h2>Error</h2>")


async def test_payloads_are_not_logged(dashboard: Site, jobs: Jobs, capfd: pytest.CaptureFixture[str]) -> None:
    number = await jobs.add("x", {"secret": "hunter-2-hunter"})
    assert "hunter-2-hunter" in (await dashboard.get(f"/jobs/{number}")).text
    await dashboard.post("/enqueue", {"task": "x", "as": "json", "payload": '{"secret": "hunter-2-hunter"}'})
    await dashboard.post("/jobs/apply", {"action": "remove", "id": str(number)})
    captured = capfd.readouterr()
    assert "hunter-2-hunter" not in captured.out + captured.err


async def test_pages_work_on_the_platforms_schema(empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    for part in PLATFORM:
        await connection.execute(part.read_text("utf-8"))
    async with site(empty_database) as dashboard:
        for page, text in (
            ("/", "does not have"),
            ("/jobs", "No jobs"),
            ("/schedules", "No schedules"),
            ("/triggers", "No triggers"),
            ("/workers", "do not register on the platform"),
            ("/limits", "schema has no limits"),
        ):
            response = await dashboard.get(page)
            assert (response.status_code, text in response.text) == (200, True), page
        limit = await dashboard.post("/limits/apply", {"action": "set", "name": "x", "concurrency": "1"})
        assert (limit.status_code, "has no limits" in limit.text) == (400, True)
        form = {"task": "mail", "payload": "{}", "max_attempts": "1"}
        rejected = await dashboard.post("/enqueue", form)
        assert (rejected.status_code, "requires the tenant" in rejected.text) == (422, True)
        added = await dashboard.post("/enqueue", form | {"database_id": TENANT})
        assert added.status_code == 303, added.text
        job = added.headers["Location"].removeprefix("/jobs/")
        await connection.execute("select app_jobs.get_job($1)", WORKER)
        await connection.execute("select app_jobs.fail_job($1, $2, 'no route')", WORKER, int(job))
        assert "no route" in (await dashboard.get(f"/jobs/{job}")).text
        response = await dashboard.post("/jobs/apply", {"action": "retry", "id": job})
        assert "Retried: 1 job." in response.text
    await connection.close()


async def test_overview_lists_the_latest_failures_first(dashboard: Site, jobs: Jobs) -> None:
    ids = [await jobs.add("send") for _ in range(7)]
    for job_id in reversed(ids):
        await jobs.connection.execute("select app_jobs.permanently_fail_jobs(array[$1]::bigint[], 'down')", job_id)
    html = (await dashboard.get("/")).text
    assert re.findall(r'id="failure-(\d+)"', html) == [str(job_id) for job_id in ids[:5]]
    listed = (await dashboard.get("/jobs?state=failed&sort=updated")).text
    assert re.findall(r'aria-label="Select job (\d+)"', listed) == [str(job_id) for job_id in ids]
    assert '<option value="updated" selected>' in listed


async def test_job_page_says_why_the_job_waits(dashboard: Site, jobs: Jobs) -> None:
    first = await jobs.add("send", queue_name="<q>")
    second = await jobs.add("send", queue_name="<q>")
    await jobs.claim()
    await jobs.connection.execute(
        "select app_jobs.heartbeat_worker($1, 'h', 1, '1', '{worker}', 9, 1, '1 h', null, null, null)", WORKER
    )
    page = (await dashboard.get(f"/jobs/{second}")).text
    assert f"Why it waits: the queue &lt;q&gt; is held by job {first}, which runs on {WORKER}<" in page
    assert "Why it waits" not in (await dashboard.get(f"/jobs/{first}")).text
