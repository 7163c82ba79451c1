"""The page Audit: what users of the dashboard have done, by their names."""

import re

import asyncpg

from support.dashboard import OpenSite, Site, site
from support.jobs import PLATFORM_SCHEMA, Jobs

ADA_TOKEN = "the-token-of-ada-with-32-characters-or-more"
SCREEN_TOKEN = "the-token-of-the-screen-with-32-characters"
TOKENS = f"ada:operator:{ADA_TOKEN}, screen:viewer:{SCREEN_TOKEN}"


def text(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.partition('id="live"')[2]).split())


async def test_each_action_has_the_name_of_its_user(open_site: OpenSite, jobs: Jobs) -> None:
    job = await jobs.add("send")
    other = await jobs.add("send")
    await jobs.connection.execute("select app_jobs.add_scheduled_job('report', '0 9 * * *')")
    dashboard = await open_site(tokens=TOKENS)
    await dashboard.log_in(ADA_TOKEN)
    await dashboard.get("/")
    for path, form in (
        ("/pauses/apply", {"action": "pause", "kind": "task", "name": "send", "reason": "<b>outage</b>"}),
        ("/jobs/apply", {"action": "cancel", "id": str(job)}),
        ("/jobs/apply", {"action": "remove", "scope": "matching", "filter": "task=send"}),
        ("/schedules/1", {"action": "run"}),
        ("/schedules/1", {"action": "pause", "reason": "holidays"}),
        (f"/jobs/{other + 1}/signal/send", {"event": "paid", "payload": '{"card": "4111"}'}),
    ):
        response = await dashboard.post(path, form)
        assert response.status_code == 200, response.text
    rows = await jobs.connection.fetch("select actor, source, action from app_jobs.audit_log where id > 1 order by id")
    assert [tuple(row) for row in rows] == [
        ("ada", "dashboard", action)
        for action in ("pause", "cancel", "remove", "run_schedule", "pause_schedule", "signal")
    ]
    page = (await dashboard.get("/audit")).text
    assert "reason &lt;b&gt;outage&lt;/b&gt;" in page
    assert "4111" not in page
    assert "remove 2 jobs filter task send; jobs 1, 2" in text(page)
    assert "run schedule schedule 1 report job 3" in text(page)


async def test_a_viewer_reads_the_list_and_leaves_no_entry(open_site: OpenSite, jobs: Jobs) -> None:
    await jobs.connection.execute("select app_jobs.pause(task := 'send')")
    dashboard = await open_site(tokens=TOKENS)
    await dashboard.log_in(SCREEN_TOKEN)
    assert "task send" in text((await dashboard.get("/audit")).text)
    form = {"action": "resume", "kind": "task", "name": "send"}
    assert (await dashboard.post("/pauses/apply", form)).status_code == 403
    assert await jobs.connection.fetchval("select count(*) from app_jobs.audit_log") == 1


async def test_filters_and_pages(dashboard: Site, jobs: Jobs) -> None:
    assert "No entries" in (await dashboard.get("/audit")).text
    await jobs.connection.execute("select app_jobs.set_tenant_weight(gen_random_uuid(), 2) from generate_series(1, 51)")
    await jobs.connection.execute("set jobfn.actor = 'Ada'; select app_jobs.pause(everything := true)")
    first = (await dashboard.get("/audit")).text
    assert (first.count('<tr id="entry-'), "Newest" in first) == (50, False)
    [older] = re.findall(r'rel="next" href="([^"]+)"', first)
    second = (await dashboard.get(older.replace("&amp;", "&"))).text
    assert (second.count('<tr id="entry-'), "Newest" in second, 'rel="next"' in second) == (2, True, False)
    for query, count in (
        ("actor=ada", 1),
        ("action=pause", 1),
        ("action=set_tenant_weight&since=1h", 50),
        ("actor=nobody", 0),
        ("action=planet&since=never&before=x", 50),
    ):
        page = (await dashboard.get(f"/audit?{query}")).text
        assert page.count('<tr id="entry-') == count, query
    assert 'value="ada"' in (await dashboard.get("/audit?actor=ada")).text


async def test_two_users_at_the_same_time_keep_their_names(open_site: OpenSite, jobs: Jobs) -> None:
    tokens = f"ada:operator:{ADA_TOKEN},bob:operator:{SCREEN_TOKEN}"
    shared = await open_site(tokens=tokens)
    other = await open_site(tokens=tokens)
    for dashboard, token in ((shared, ADA_TOKEN), (other, SCREEN_TOKEN)):
        await dashboard.log_in(token)
        await dashboard.get("/")
    for dashboard, name in ((shared, "ada"), (other, "bob"), (shared, "ada")):
        job = await jobs.add(name)
        await dashboard.post("/jobs/apply", {"action": "remove", "id": str(job)})
    rows = await jobs.connection.fetch("select actor from app_jobs.audit_log order by id")
    assert [row["actor"] for row in rows] == ["ada", "bob", "ada"]


async def test_platform_schema_has_no_list(empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    await connection.execute(PLATFORM_SCHEMA)
    await connection.close()
    async with site(empty_database) as dashboard:
        assert "No audit list" in (await dashboard.get("/audit")).text
