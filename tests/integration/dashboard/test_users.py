"""Users of the dashboard: names, roles and tokens."""

import pytest
from structlog.testing import capture_logs

from jobfn.dashboard.settings import DashboardSettings
from jobfn.errors import ConfigurationError
from support.dashboard import TOKEN, OpenSite
from support.jobs import Jobs

ADA_TOKEN = "the-token-of-ada-with-32-characters-or-more"
SCREEN_TOKEN = "the-token-of-the-screen-with-32-characters"
TOKENS = f"ada:operator:{ADA_TOKEN}, the screen : viewer : {SCREEN_TOKEN}"


async def test_an_operator_acts_under_a_name(open_site: OpenSite, jobs: Jobs) -> None:
    site = await open_site(tokens=TOKENS)
    job = await jobs.add("send")
    assert (await site.get("/")).status_code == 303
    with capture_logs() as logs:
        assert (await site.log_in(ADA_TOKEN)).status_code == 303
        page = (await site.get(f"/jobs/{job}")).text
        assert '<span class="user">ada <small>operator</small></span>' in page
        assert 'value="cancel"' in page
        pause = {"action": "pause", "kind": "task", "name": "send", "for": "3600"}
        assert (await site.post("/pauses/apply", pause)).status_code == 200
        assert (await site.post("/jobs/apply", {"action": "cancel", "id": str(job)})).status_code == 200
        assert (await site.post("/enqueue", {"task": "send", "payload": "{}", "as": "json"})).status_code == 303
    assert await jobs.connection.fetchval("select paused_by from app_jobs.pauses") == "ada"
    assert [(line["event"], line.get("by") or line.get("user")) for line in logs if line["log_level"] == "info"] == [
        ("logged in", "ada"),
        ("pause changed", "ada"),
        ("action applied", "ada"),
        ("job enqueued", "ada"),
    ]
    assert ADA_TOKEN not in str(logs)


async def test_a_viewer_sees_everything_and_changes_nothing(open_site: OpenSite, jobs: Jobs) -> None:
    site = await open_site(tokens=TOKENS)
    job = await jobs.add("send")
    await site.log_in(SCREEN_TOKEN)
    page = (await site.get(f"/jobs/{job}")).text
    assert "the screen <small>viewer</small>" in page
    assert "read-only" in page
    assert 'name="action"' not in page
    for path, form in (
        ("/jobs/apply", {"action": "remove", "id": str(job)}),
        ("/pauses/apply", {"action": "pause", "kind": "everything"}),
        ("/enqueue", {"task": "x", "payload": "{}"}),
        ("/schedules/1", {"action": "run"}),
        ("/limits/apply", {"action": "set", "name": "sync", "concurrency": "1"}),
    ):
        response = await site.post(path, form)
        assert (response.status_code, "Your role is viewer" in response.text) == (403, True)
    assert await jobs.count() == 1
    assert (await site.post("/logout", {})).headers["Location"] == "/login"
    assert (await site.get("/")).status_code == 303


async def test_the_token_without_a_name_works_beside_the_others(open_site: OpenSite) -> None:
    site = await open_site(tokens=TOKENS, token=TOKEN)
    assert (await site.log_in("x" * 40)).status_code == 401
    assert (await site.log_in(TOKEN)).status_code == 303
    page = (await site.get("/")).text
    assert 'class="user"' not in page
    assert "Log out" in page


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (f"ada:{ADA_TOKEN}", "JOBFN_DASHBOARD_TOKENS: entry 1 is incomplete: write NAME:ROLE:TOKEN"),
        (f"ada:operator:{ADA_TOKEN},", "entry 2 is incomplete"),
        (f"ada:admin:{ADA_TOKEN}", "the role of entry 1 is unknown"),
        ("ada:viewer:hunter2", "the token of entry 1: "),
        (f":viewer:{ADA_TOKEN}", "the name of entry 1 must have 1 to 64 printable characters"),
        (f"{'a' * 65}:viewer:{ADA_TOKEN}", "the name of entry 1 must have 1 to 64 printable characters"),
        (f"a:viewer:{ADA_TOKEN},a:viewer:{SCREEN_TOKEN}", "two users have the same name or the same token"),
        (f"a:viewer:{ADA_TOKEN},b:operator:{ADA_TOKEN}", "two users have the same name or the same token"),
        (f"a:viewer:{TOKEN}", "a user has the token of JOBFN_DASHBOARD_TOKEN"),
        (",".join(f"u{n}:viewer:{n:040}" for n in range(101)), "there are 101 users: at most 100 are possible"),
    ],
)
def test_invalid_tokens_are_rejected_and_not_quoted(tokens: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        DashboardSettings.from_environ({"JOBFN_DASHBOARD_TOKENS": tokens, "JOBFN_DASHBOARD_TOKEN": TOKEN})
    assert message in str(error.value)
    assert "hunter2" not in str(error.value)
    assert ADA_TOKEN not in str(error.value)


def test_tokens_allow_other_addresses_than_loopback() -> None:
    environ = {"JOBFN_DASHBOARD_TOKENS": TOKENS, "JOBFN_DASHBOARD_HOST": "0.0.0.0"}  # noqa: S104
    settings = DashboardSettings.from_environ(environ)
    assert [user.name for user in settings.users] == ["ada", "the screen"]
    assert ADA_TOKEN not in repr(settings)
    assert ADA_TOKEN not in repr(settings.users)
