"""Dashboards of several databases on one port."""

import contextlib
import re
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest

from conftest import Server
from jobfn.dashboard.settings import DashboardSettings
from jobfn.dashboard.switch import serve_switch
from jobfn.worker.settings import ServiceSettings
from support.dashboard import TOKEN, Site
from support.freezing_proxy import FreezingProxy
from support.jobs import Jobs
from support.network import eventually


@pytest.fixture
async def databases(server: Server, template: str) -> AsyncIterator[dict[str, tuple[str, Jobs]]]:
    """The databases ``crm`` and ``shop``, each with a job 1."""
    async with contextlib.AsyncExitStack() as stack:
        databases = {}
        for name in ("crm", "shop"):
            database = server.create(template)
            stack.callback(server.drop, database)
            connection = await asyncpg.connect(server.dsn(database))
            stack.push_async_callback(connection.close, timeout=5)
            await Jobs(connection).add(f"task_of_{name}")
            databases[name] = (server.dsn(database), Jobs(connection))
        yield databases


@contextlib.asynccontextmanager
async def open_switch(
    urls: dict[str, str], *, open_timeout_seconds: float = 20.0, **settings: object
) -> AsyncIterator[Site]:
    services = {
        name: ServiceSettings.from_environ({}, database_url=url, gateway_url="http://127.0.0.1:1")
        for name, url in urls.items()
    }
    dashboard = DashboardSettings.from_environ({}, port=0, **settings)

    def states() -> dict[str, str]:
        return {name: "unreachable" if name == "away" else "ready" for name in services}

    async with (
        serve_switch(dashboard, lambda: services, states, open_timeout_seconds=open_timeout_seconds) as url,
        httpx.AsyncClient(base_url=url, timeout=30) as client,
    ):
        yield Site(url, client)


def urls_of(databases: dict[str, tuple[str, Jobs]]) -> dict[str, str]:
    return {name: url for name, (url, _) in databases.items()}


async def test_each_database_has_its_pages_and_links_stay_there(databases: dict[str, tuple[str, Jobs]]) -> None:
    async with open_switch(urls_of(databases)) as site:
        response = await site.get("/")
        assert (response.status_code, response.headers["location"]) == (303, "/databases/crm/")
        for name, other in (("crm", "shop"), ("shop", "crm")):
            page = (await site.get(f"/databases/{name}/jobs")).text
            assert f"task_of_{name}" in page
            assert f"task_of_{other}" not in page
            links = set(re.findall(r'(?:href|action|src)="(/[^"]*)"', page))
            assert {link for link in links if not link.startswith(f"/databases/{name}/")} == {f"/databases/{other}/"}
            assert f"/databases/{name}/jobs/1" in links
            assert f'data-root="/databases/{name}"' in page
            assert (await site.client.get(f"/databases/{name}/static/dashboard.js")).status_code == 200
        assert (await site.client.get("/databases/shop")).headers["location"] == "/databases/shop/"
        assert (await site.client.get("/databases/none/jobs")).status_code == 404
        assert (await site.client.get("/healthz")).text == "ok\n"


async def test_action_changes_the_job_of_the_page_and_not_the_one_with_the_same_id(
    databases: dict[str, tuple[str, Jobs]],
) -> None:
    async with open_switch(urls_of(databases)) as site:
        await site.get("/databases/shop/jobs/1")
        response = await site.post("/databases/shop/jobs/apply", {"action": "remove", "id": "1"})
        assert response.status_code in {200, 303}
        assert not await databases["shop"][1].exists(1)
        assert await databases["crm"][1].exists(1)


async def test_redirect_after_an_enqueue_stays_on_the_dashboard(databases: dict[str, tuple[str, Jobs]]) -> None:
    async with open_switch(urls_of(databases)) as site:
        await site.get("/databases/shop/enqueue?task=x")
        response = await site.post("/databases/shop/enqueue", {"task": "x", "payload": "{}", "as": "json"})
        assert (response.status_code, response.headers["location"]) == (303, "/databases/shop/jobs/2")


async def test_live_stream_is_of_its_database(databases: dict[str, tuple[str, Jobs]]) -> None:
    async with (
        open_switch(urls_of(databases)) as site,
        site.client.stream("GET", "/databases/crm/live/jobs", timeout=30) as response,
    ):
        async for line in response.aiter_lines():
            if "task_of_crm" in line:
                assert "/databases/crm/jobs/1" in line
                break


