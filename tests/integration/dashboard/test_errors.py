"""The page that groups jobs by error, and its actions."""

import html
import re

from support.dashboard import OpenSite, Site
from support.jobs import WORKER, Jobs


async def add_failed_job(jobs: Jobs, task: str, error: str, *, max_attempts: int = 1) -> int:
    job = await jobs.add(task, max_attempts=max_attempts)
    await jobs.connection.fetch("select * from app_jobs.get_job($1, $2)", WORKER, [task])
    await jobs.connection.execute("select app_jobs.fail_job($1, $2, $3)", WORKER, job, error)
    return job


async def test_group_links_to_its_jobs_and_can_be_retried_at_once(dashboard: Site, jobs: Jobs) -> None:
    ids = [await add_failed_job(jobs, "a&b", f"no <route> {number}") for number in range(3)]
    retried = await add_failed_job(jobs, "a&b", "no <route> 4", max_attempts=2)
    other = await add_failed_job(jobs, "a&b", "gone")
    page = (await dashboard.get("/errors")).text
    assert page.index("no &lt;route&gt; &lt;n&gt;") < page.index("gone")
    [row] = re.findall(r'<tr id="group-.*?</tr>', page, re.DOTALL)[:1]
    assert re.findall(r'class="right">(.*?)</td>', row) == ["3", "1"]
    listed = (await dashboard.get(html.unescape(re.findall(r'href="(/jobs\?[^"]*)"', row)[0]))).text
    assert [f'id="job-{job}"' in listed for job in (*ids, retried, other)] == [True, True, True, True, False]
    form = {"scope": "matching", "filter": html.unescape(re.findall(r'name="filter" value="([^"]*)"', row)[0])}
    assert re.findall(r'name="action" value="(\w+)"', row) == ["retry", "cancel", "remove"]
    assert "3 jobs" in (await dashboard.post("/jobs/confirm", form | {"action": "retry"})).text
    assert "Cancelled: 1 job." in (await dashboard.post("/jobs/apply", form | {"action": "cancel"})).text
    assert "Retried: 3 jobs." in (await dashboard.post("/jobs/apply", form | {"action": "retry"})).text
    assert [(await jobs.row(job))["attempts"] for job in (*ids, other)] == [0, 0, 0, 1]


async def test_without_errors_the_page_says_so(dashboard: Site) -> None:
    assert "No job has failed, and none is retried." in (await dashboard.get("/errors")).text


async def test_read_only_dashboard_has_no_actions(open_site: OpenSite, jobs: Jobs) -> None:
    await add_failed_job(jobs, "t", "gone")
    page = (await (await open_site(read_only=True)).get("/errors")).text
    assert "gone" in page
    assert 'name="action"' not in page


async def test_invalid_group_is_ignored_and_named(dashboard: Site, jobs: Jobs) -> None:
    job = await add_failed_job(jobs, "t", "gone")
    page = (await dashboard.get("/jobs?group=odd")).text
    assert "choose a group of the page Errors" in page
    assert f'id="job-{job}"' in page
