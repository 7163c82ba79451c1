"""``jobfn dashboard`` and ``jobfn service --dashboard``."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import httpx
import pytest

from jobfn.devserver.state import DevState
from support.commands import Command, RunningCommand, Spawn
from support.jobs import Jobs
from support.network import free_port

TOKEN = "a-token-of-32-characters-or-more-for-tests"
URL = re.compile(r"http://127\.0\.0\.1:\d+")


FUNCTIONS = """
from jobfn import task
from pydantic import BaseModel

class Person(BaseModel):
    who: str

@task("greet")
async def greet(payload: Person) -> None:
    '''Greet somebody.'''

@task("part")
async def part(payload: Person) -> None:
    '''Part from somebody.'''
"""


async def dashboard_url(running: RunningCommand, text: str) -> str:
    """Wait for the line with this text and return the URL in it."""
    match = URL.search(await running.until(text))
    assert match is not None
    return match.group()


async def test_dashboard_shows_jobs_and_ends_on_ctrl_c_with_open_streams(
    database: str, spawn: Spawn, jobs: Jobs
) -> None:
    await jobs.add("mail")
    running = await spawn("jobfn", "dashboard", "--port", "0", "--database-url", database)
    url = await dashboard_url(running, "dashboard  http://")
    async with httpx.AsyncClient(trust_env=False) as client:
        assert "mail" in (await client.get(f"{url}/jobs")).text
        async with client.stream("GET", f"{url}/live/") as stream:
            assert stream.status_code == 200
            running.send(signal.SIGINT)
            assert await running.wait(seconds=10) == 0


async def test_dashboard_serves_the_databases_of_jobs_databases(database: str, spawn: Spawn, jobs: Jobs) -> None:
    await jobs.add("mail")
    databases = f"shop={database},away=postgresql://127.0.0.1:1/away"
    running = await spawn("jobfn", "dashboard", "--port", "0", JOBS_DATABASES=databases)
    url = await dashboard_url(running, "dashboard  http://")
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        assert "mail" in (await client.get(f"{url}/databases/shop/jobs")).text
        assert (await client.get(f"{url}/databases/away/jobs")).status_code == 503
        running.send(signal.SIGINT)
        assert await running.wait(seconds=30) == 0


async def test_dashboard_finds_a_running_dev_server(database: str, spawn: Spawn, tmp_path: Path) -> None:
    unused_url = f"http://127.0.0.1:{free_port()}"
    state = DevState(pid=os.getpid(), database_url=database, function_url=unused_url, callback_url=unused_url)
    with state.published(tmp_path):
        running = await spawn("jobfn", "dashboard", "--port", "0")
        url = await dashboard_url(running, "dashboard  http://")
        async with httpx.AsyncClient(trust_env=False) as client:
            assert f"{unused_url}/ is unreachable" in (await client.get(f"{url}/enqueue")).text


@pytest.mark.parametrize("command", ["dashboard", "service --dashboard"])
async def test_dashboard_shows_the_forms_of_functions_by_their_urls(
    command: str, database: str, spawn: Spawn, tmp_path: Path
) -> None:
    """`jobfn manifests` writes such a URL for each task of a function with several."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    url = f"http://127.0.0.1:{(port := free_port())}"
    function = await spawn("python", "-m", "jobfn.function", "functions.py", PORT=str(port))
    await function.until("serving")
    variables = {
        "DATABASE_URL": database,
        "JOBFN_DASHBOARD_PORT": "0",
        "INTERNAL_JOBS_CALLBACK_PORT": "0",
        "KNATIVE_SERVICE_URL": "http://{task}.jobs.invalid",
        "JOBS_FUNCTION_URLS": json.dumps({"greet": f"{url}/greet", "part": f"{url}/part"}),
    }
    running = await spawn("jobfn", *command.split(), **variables)
    dashboard = await dashboard_url(running, "dashboard")
    async with httpx.AsyncClient(trust_env=False) as client:
        page = (await client.get(f"{dashboard}/enqueue")).text
        assert [text in page for text in ("Greet somebody.", "Part from somebody.")] == [True, True]
        assert 'name="payload/who"' in (await client.get(f"{dashboard}/enqueue?task=greet")).text