async def test_stranger_does_not_learn_which_databases_there_are(databases: dict[str, tuple[str, Jobs]]) -> None:
    async with open_switch(urls_of(databases), token=TOKEN) as site:
        for path in ("/", "/databases/crm/jobs", "/databases/none/jobs"):
            response = await site.client.get(path)
            assert (response.status_code, response.headers["location"].partition("?")[0]) == (303, "/login"), path
            assert "crm" not in response.headers["location"].replace(path.replace("/", "%2F"), "")
        login = await site.client.get("/login")
        assert "crm" not in login.text
        assert "shop" not in login.text
        assert (await site.client.get("/live/jobs")).status_code == 401
        assert (await site.log_in()).headers["location"] == "/"
        assert "task_of_crm" in (await site.get("/databases/crm/jobs")).text
        assert "task_of_shop" in (await site.get("/databases/shop/jobs")).text, "one login for all"
        assert (await site.post("/databases/shop/logout", {})).status_code == 303
        assert (await site.client.get("/databases/shop/jobs")).headers["location"].startswith("/login?")


async def test_page_of_another_site_does_not_learn_which_databases_there_are(
    databases: dict[str, tuple[str, Jobs]],
) -> None:
    async with open_switch(urls_of(databases)) as site:
        for path in ("/", "/databases/crm/jobs"):
            response = await site.client.get(path, headers={"Host": "rebound.example"})
            assert response.status_code == 421
            assert "crm" not in response.text + str(response.headers)


async def test_database_that_is_away_does_not_affect_another(databases: dict[str, tuple[str, Jobs]]) -> None:
    away = "postgresql://u:s3cr3t@127.0.0.1:1/d"
    async with open_switch({"away": away, "crm": databases["crm"][0]}) as site:
        response = await site.client.get("/databases/away/jobs")
        assert response.status_code == 503
        assert response.text.startswith("Database away: postgresql://u:***@127.0.0.1:1/d cannot be reached")
        page = (await site.get("/databases/crm/")).text
        assert re.search(r'href="/databases/away/">away <small>unreachable</small>', page)
    async with open_switch({"away": away}, token=TOKEN) as site:
        assert (await site.client.get("/login")).text == "No database is ready.\n"
    async with open_switch({}) as site:
        assert (await site.client.get("/")).status_code == 404


async def test_database_that_does_not_answer_gets_503(databases: dict[str, tuple[str, Jobs]]) -> None:
    url = databases["crm"][0]
    async with FreezingProxy(url).serve() as proxy:
        proxy.freeze()
        async with open_switch({"crm": proxy.dsn, "shop": url}, open_timeout_seconds=0.2) as site:
            response = await site.client.get("/databases/crm/jobs")
            assert (response.status_code, response.text) == (503, "Database crm: no response in time\n")
        proxy.thaw()


async def test_dashboard_of_a_database_that_is_removed_is_closed(
    databases: dict[str, tuple[str, Jobs]],
) -> None:
    urls = urls_of(databases)
    services = {name: ServiceSettings.from_environ({}, database_url=url) for name, url in urls.items()}
    observer = databases["crm"][1].connection
    sessions = "select count(*) from pg_stat_activity where application_name = 'jobfn-dashboard' and datname = $1"
    shop = await databases["shop"][1].connection.fetchval("select current_database()")
    dashboard = DashboardSettings.from_environ({}, port=0)
    async with (
        serve_switch(dashboard, lambda: services, lambda: dict.fromkeys(services, "ready")) as url,
        httpx.AsyncClient(base_url=url, timeout=30) as client,
    ):
        assert (await client.get("/databases/shop/jobs")).status_code == 200
        assert await observer.fetchval(sessions, shop) >= 1
        services["crm"] = services.pop("shop")
        assert "task_of_shop" in (await client.get("/databases/crm/jobs")).text
        services["crm"] = ServiceSettings.from_environ({}, database_url=urls["crm"])
        assert "task_of_crm" in (await client.get("/databases/crm/jobs")).text
        await eventually(lambda: observer.fetchval(f"select ({sessions}) = 0", shop))
        assert (await client.get("/databases/shop/jobs")).status_code == 404
