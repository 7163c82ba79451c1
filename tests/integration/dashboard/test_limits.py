"""The page of limits."""

import html
import re
from datetime import timedelta

import pytest

from support.dashboard import OpenSite, Site
from support.jobs import Jobs
from support.limits import claim, held, set_limit

ODD_KEY = " a\r\n\"<b>' "


def text(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", "", page).split())


async def test_page_shows_what_limits_count_and_hold(dashboard: Site, jobs: Jobs) -> None:
    assert "No limits" in (await dashboard.get("/limits")).text
    await set_limit(
        jobs.connection,
        "sync<b>",
        per="payload.customer",
        concurrency=1,
        rate_count=9,
        rate_interval=timedelta(hours=1),
    )
    for customer in ("acme<i>", "acme<i>"):
        await jobs.add("sync", {"customer": customer})
    assert len(await claim(jobs.connection, 10)) == 1
    page = (await dashboard.get("/limits")).text
    for shown in ("sync&lt;b&gt;", "acme&lt;i&gt;", "of 1 each", "of 9/hour each", "set by operator"):
        assert shown in page


async def test_page_names_the_running_jobs_and_counts_the_held_ones(dashboard: Site, jobs: Jobs) -> None:
    await set_limit(jobs.connection, "sync", concurrency=6)
    for _ in range(9):
        await jobs.add("sync")
    running = await claim(jobs.connection, 10)
    page = (await dashboard.get("/limits")).text
    assert [f'<a href="/jobs/{job}">#{job}</a>' in page for job in running] == [True] * 5 + [False]
    assert "all jobs 6#1 #2 #3 #4 #5 and 1 more 0 3" in text(page)


async def test_set_change_and_remove_a_limit(dashboard: Site, jobs: Jobs) -> None:
    assert "Set a limit" in (await dashboard.get("/limits")).text
    form = await dashboard.post("/limits/confirm", {"action": "set"})
    assert ('name="concurrency"' in form.text, "Change nothing" in form.text) == (True, True)
    values = {"task": "sync", "queue": "", "per": "tenant", "concurrency": "5", "rate": "100/minute", "pauses": "yes"}
    response = await dashboard.post("/limits/apply", {"action": "set", "name": "sync", **values})
    assert "Done: limit sync is set." in text(response.text)
    columns = "name, task_identifier, queue_name, per, concurrency, rate_count, pauses_on_retry_later, set_by"
    row = await jobs.connection.fetchrow(f"select {columns} from app_jobs.limits")
    assert tuple(row) == ("sync", "sync", None, "tenant", 5, 100, True, "operator")
    form = await dashboard.post("/limits/confirm", {"action": "set", "name": "sync"})
    assert "Change limit sync" in form.text
    for shown in ('value="tenant"', 'value="5"', 'value="100/minute"', 'value="yes" selected'):
        assert shown in form.text
    await dashboard.post("/limits/apply", {"action": "set", "name": "sync", "concurrency": "7"})
    row = await jobs.connection.fetchrow(f"select {columns} from app_jobs.limits")
    assert tuple(row) == ("sync", None, None, None, 7, None, False, "operator")
    assert "Remove limit sync?" in (await dashboard.post("/limits/confirm", {"action": "remove", "name": "sync"})).text
    response = await dashboard.post("/limits/apply", {"action": "remove", "name": "sync"})
    assert "Done: limit sync is removed." in text(response.text)
    assert await jobs.connection.fetchval("select count(*) from app_jobs.limits") == 0


async def test_pause_and_resume_a_key(dashboard: Site, jobs: Jobs) -> None:
    """The page sends keys as they are: with spaces, line ends and quotes."""
    await set_limit(jobs.connection, "sync", per="payload.customer", concurrency=1)
    first, second = [await jobs.add("sync", {"customer": ODD_KEY}) for _ in range(2)]
    assert await claim(jobs.connection, 10) == [first]
    page = (await dashboard.get("/limits")).text
    listed = [html.unescape(value) for value in re.findall(r'name="listed_key" value="([^"]*)"', page)]
    assert len(listed) == 1
    target = {"action": "pause", "name": "sync", "listed_key": listed[0]}
    confirmation = (await dashboard.post("/limits/confirm", target)).text
    assert html.unescape(re.findall(r'name="listed_key" value="([^"]*)"', confirmation)[0]) == listed[0]
    assert "is paused for 1 hour." in (await dashboard.post("/limits/apply", {**target, "for": "3600"})).text
    paused = "select key, paused_until > now() + interval '59 minutes' from app_jobs.limit_keys"
    assert [tuple(row) for row in await jobs.connection.fetch(paused)] == [(ODD_KEY, True)]
    await jobs.complete(first)
    assert (await claim(jobs.connection, 10), await held(jobs.connection)) == ([], [second])
    assert ">Resume<" in (await dashboard.get("/limits")).text
    assert "runs again." in (await dashboard.post("/limits/apply", {**target, "action": "resume"})).text
    assert await claim(jobs.connection, 10) == [second]
    asks = (await dashboard.post("/limits/confirm", {"action": "pause", "name": "sync"})).text
    assert 'id="key"' in asks
    await dashboard.post("/limits/apply", {"action": "pause", "name": "sync", "key": "other", "for": "900"})
    keys = await jobs.connection.fetch("select key from app_jobs.limit_keys where paused_until > now()")
    assert [row["key"] for row in keys] == ["other"]


@pytest.mark.parametrize(
    ("path", "form", "message"),
    [
        ("confirm", {"action": "set", "name": "unknown"}, "there is no limit &#39;unknown&#39;"),
        ("confirm", {"action": "burn", "name": "sync"}, "choose set, remove, pause or resume"),
        ("confirm", {"action": "pause", "name": "sync", "listed_key": "x"}, "choose a value of the list"),
        ("apply", {"action": "burn", "name": "sync"}, "choose set, remove, pause or resume"),
        ("apply", {"action": "remove", "name": "unknown"}, "there is no limit &#39;unknown&#39;"),
        ("apply", {"action": "pause", "name": "sync", "for": "7"}, "choose one of the durations"),
        ("apply", {"action": "pause", "name": "unknown", "for": "900"}, "there is no limit &#39;unknown&#39;"),
        ("apply", {"action": "set", "name": "x"}, "give it a concurrency, a rate or both"),
        ("apply", {"action": "set", "name": "", "concurrency": "1"}, "must have 1 to 126 characters"),
        ("apply", {"action": "set", "name": "x", "concurrency": "many"}, "the concurrency must be a whole number"),
        ("apply", {"action": "set", "name": "x", "concurrency": "0"}, "the concurrency 0 is not valid"),
        ("apply", {"action": "set", "name": "x", "rate": "often"}, "the rate &#39;often&#39; is not valid"),
        ("apply", {"action": "set", "name": "x", "concurrency": "1", "per": "planet"}, "is not valid: use tenant"),
    ],
)
async def test_invalid_form_changes_nothing(
    dashboard: Site, jobs: Jobs, path: str, form: dict[str, str], message: str
) -> None:
    await set_limit(jobs.connection, "sync", concurrency=2)
    response = await dashboard.post(f"/limits/{path}", form)
    assert (response.status_code, message in response.text) == (400, True)
    limits = await jobs.connection.fetch("select name, concurrency from app_jobs.limits")
    assert [tuple(row) for row in limits] == [("sync", 2)]
    assert await jobs.connection.fetchval("select count(*) from app_jobs.limit_keys") == 0


async def test_read_only_dashboard_changes_no_limit(open_site: OpenSite, jobs: Jobs) -> None:
    await set_limit(jobs.connection, "sync", concurrency=2)
    site = await open_site(read_only=True)
    page = (await site.get("/limits")).text
    assert ("sync" in page, "/limits/confirm" in page) == (True, False)
    response = await site.post("/limits/apply", {"action": "remove", "name": "sync"})
    assert response.status_code in {403, 405}
    assert await jobs.connection.fetchval("select count(*) from app_jobs.limits") == 1


async def test_form_without_the_token_of_the_page_changes_no_limit(dashboard: Site, jobs: Jobs) -> None:
    await dashboard.get("/limits")
    form = {"action": "set", "name": "x", "concurrency": "1", "csrf_token": "wrong"}
    assert (await dashboard.client.post("/limits/apply", data=form)).status_code == 403
    assert await jobs.connection.fetchval("select count(*) from app_jobs.limits") == 0


async def test_live_page_shows_the_buttons(dashboard: Site, jobs: Jobs) -> None:
    await set_limit(jobs.connection, "sync", concurrency=2)
    await dashboard.get("/limits")
    async with dashboard.events("/limits") as events:
        html_text = await events.until("sync")
    assert (">Change<" in html_text, ">Remove<" in html_text) == (True, True)
