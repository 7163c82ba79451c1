"""Who may look, who may act, and what the browser is told to refuse."""

import re
import time

import httpx
import pytest
from starlette.requests import HTTPConnection
from starlette.responses import Response

from jobfn.dashboard.forms import MAX_FORM_BYTES
from jobfn.dashboard.login import MAX_LOGIN_FAILURES_PER_MINUTE, safe_redirect
from jobfn.dashboard.sessions import Sessions
from jobfn.dashboard.settings import DashboardSettings
from jobfn.errors import ConfigurationError
from support.dashboard import TOKEN, OpenSite, Site
from support.jobs import Jobs

PAGES = ("/", "/jobs", "/jobs/1", "/enqueue", "/schedules", "/triggers", "/workers", "/nowhere")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.1"])
def test_loopback_needs_no_token(host: str) -> None:
    """Only this machine can reach it."""
    assert DashboardSettings(host=host).is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "jobs.example.com"])  # noqa: S104  - bound to nothing
def test_any_other_address_needs_a_token(host: str) -> None:
    """Without one it does not start, and says how to make one."""
    with pytest.raises(ConfigurationError, match="JOBFN_DASHBOARD_TOKEN to a long random text"):
        DashboardSettings.from_environ({"JOBFN_DASHBOARD_HOST": host})
    allowed = DashboardSettings.from_environ({"JOBFN_DASHBOARD_HOST": host, "JOBFN_DASHBOARD_TOKEN": TOKEN})
    assert not allowed.is_loopback


def test_a_short_token_is_refused_and_not_quoted() -> None:
    """What can be guessed is no token; what was set is not shown."""
    with pytest.raises(ConfigurationError, match="16 characters or more") as refused:
        DashboardSettings.from_environ({"JOBFN_DASHBOARD_TOKEN": "hunter2"})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("page", PAGES)
async def test_every_answer_tells_the_browser_what_to_refuse(open_dashboard: Site, page: str) -> None:
    """No foreign script, no frame, no guessing of types, no referrer, nothing kept."""
    answer = await open_dashboard.get(page)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("page", PAGES)
async def test_no_page_has_a_script_or_a_style_within(open_dashboard: Site, page: str) -> None:
    """The policy would refuse them; and nothing comes from another host."""
    html = (await open_dashboard.get(page)).text
    assert not re.search(r"<script(?![^>]* src=\"/static/)", html)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=", html)
    assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", html)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8081", "127.0.0.1.evil.example", "10.0.0.5", ""])
async def test_a_name_made_to_point_at_loopback_is_refused(open_dashboard: Site, host: str) -> None:
    """DNS rebinding: the page of another site does not become ours by its name."""
    answer = await open_dashboard.get("/", headers={"Host": host})
    assert answer.status_code == 421
    assert (await open_dashboard.get("/", headers={"Host": "localhost:1234"})).status_code == 200


@pytest.mark.parametrize("page", PAGES)
async def test_without_a_login_nothing_is_shown(open_site: OpenSite, page: str) -> None:
    """A person is sent to the login; a stream is refused."""
    site = await open_site(token=TOKEN)
    answer = await site.get(page)
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/login?next=%2F")
    assert (await site.get(f"/live{page}")).status_code == 401
    assert (await site.client.post("/jobs/act", data={})).status_code == 401


def cookie_of(site: Site) -> tuple[str, str]:
    """The one cookie that a browser has, its name and its value."""
    ((name, value),) = site.client.cookies.items()
    return name, value


async def test_two_dashboards_of_one_machine_leave_each_other_alone(open_site: OpenSite, jobs: Jobs) -> None:
    """A browser keeps cookies by host, whatever the port: one visit does not end the other's."""
    first, second = await open_site(), await open_site()
    job = await jobs.add("x")
    await first.get("/")
    await first.client.get(f"{second.url}/")  # the same browser
    assert len(first.client.cookies) == 2
    assert (await first.post("/jobs/act", {"action": "remove", "id": str(job)})).status_code == 200


async def test_the_token_opens_and_the_cookie_is_out_of_reach(open_site: OpenSite) -> None:
    """The cookie is HttpOnly, of this site alone, and signed: a changed one is worth nothing."""
    site = await open_site(token=TOKEN)
    answer = await site.log_in()
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie
    assert (await site.get("/jobs")).status_code == 200
    assert (await site.get("/login")).status_code == 303
    name, value = cookie_of(site)
    async with httpx.AsyncClient(base_url=site.url, trust_env=False) as stranger:
        tampered = await stranger.get("/jobs", headers={"Cookie": f"{name}=x{value[1:]}"})
        assert tampered.status_code == 303


async def test_behind_https_the_cookie_is_for_https_alone(open_site: OpenSite) -> None:
    """A proxy that ends TLS says so in X-Forwarded-Proto."""
    site = await open_site(token=TOKEN)
    answer = await site.get("/login", headers={"X-Forwarded-Proto": "https"})
    assert "secure" in answer.headers["Set-Cookie"].lower()


async def test_logging_out_ends_the_visit(open_site: OpenSite) -> None:
    """The cookie goes."""
    site = await open_site(token=TOKEN)
    await site.log_in()
    assert "Log out" in (await site.get("/")).text
    assert (await site.post("/logout", {})).headers["Location"] == "/login"
    assert (await site.get("/")).status_code == 303