async def test_read_only_dashboard_has_no_actions(database: str, spawn: Spawn, jobs: Jobs) -> None:
    await jobs.add("mail")
    running = await spawn("jobfn", "dashboard", "--port", "0", "--read-only", DATABASE_URL=database)
    url = await dashboard_url(running, "(read-only)")
    async with httpx.AsyncClient(trust_env=False) as client:
        page = (await client.get(f"{url}/jobs")).text
        assert "read-only" in page
        assert 'name="action"' not in page


@pytest.mark.parametrize(
    ("arguments", "env", "message"),
    [
        (["--host", "0.0.0.0"], {}, "set JOBFN_DASHBOARD_TOKEN to a long random text"),  # noqa: S104  - rejected
        (["--host", "0.0.0.0"], {"JOBFN_DASHBOARD_TOKEN": "short"}, "at least 32 characters"),  # noqa: S104  - rejected
        ([], {"JOBFN_DASHBOARD_PORT": "high"}, "JOBFN_DASHBOARD_PORT='high'"),
        ([], {"JOBFN_DASHBOARD_READ_ONLY": "perhaps"}, "JOBFN_DASHBOARD_READ_ONLY='perhaps'"),
        (["--port", "99999"], {}, "--port"),
    ],
)
async def test_wrong_usage_is_one_line_without_the_token(
    invoke: Command, database: str, arguments: list[str], env: dict[str, str], message: str
) -> None:
    result = await invoke("jobfn", "dashboard", *arguments, DATABASE_URL=database, **env)
    assert result.code == 2
    assert message in result.output
    assert len(result.output.splitlines()) == 1
    assert "short'" not in result.output


async def test_missing_schema_is_an_error_with_advice(command: Command, empty_database: str) -> None:
    result = await command("jobfn", "dashboard", "--port", "0", DATABASE_URL=empty_database)
    assert (result.code, "jobfn db migrate" in result.output) == (1, True)


@pytest.mark.parametrize("start", [("jobfn", "service"), ("python", "-m", "jobfn.service")])
async def test_service_serves_the_dashboard(
    database: str, spawn: Spawn, tmp_path: Path, start: tuple[str, ...]
) -> None:
    running = await spawn(
        *start,
        "--dashboard",
        DATABASE_URL=database,
        JOBFN_DASHBOARD_PORT="0",
        INTERNAL_JOBS_CALLBACK_PORT=str(free_port()),
        JOBFN_DASHBOARD_TOKEN=TOKEN,
    )
    url = await dashboard_url(running, '"event":"dashboard"')
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{url}/healthz")).text == "ok\n"
        assert (await client.get(url)).status_code == 303
    running.send(signal.SIGTERM)
    assert await running.wait() == 0
    assert TOKEN not in "\n".join(running.lines)


async def test_dev_without_dashboard_and_with_a_taken_port(database: str, spawn: Spawn, tmp_path: Path) -> None:
    (tmp_path / "functions.py").write_text('from jobfn import task\n\n@task("x")\ndef x(payload: dict) -> None: ...\n')
    dev = ("jobfn", "dev", "functions.py", "--port", "0", "--database-url", database)
    running = await spawn(*dev, "--no-dashboard")
    await running.until("jobfn db shell")
    assert not any("dashboard" in line for line in running.lines)
    running.send(signal.SIGINT)
    assert await running.wait() == 0
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(tmp_path / "functions.py", other)
    first = await spawn(*dev)
    taken = (await dashboard_url(first, "dashboard      http://")).rpartition(":")[2]
    second = await spawn(*dev, "--dashboard-port", taken, PWD=str(other))
    assert await second.wait() == 2
    assert f"cannot listen on 127.0.0.1:{taken}" in "\n".join(second.lines)
