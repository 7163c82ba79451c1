"""The banner of troubles above every page."""

import re

import pytest

from support.dashboard import Site
from support.jobs import Jobs

NO_WORKER = (
    "1 job waits, but no worker is running. Start jobfn service where the functions can be reached, or "
    "jobfn dev functions.py."
)


def banner(page: str) -> str:
    match = re.search(r'<div id="banner">(.*?)</div>', page, re.DOTALL)
    return "" if match is None else " ".join(re.sub(r"<[^>]+>", "", match[1]).split())


@pytest.mark.parametrize(
    "path", ["/", "/jobs", "/jobs/1", "/enqueue", "/schedules", "/pauses", "/triggers", "/workers", "/nowhere"]
)
async def test_every_page_says_that_no_worker_runs(dashboard: Site, jobs: Jobs, path: str) -> None:
    await jobs.add("send")
    assert banner((await dashboard.get(path)).text) == f"{NO_WORKER} Workers"


async def test_the_stream_updates_the_banner(dashboard: Site, jobs: Jobs) -> None:
    async with dashboard.events("/triggers") as events:
        assert (await events.next("page"))["banner"].strip() == ""
        await jobs.connection.execute("select app_jobs.pause('send', reason => '<down>')")
        html = (await events.next("page"))["banner"]
    assert "<strong>Paused: task send (&lt;down&gt;).</strong>" in html
    assert "End it with <code>jobfn resume</code> if" in html
    assert '<a href="/pauses">Pauses</a>' in html


async def test_dialogs_have_no_banner(dashboard: Site, jobs: Jobs) -> None:
    await jobs.add("send")
    form = {"action": "cancel", "id": "1"}
    await dashboard.get("/")
    response = await dashboard.post("/jobs/confirm", form, headers={"X-Fragment": "1"})
    assert "Cancel" in response.text
    assert "no worker is running" not in response.text
