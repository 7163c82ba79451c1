"""Pause and resume on the dashboard, with a banner where jobs are listed."""

import re

import pytest

from support.dashboard import OpenSite, Site
from support.jobs import Jobs


def text(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", "", page).split())


async def test_pause_and_resume(dashboard: Site, jobs: Jobs) -> None:
    job_id = await jobs.add("report")
    assert "Nothing is paused" in (await dashboard.get("/pauses")).text
    target = {"kind": "task", "name": "report"}
    confirmation = await dashboard.post("/pauses/confirm", {"action": "pause", **target})
    assert "Pause task report?" in confirmation.text
    assert await jobs.connection.fetchval("select count(*) from app_jobs.pauses") == 0
    form = {"action": "pause", "for": "3600", "reason": "no <paper>", **target}
    assert "Done: task report is paused." in text((await dashboard.post("/pauses/apply", form)).text)
    row = await jobs.connection.fetchrow("select *, until - now() as seconds from app_jobs.pauses")
    assert (row["kind"], row["name"], row["reason"], row["paused_by"]) == (
        "task",
        "report",
        "no <paper>",
        "the dashboard",
    )
    assert 3500 < row["seconds"].total_seconds() <= 3600
    assert await jobs.claim_id() is None
    for path in ("/", "/jobs"):
        assert "Paused: task report (no &lt;paper&gt;)" in text((await dashboard.get(path)).text)
    assert "no &lt;paper&gt;" in (await dashboard.get("/pauses")).text
    confirmation = await dashboard.post("/pauses/confirm", {"action": "resume", **target})
    assert "Resume task report?" in confirmation.text
    assert "task report runs again." in text(
        (await dashboard.post("/pauses/apply", {"action": "resume", **target})).text
    )
    assert "pause-banner" not in (await dashboard.get("/")).text
    assert await jobs.claim_id() == job_id


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"kind": "planet", "name": "x"}, "choose a task, a queue, a tenant or everything"),
        ({"kind": "task", "name": " "}, "the name of the task is empty: give one"),
        ({"kind": "tenant", "name": "acme"}, "is not a UUID"),
        ({"action": "resume", "kind": "task", "name": "x"}, "task x is not paused"),
        ({"action": "pause", "kind": "task", "name": "x", "for": "7"}, "choose one of the durations"),
    ],
)
async def test_invalid_pause_changes_nothing(dashboard: Site, jobs: Jobs, form: dict[str, str], message: str) -> None:
    for path in ("/pauses/confirm", "/pauses/apply")["action" in form :]:
        response = await dashboard.post(path, form)
        assert (response.status_code, message in response.text) == (400, True)
    assert await jobs.connection.fetchval("select count(*) from app_jobs.pauses") == 0


async def test_read_only_dashboard_pauses_nothing(open_site: OpenSite, jobs: Jobs) -> None:
    await jobs.connection.execute("select app_jobs.pause(everything := true)")
    site = await open_site(read_only=True)
    page = (await site.get("/pauses")).text
    assert ("everything" in page, ">Resume<" in page, "/pauses/confirm" in page) == (True, False, False)
    response = await site.post("/pauses/apply", {"action": "resume", "kind": "everything"})
    assert response.status_code in {403, 405}
    assert await jobs.connection.fetchval("select count(*) from app_jobs.pauses") == 1
