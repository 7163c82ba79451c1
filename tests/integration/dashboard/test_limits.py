"""The page of limits."""

from datetime import timedelta

from support.dashboard import Site
from support.jobs import Jobs
from support.limits import claim, set_limit


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