@pytest.mark.parametrize(("age_seconds", "status"), [(0, 200), (3700, 303)])
async def test_a_login_has_an_end(open_site: OpenSite, age_seconds: float, status: int) -> None:
    """A cookie that is too old is worth nothing, even to a browser that would still send it."""
    site = await open_site(token=TOKEN, session_ttl_seconds=3600)
    sessions = Sessions(TOKEN, max_age_seconds=3600, now=lambda: time.time() - age_seconds)
    answer = Response()
    address = site.client.base_url
    scope = {"type": "http", "scheme": "http", "server": (address.host, address.port), "path": "/", "headers": []}
    browser = HTTPConnection(scope)
    sessions.remember(sessions.new(is_logged_in=True), answer, browser)
    cookie = answer.headers["Set-Cookie"].partition(";")[0]
    assert (await site.get("/", headers={"Cookie": cookie})).status_code == status


async def test_a_wrong_token_is_told_and_many_are_stopped(open_site: OpenSite) -> None:
    """Guessing is slow; the right one has to wait too."""
    site = await open_site(token=TOKEN)
    for _ in range(MAX_LOGIN_FAILURES_PER_MINUTE):
        answer = await site.log_in("not-the-token")
        assert answer.status_code == 401
    assert "That is not the token" in answer.text
    assert "not-the-token" not in answer.text
    assert (await site.log_in()).status_code == 429


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        ("/jobs?state=failed", "/jobs?state=failed"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("/a\nb", "/"),
        ("", "/"),
    ],
)
def test_a_login_leads_to_a_page_of_ours(wanted: str, path: str) -> None:
    """An address of somebody else's in the link is not followed."""
    assert safe_redirect(wanted) == path


@pytest.mark.parametrize("token", ["", "wrong", "é"])
async def test_a_form_of_another_site_is_refused(open_dashboard: Site, jobs: Jobs, token: str) -> None:
    """Without the token of our own page nothing is changed."""
    job = await jobs.add("x")
    await open_dashboard.get("/")
    form = {"csrf_token": token, "action": "remove", "id": str(job)}
    answer = await open_dashboard.client.post("/jobs/act", data=form)
    assert answer.status_code == 403
    assert "Reload it" in answer.text
    assert await jobs.row(job) is not None


async def test_the_token_of_another_session_is_refused(open_dashboard: Site, jobs: Jobs) -> None:
    """Whoever has a session of his own has no token for somebody else's."""
    job = await jobs.add("x")
    await open_dashboard.get("/")
    async with httpx.AsyncClient(base_url=open_dashboard.url, trust_env=False) as other:
        await other.get("/")
        form = {"csrf_token": open_dashboard.csrf_token, "action": "remove", "id": str(job)}
        assert (await other.post("/jobs/act", data=form)).status_code == 403
    assert await jobs.row(job) is not None


async def test_read_only_refuses_on_the_server(open_site: OpenSite, jobs: Jobs) -> None:
    """The buttons are gone, and a form sent all the same changes nothing."""
    site = await open_site(read_only=True)
    job = await jobs.add("x")
    page = await site.get(f"/jobs/{job}")
    assert "read-only" in page.text
    assert 'name="action"' not in page.text
    assert 'name="action"' not in (await site.get("/jobs")).text
    for path, form in (
        ("/jobs/ask", {"action": "remove", "id": str(job)}),
        ("/jobs/act", {"action": "remove", "id": str(job)}),
        ("/enqueue", {"task": "x", "payload": "{}"}),
    ):
        answer = await site.post(path, form)
        assert (answer.status_code, "--read-only" in answer.text) == (403, True)
    assert await jobs.count() == 1


async def test_a_read_only_dashboard_can_be_logged_in_to(open_site: OpenSite) -> None:
    """Logging in and out changes no job."""
    site = await open_site(read_only=True, token=TOKEN)
    assert (await site.log_in()).status_code == 303
    await site.get("/")
    assert (await site.post("/logout", {})).status_code == 303


async def test_what_is_no_form_is_refused(open_dashboard: Site) -> None:
    """Another type, too large, too many fields, not UTF-8: told, nothing read."""
    await open_dashboard.get("/")
    post = open_dashboard.client.post
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await post("/jobs/act", json={"action": "remove"})).status_code == 415
    assert (await post("/jobs/act", content=b"a=" + b"x" * MAX_FORM_BYTES, headers=kind)).status_code == 413
    assert (await post("/jobs/act", content=b"&".join([b"a=1"] * 10_001), headers=kind)).status_code == 400
    assert (await post("/jobs/act", content=b"a=\xff\xfe", headers=kind)).status_code == 400


async def test_styles_and_scripts_are_of_the_package(open_dashboard: Site) -> None:
    """They are served without a login, asked for again each time, and hold nothing of another host."""
    page = (await open_dashboard.get("/")).text
    found = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert len(found) > 3
    for path in found:
        answer = await open_dashboard.get(path)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-cache")
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", answer.text)
    assert (await open_dashboard.get("/static/../app.py")).status_code == 404
    assert (await open_dashboard.get("/healthz")).text == "ok\n"
