"""Login, sessions, CSRF, hosts and security headers."""

import re

import httpx
import pytest
from starlette.requests import HTTPConnection

from jobfn.dashboard.forms import MAX_FORM_BYTES
from jobfn.dashboard.login import safe_redirect
from jobfn.dashboard.sessions import MAX_LOGINS, Session, Sessions
from jobfn.dashboard.settings import DashboardSettings
from jobfn.dashboard.users import Role, User
from jobfn.errors import ConfigurationError
from support.clock import ManualClock
from support.dashboard import TOKEN, OpenSite, Site
from support.jobs import Jobs

PAGES = ("/", "/jobs", "/jobs/1", "/enqueue", "/schedules", "/triggers", "/workers", "/nowhere")


ADA = User("ada", Role.OPERATOR, TOKEN)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.1"])
def test_loopback_needs_no_token(host: str) -> None:
    assert DashboardSettings(host=host).is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "jobs.example.com"])  # noqa: S104  - not bound
def test_other_addresses_need_a_token(host: str) -> None:
    with pytest.raises(ConfigurationError, match="JOBFN_DASHBOARD_TOKEN to a long random text"):
        DashboardSettings.from_environ({"JOBFN_DASHBOARD_HOST": host})
    settings = DashboardSettings.from_environ({"JOBFN_DASHBOARD_HOST": host, "JOBFN_DASHBOARD_TOKEN": TOKEN})
    assert not settings.is_loopback


def test_short_token_is_rejected_and_not_quoted() -> None:
    with pytest.raises(ConfigurationError, match="at least 32 characters") as raised:
        DashboardSettings.from_environ({"JOBFN_DASHBOARD_TOKEN": "hunter2"})
    assert "hunter2" not in str(raised.value)


async def test_pages_have_security_headers_and_no_inline_or_foreign_content(dashboard: Site) -> None:
    for page in PAGES:
        response = await dashboard.get(page)
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy, page
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cache-Control"] == "no-store"
        assert not re.search(r"<script(?![^>]* src=\"/static/)", response.text), page
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=", response.text), page
        assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", response.text), page


async def test_foreign_host_header_is_rejected(dashboard: Site) -> None:
    for host in ("evil.example", "evil.example:8081", "127.0.0.1.evil.example", "10.0.0.5", ""):
        assert (await dashboard.get("/", headers={"Host": host})).status_code == 421, host
    assert (await dashboard.get("/", headers={"Host": "localhost:1234"})).status_code == 200


async def test_pages_require_a_login(open_site: OpenSite) -> None:
    site = await open_site(token=TOKEN)
    for page in PAGES:
        response = await site.get(page)
        assert response.status_code == 303, page
        assert response.headers["Location"].startswith("/login?next=%2F")
        assert (await site.get(f"/live{page}")).status_code == 401, page
    assert (await site.client.post("/jobs/apply", data={})).status_code == 401


def session_cookie(site: Site) -> tuple[str, str]:
    ((name, value),) = site.client.cookies.items()
    return name, value


async def test_dashboards_on_two_ports_have_separate_cookies(open_site: OpenSite, jobs: Jobs) -> None:
    first, second = await open_site(), await open_site()
    job = await jobs.add("x")
    await first.get("/")
    await first.client.get(f"{second.url}/")  # the same browser
    assert len(first.client.cookies) == 2
    assert (await first.post("/jobs/apply", {"action": "remove", "id": str(job)})).status_code == 200


