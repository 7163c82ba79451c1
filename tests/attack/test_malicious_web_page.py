"""A web page, or any client that reaches the dashboard, without its token."""

from pathlib import Path

import httpx
import pytest

from support.attack import StartProduction
from support.commands import Spawn
from support.dashboard import TOKEN, OpenSite
from support.jobs import Jobs
from support.network import free_port

#: Host headers that end up in the path of ``request.url``, on the Starlette versions that build it from the header.
HOSTS = ("x/login?", "x/login#", "x/static/?", "x/healthz?", "/login?", "x/logout?", "x@y/login?a=", "127.0.0.1/login?")


@pytest.mark.parametrize("host", HOSTS)
async def test_host_header_does_not_choose_the_path_that_is_checked(open_site: OpenSite, jobs: Jobs, host: str) -> None:
    job = await jobs.add("secret_task")
    site = await open_site(host="0.0.0.0", token=TOKEN)  # noqa: S104  - the test binds a loopback address
    for path in ("/", "/jobs", f"/jobs/{job}", "/enqueue"):
        response = await site.client.get(path, headers={"Host": host})
        assert (response.status_code, "secret_task" in response.text) in {(303, False), (400, False)}, path
    response = await site.client.get("/live/jobs", headers={"Host": host})
    assert response.status_code in {400, 401}
    form = {"action": "remove", "id": str(job)}
    assert (await site.client.post("/jobs/apply", data=form, headers={"Host": host})).status_code in {400, 401}
    assert await jobs.exists(job)


@pytest.mark.parametrize("host", HOSTS)
async def test_host_header_does_not_lift_read_only(open_site: OpenSite, jobs: Jobs, host: str) -> None:
    job = await jobs.add("x")
    site = await open_site(host="0.0.0.0", token=TOKEN, read_only=True)  # noqa: S104  - as above
    await site.log_in()
    await site.get("/")
    form = {"csrf_token": site.csrf_token, "action": "remove", "id": str(job)}
    assert (await site.client.post("/jobs/apply", data=form, headers={"Host": host})).status_code in {400, 403}
    assert await jobs.exists(job)


async def test_wrong_tokens_of_a_stranger_do_not_lock_the_owner_out(open_site: OpenSite) -> None:
    site = await open_site(token=TOKEN)
    statuses = [(await site.log_in("wrong")).status_code for _ in range(25)]
    assert statuses == [401] * 20 + [429] * 5
    assert (await site.log_in()).status_code == 303
    assert (await site.get("/jobs")).status_code == 200


async def test_a_stolen_cookie_ends_with_the_logout(open_site: OpenSite) -> None:
    site = await open_site(token=TOKEN)
    await site.log_in()
    ((name, value),) = site.client.cookies.items()
    await site.get("/")
    await site.post("/logout", {})
    site.client.cookies.clear()
    assert (await site.client.get("/jobs", headers={"Cookie": f"{name}={value}"})).status_code == 303


async def test_cookies_say_nothing_about_the_token(open_site: OpenSite) -> None:
    """A signature by the token would let anyone with one cookie try tokens without the dashboard."""
    cookies = set()
    for _ in range(3):
        site = await open_site(token=TOKEN)
        await site.log_in()
        ((_, value),) = site.client.cookies.items()
        cookies.add(value)
    assert {len(value) for value in cookies} == {22}
    assert len(cookies) == 3


async def post(url: str, headers: dict[str, str]) -> int:
    async with httpx.AsyncClient(trust_env=False) as browser:
        response = await browser.post(f"{url}/echo", content=b"{}", headers=headers)
        listed = await browser.get(url, headers=headers)
    assert listed.status_code == response.status_code
    return response.status_code


async def test_a_page_of_another_site_does_not_run_tasks_on_the_developers_machine(
    spawn: Spawn, tmp_path: Path
) -> None:
    """A browser sends a body without a Content-Type, and any Host whose name resolves to 127.0.0.1."""
    (tmp_path / "functions.py").write_text(
        "from jobfn import task\n\n\n@task('echo')\nasync def echo(payload: dict) -> dict:\n    return payload\n"
    )
    port = free_port()
    running = await spawn("jobfn", "serve", "functions.py", "--host", "127.0.0.1", "--port", str(port))
    await running.until("serving")
    url = f"http://127.0.0.1:{port}"
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://localhost.evil.example"},
    ):
        assert await post(url, headers) == 403, headers
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "10.0.0.1", ""):
        assert await post(url, {"Host": host}) == 421, host
    for headers in ({}, {"Host": "localhost"}, {"Host": "[::1]:80"}, {"Origin": "http://localhost:3000"}):
        assert await post(url, headers) == 200, headers


async def test_honest_jobs_run_while_a_page_sends_requests_to_the_dashboard(start_production: StartProduction) -> None:
    """A page can send requests to the machine of its visitor, and never sees the responses."""
    production = await start_production()
    page = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    async with httpx.AsyncClient(base_url=production.dashboard_url, timeout=60, trust_env=False) as browser:

        async def attack() -> None:
            for path in ("/", "/jobs?error=x&state=failed", "/schedules", "/jobs/1"):
                await browser.get(path, headers=page)
            for path in ("/jobs/apply", "/login", "/enqueue"):
                form = {"action": "remove", "id": "1", "csrf_token": "x" * 100_000}
                assert (await browser.post(path, data=form, headers=page)).status_code in {403, 404, 405}
            response = await browser.get("/jobs", headers={"Host": "evil.example"})
            assert response.status_code in {400, 421}

        await production.withstands(attack)
