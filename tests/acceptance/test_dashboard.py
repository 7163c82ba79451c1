"""``jobfn dashboard`` and ``jobfn service --dashboard``, as a user runs them."""

import os
import re
import signal
from pathlib import Path

import httpx
import pytest

from jobfn.devserver.state import DevState
from support.commands import Command, RunningCommand, Spawn
from support.jobs import Jobs
from support.network import free_port

TOKEN = "a-token-for-these-tests-only"
URL = re.compile(r"http://127\.0\.0\.1:\d+")


async def url_of(running: RunningCommand, said: str) -> str:
    """Where a command says that it serves the dashboard."""
    found = URL.search(await running.until(said))
    assert found is not None
    return found.group()


async def test_the_dashboard_alone(spawn: Spawn, database: str, jobs: Jobs) -> None:
    """It says where it is, shows the jobs, and ends at once on Ctrl-C although somebody looks on."""
    await jobs.add("mail")
    running = await spawn("jobfn", "dashboard", "--port", "0", "--database-url", database)
    url = await url_of(running, "dashboard  http://")
    async with httpx.AsyncClient(trust_env=False) as client:
        assert "mail" in (await client.get(f"{url}/jobs")).text
        async with client.stream("GET", f"{url}/live/") as stream:
            assert stream.status_code == 200
            running.send(signal.SIGINT)
            assert await running.wait(seconds=10) == 0


async def test_it_finds_the_development_server_of_its_folder(spawn: Spawn, database: str, tmp_path: Path) -> None:
    """Database and function app are those that run here; nobody has to name them."""
    nobody = f"http://127.0.0.1:{free_port()}"
    state = DevState(pid=os.getpid(), database_url=database, function_url=nobody, callback_url=nobody)
    with state.published(tmp_path):
        running = await spawn("jobfn", "dashboard", "--port", "0")
        url = await url_of(running, "dashboard  http://")
        async with httpx.AsyncClient(trust_env=False) as client:
            assert f"{nobody}/ is unreachable" in (await client.get(f"{url}/enqueue")).text


async def test_read_only_by_its_option(spawn: Spawn, database: str, jobs: Jobs) -> None:
    """It says so, in the terminal and on the page."""
    await jobs.add("mail")
    running = await spawn("jobfn", "dashboard", "--port", "0", "--read-only", DATABASE_URL=database)
    url = await url_of(running, "(read-only)")
    async with httpx.AsyncClient(trust_env=False) as client:
        page = (await client.get(f"{url}/jobs")).text
        assert "read-only" in page
        assert 'name="action"' not in page


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (["--host", "0.0.0.0"], {}, "set JOBFN_DASHBOARD_TOKEN to a long random text"),  # noqa: S104  - refused
        (["--host", "0.0.0.0"], {"JOBFN_DASHBOARD_TOKEN": "short"}, "at least 16 characters"),  # noqa: S104  - refused
        ([], {"JOBFN_DASHBOARD_PORT": "high"}, "JOBFN_DASHBOARD_PORT='high'"),
        ([], {"JOBFN_DASHBOARD_READ_ONLY": "perhaps"}, "JOBFN_DASHBOARD_READ_ONLY='perhaps'"),
        (["--port", "99999"], {}, "--port"),
    ],
)
async def test_what_cannot_be_is_one_line_and_exit_code_2(
    command: Command, database: str, arguments: list[str], env: dict[str, str], said: str
) -> None:
    """Nothing is served, and a token is never quoted."""
    ended = await command("jobfn", "dashboard", *arguments, DATABASE_URL=database, **env)
    assert ended.code == 2
    assert said in ended.output
    assert len(ended.output.splitlines()) == 1
    assert "short'" not in ended.output


async def test_a_database_without_jobs_is_told(command: Command, empty_database: str) -> None:
    """And what to do about it."""
    ended = await command("jobfn", "dashboard", "--port", "0", DATABASE_URL=empty_database)
    assert (ended.code, "jobfn db migrate" in ended.output) == (1, True)


@pytest.mark.parametrize("start", [("jobfn", "service"), ("python", "-m", "jobfn.service")])
async def test_beside_the_platform_side(spawn: Spawn, database: str, tmp_path: Path, start: tuple[str, ...]) -> None:
    """A service that was asked to serves it too, and its worker is seen there."""
    running = await spawn(
        *start,
        "--dashboard",
        DATABASE_URL=database,
        JOBFN_DASHBOARD_PORT="0",
        INTERNAL_JOBS_CALLBACK_PORT=str(free_port()),
        JOBFN_DASHBOARD_TOKEN=TOKEN,
    )
    url = await url_of(running, '"event": "dashboard"')
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{url}/healthz")).text == "ok\n"
        assert (await client.get(url)).status_code == 303
    running.send(signal.SIGTERM)
    assert await running.wait() == 0
    assert TOKEN not in "\n".join(running.lines)


async def test_dev_without_a_dashboard(spawn: Spawn, database: str, tmp_path: Path) -> None:
    """--no-dashboard leaves it out; a taken port that was asked for by name is an error."""
    (tmp_path / "functions.py").write_text('from jobfn import task\n\n@task("x")\ndef x(payload: dict) -> None: ...\n')
    dev = ("jobfn", "dev", "functions.py", "--port", "0")
    running = await spawn(*dev, "--no-dashboard", DATABASE_URL=database)
    await running.until("jobfn db status")
    assert not any("dashboard" in line for line in running.lines)
    running.send(signal.SIGINT)
    assert await running.wait() == 0
    first = await spawn(*dev, DATABASE_URL=database)
    taken = (await url_of(first, "dashboard      http://")).rpartition(":")[2]
    second = await spawn(*dev, "--dashboard-port", taken, DATABASE_URL=database)
    assert await second.wait() == 2
    assert f"cannot listen on 127.0.0.1:{taken}" in "\n".join(second.lines)