async def test_login_sets_an_http_only_cookie(open_site: OpenSite) -> None:
    site = await open_site(token=TOKEN)
    response = await site.log_in()
    assert (response.status_code, response.headers["Location"]) == (303, "/")
    cookie = response.headers["Set-Cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie
    assert (await site.get("/jobs")).status_code == 200
    assert (await site.get("/login")).status_code == 303
    name, value = session_cookie(site)
    async with httpx.AsyncClient(base_url=site.url, trust_env=False) as stranger:
        tampered = await stranger.get("/jobs", headers={"Cookie": f"{name}={value[::-1]}"})
        assert tampered.status_code == 303


def test_login_expires() -> None:
    clock = ManualClock()
    sessions = Sessions((ADA,), max_age_seconds=3600, now=clock)
    session = sessions.log_in(ADA)
    browser = HTTPConnection(
        {
            "type": "http",
            "scheme": "http",
            "server": ("127.0.0.1", 8081),
            "headers": [(b"cookie", f"jobfn_session_8081={session.id}".encode())],
        }
    )
    clock.advance(3599)
    assert sessions.read(browser) == Session(session.id, is_logged_in=True, user=ADA)
    clock.advance(1)
    assert sessions.read(browser) == Session(session.id, is_logged_in=False)


def test_number_of_logins_is_limited() -> None:
    sessions = Sessions((ADA,), max_age_seconds=3600)
    logins = [sessions.log_in(ADA) for _ in range(MAX_LOGINS + 1)]
    cookies = [f"jobfn_session_8081={session.id}".encode() for session in (logins[0], logins[1], logins[-1])]
    scopes = [{"type": "http", "server": ("127.0.0.1", 8081), "headers": [(b"cookie", cookie)]} for cookie in cookies]
    found = [sessions.read(HTTPConnection(scope)) for scope in scopes]
    assert [session is not None and session.is_logged_in for session in found] == [False, True, True]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/jobs?state=failed", "/jobs?state=failed"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("/a\nb", "/"),
        ("", "/"),
    ],
)
def test_redirect_stays_on_this_site(target: str, path: str) -> None:
    assert safe_redirect(target) == path


async def test_form_with_a_wrong_csrf_token_is_rejected(dashboard: Site, jobs: Jobs) -> None:
    job = await jobs.add("x")
    await dashboard.get("/")
    for token in ("", "wrong", "é"):
        form = {"csrf_token": token, "action": "remove", "id": str(job)}
        response = await dashboard.client.post("/jobs/apply", data=form)
        assert (response.status_code, "Reload it" in response.text) == (403, True), token
    async with httpx.AsyncClient(base_url=dashboard.url, trust_env=False) as other:
        await other.get("/")
        form = {"csrf_token": dashboard.csrf_token, "action": "remove", "id": str(job)}
        assert (await other.post("/jobs/apply", data=form)).status_code == 403
    assert await jobs.exists(job)


async def test_read_only_rejects_every_change(open_site: OpenSite, jobs: Jobs) -> None:
    site = await open_site(read_only=True)
    job = await jobs.add("x")
    page = await site.get(f"/jobs/{job}")
    assert "read-only" in page.text
    assert 'name="action"' not in page.text
    assert 'name="action"' not in (await site.get("/jobs")).text
    for path, form in (
        ("/jobs/confirm", {"action": "remove", "id": str(job)}),
        ("/jobs/apply", {"action": "remove", "id": str(job)}),
        ("/enqueue", {"task": "x", "payload": "{}"}),
    ):
        response = await site.post(path, form)
        assert (response.status_code, "--read-only" in response.text) == (403, True)
    assert await jobs.count() == 1


async def test_logout_ends_the_session_also_of_a_read_only_dashboard(open_site: OpenSite) -> None:
    site = await open_site(read_only=True, token=TOKEN)
    secure = await site.get("/login", headers={"X-Forwarded-Proto": "https"})
    assert "secure" in secure.headers["Set-Cookie"].lower()
    assert (await site.log_in()).status_code == 303
    assert "Log out" in (await site.get("/")).text
    assert (await site.post("/logout", {})).headers["Location"] == "/login"
    assert (await site.get("/")).status_code == 303


async def test_invalid_form_bodies_are_rejected(dashboard: Site) -> None:
    await dashboard.get("/")
    post = dashboard.client.post
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await post("/jobs/apply", json={"action": "remove"})).status_code == 415
    assert (await post("/jobs/apply", content=b"a=" + b"x" * MAX_FORM_BYTES, headers=headers)).status_code == 413
    assert (await post("/jobs/apply", content=b"&".join([b"a=1"] * 10_001), headers=headers)).status_code == 400
    assert (await post("/jobs/apply", content=b"a=\xff\xfe", headers=headers)).status_code == 400


async def test_static_files_are_local_and_revalidated(dashboard: Site) -> None:
    page = (await dashboard.get("/")).text
    paths = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert len(paths) > 3
    for path in paths:
        response = await dashboard.get(path)
        assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-cache")
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", response.text)
    assert (await dashboard.get("/static/../app.py")).status_code == 404
    assert (await dashboard.get("/healthz")).text == "ok\n"
