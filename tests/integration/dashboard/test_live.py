"""Pages as streams: what changes is sent, what does not is not, and nothing is left behind."""

import asyncio
import contextlib

import httpx
import pytest

from jobfn.dashboard.live import MAX_STREAMS
from support.dashboard import Site, site
from support.jobs import WORKER, Jobs


async def test_a_change_is_sent_when_it_happens(open_dashboard: Site, jobs: Jobs) -> None:
    """The list grows, and the job's own page follows it, without being asked again."""
    async with open_dashboard.events("/jobs") as events:
        hello = await events.next("hello")
        assert hello["csrf_token"]
        assert events.answer.headers["Content-Type"].startswith("text/event-stream")
        await events.until("No jobs")
        job = await jobs.add("mail", max_attempts=1)
        await events.until(f'id="job-{job}"')
    async with open_dashboard.events(f"/jobs/{job}") as events:
        await events.until("ready")
        await jobs.claim()
        await events.until(WORKER)
        await jobs.connection.execute("select app_jobs.fail_job($1, $2, 'no route')", WORKER, job)
        assert "no route" in await events.until("Why it failed")


@pytest.mark.parametrize("page", ["/", "/schedules", "/triggers", "/workers", "/jobs/1?x=1", "/jobs?state=failed"])
async def test_every_page_that_looks_is_live(open_dashboard: Site, page: str) -> None:
    """Its stream begins with what the page shows, and without the frame around it."""
    async with open_dashboard.events(page) as events:
        html = (await events.next("page"))["html"]
        assert "<html" not in html
        assert html.strip()


async def test_what_has_not_changed_is_not_sent_again(open_dashboard: Site, jobs: Jobs) -> None:
    """One event for one change, however often the page is drawn."""
    await jobs.add("x")
    async with open_dashboard.events("/jobs") as events:
        await events.until("data-row")
        second = await jobs.add("x")
        html = (await events.next("page"))["html"]  # the next one at all
        assert f'id="job-{second}"' in html


async def test_a_stream_outlives_the_database(open_dashboard: Site, jobs: Jobs) -> None:
    """While it is away the page says so; when it is back, the page goes on."""
    async with open_dashboard.events("/jobs") as events:
        await events.until("No jobs")
        await jobs.connection.execute("alter schema app_jobs rename to away")
        assert "cannot be reached" in (await events.next("trouble"))["text"]
        await jobs.connection.execute("alter schema away rename to app_jobs")
        await jobs.add("x")
        await events.until("data-row")


async def test_streams_end_with_the_server(database: str) -> None:
    """It does not wait for those who look on."""
    async with contextlib.AsyncExitStack() as stack:
        served = await stack.enter_async_context(contextlib.AsyncExitStack())
        open_dashboard = await served.enter_async_context(site(database))
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
            answer = await stack.enter_async_context(client.stream("GET", f"{open_dashboard.url}/live/"))
            lines = answer.aiter_lines()
            await anext(lines)
            async with asyncio.timeout(5):
                await served.aclose()
                async for _ in lines:
                    pass


async def test_a_stream_lasts_only_so_long(database: str) -> None:
    """Then the browser asks again, and whoever has no login any more is refused."""
    async with site(database, stream_seconds=0.1) as passing, passing.events("/") as events:
        await events.to_end()


async def test_there_are_not_endlessly_many(open_dashboard: Site) -> None:
    """One more than allowed is refused, until somebody leaves."""
    limits = httpx.Limits(max_connections=None)
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=open_dashboard.url, trust_env=False, limits=limits, timeout=20)
        )
        async with contextlib.AsyncExitStack() as streams:
            for _ in range(MAX_STREAMS):
                answer = await streams.enter_async_context(client.stream("GET", "/live/triggers"))
                assert answer.status_code == 200
            refused = await client.get("/live/triggers")
            assert (refused.status_code, "watched already" in refused.text) == (503, True)
