"""Live streams of pages."""

import asyncio
import contextlib

import httpx
import pytest

from jobfn.dashboard.live import MAX_STREAMS
from support.dashboard import Site, site
from support.jobs import WORKER, Jobs


async def test_changes_are_sent(dashboard: Site, jobs: Jobs) -> None:
    async with dashboard.events("/jobs") as events:
        assert (await events.next("open"))["csrf_token"]
        assert events.response.headers["Content-Type"].startswith("text/event-stream")
        await events.until("No jobs")
        job = await jobs.add("mail", max_attempts=1)
        await events.until(f'id="job-{job}"')
    async with dashboard.events(f"/jobs/{job}") as events:
        await events.until("ready")
        await jobs.claim()
        await events.until(WORKER)
        await jobs.connection.execute("select app_jobs.fail_job($1, $2, 'no route')", WORKER, job)
        assert "no route" in await events.until("<h2>Error</h2>")


async def test_every_read_only_page_is_live(dashboard: Site) -> None:
    for page in ("/", "/schedules", "/triggers", "/workers", "/jobs/1?x=1", "/jobs?state=failed"):
        async with dashboard.events(page) as events:
            html = (await events.next("page"))["html"]
            assert "<html" not in html
            assert html.strip(), page


async def test_unchanged_pages_are_not_sent(dashboard: Site, jobs: Jobs) -> None:
    await jobs.add("x")
    async with dashboard.events("/jobs") as events:
        await events.until("data-row")
        second = await jobs.add("x")
        html = (await events.next("page"))["html"]  # the next event
        assert f'id="job-{second}"' in html


async def test_stream_survives_a_database_outage(
    dashboard: Site, jobs: Jobs, capfd: pytest.CaptureFixture[str]
) -> None:
    async with dashboard.events("/jobs") as events:
        await events.until("No jobs")
        await jobs.connection.execute("alter schema app_jobs rename to away")
        assert "unreachable" in (await events.next("error"))["text"]
        assert "unreachable" in (await events.next("error"))["text"]
        await jobs.connection.execute("alter schema away rename to app_jobs")
        await jobs.add("x")
        await events.until("data-row")
    captured = capfd.readouterr()
    assert (captured.out + captured.err).count("page refresh failed") == 1


async def test_streams_end_when_the_server_stops(database: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        served = await stack.enter_async_context(contextlib.AsyncExitStack())
        dashboard = await served.enter_async_context(site(database))
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
            response = await stack.enter_async_context(client.stream("GET", f"{dashboard.url}/live/"))
            lines = response.aiter_lines()
            await anext(lines)
            async with asyncio.timeout(5):
                await served.aclose()
                async for _ in lines:
                    pass


async def test_stream_ends_after_its_maximum_duration(database: str) -> None:
    async with site(database, stream_seconds=0.1) as dashboard, dashboard.events("/") as events:
        await events.to_end()


async def test_number_of_streams_is_limited(dashboard: Site) -> None:
    limits = httpx.Limits(max_connections=None)
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=dashboard.url, trust_env=False, limits=limits, timeout=20)
        )
        async with contextlib.AsyncExitStack() as streams:
            for _ in range(MAX_STREAMS):
                response = await streams.enter_async_context(client.stream("GET", "/live/triggers"))
                assert response.status_code == 200
            rejected = await client.get("/live/triggers")
            assert (rejected.status_code, "open already" in rejected.text) == (503, True)
