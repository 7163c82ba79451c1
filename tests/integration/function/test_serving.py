"""``python -m jobfn.function``: what it serves, its signals, its logs, its one-line errors."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import httpx
import pytest

from jobfn.http.server import bind
from support.commands import Command, Spawn
from support.function_app import CallbackServer, job_headers
from support.network import LOOPBACK, free_port

FUNCTIONS = """\
import asyncio, time
from jobfn import JobContext, create_app, task

@task("echo")
async def echo(payload, ctx: JobContext):
    return payload

@task("slow")
async def slow(payload: float, ctx: JobContext):
    ctx.log.info("started")
    await asyncio.sleep(payload)
    return "done"

@task("block")
def block(payload: float, ctx: JobContext):
    ctx.log.info("started")
    time.sleep(payload)
    return "done"

app = create_app(tasks=[echo])
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    """The working directory of commands, with a file of functions."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    return tmp_path


@pytest.fixture
def port() -> int:
    return free_port()


async def test_app_is_served_until_sigterm(port: int, spawn: Spawn, http: httpx.AsyncClient) -> None:
    options = ["--host", LOOPBACK, "--port", str(port)]
    process = await spawn("python", "-m", "jobfn.function", "functions.py:app", *options, PORT="1")
    line = json.loads(await process.until("serving"))
    assert (line["port"], line["tasks"], line["level"]) == (port, ["echo"], "info")
    index = (await http.get(f"http://{LOOPBACK}:{port}/")).json()["tasks"]
    assert [entry["identifier"] for entry in index] == ["echo"]
    process.send(signal.SIGTERM)
    assert await process.wait() == 0
    assert [json.loads(line)["event"] for line in process.lines] == [
        "serving",
        "stopping: finishing running jobs",
        "stopped",
    ]


@pytest.mark.parametrize("task", ["slow", "block"])
async def test_running_job_is_finished_and_reported_after_sigterm(
    task: str, port: int, spawn: Spawn, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    process = await spawn("python", "-m", "jobfn.function", "functions.py", PORT=str(port))
    await process.until("serving")
    url = f"http://{LOOPBACK}:{port}/{task}"
    request = asyncio.create_task(http.post(url, json=0.5, headers=job_headers(callbacks.url)))
    await process.until("started")
    process.send(signal.SIGTERM)
    await process.until("stopping")
    process.send(signal.SIGTERM)  # a second signal changes nothing
    response = await request
    assert (response.status_code, response.json()) == (200, "done")
    with pytest.raises(httpx.ConnectError):
        await http.post(url, json=0)
    assert await process.wait() == 0
    assert [report.body for report in callbacks.received] == [{"status": "success"}]


@pytest.mark.parametrize("task", ["slow", "block"])
async def test_job_that_exceeds_the_shutdown_timeout_is_reported_and_the_process_exits(
    task: str, port: int, spawn: Spawn, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    process = await spawn(
        "python", "-m", "jobfn.function", "functions.py", PORT=str(port), JOBFN_SHUTDOWN_TIMEOUT_SECONDS="0.2"
    )
    await process.until("serving")
    request = asyncio.create_task(
        http.post(f"http://{LOOPBACK}:{port}/{task}", json=60, headers=job_headers(callbacks.url))
    )
    await process.until("started")
    process.send(signal.SIGTERM)
    response = await request
    message = f"the function was stopped before {task} finished"
    assert (response.status_code, response.json()) == (503, {"message": message, "code": "F503"})
    assert await process.wait(seconds=10) == 0
    assert [report.body for report in callbacks.received] == [{"status": "error", "error": message}]
    running = [line for line in process.lines if "stopped with running sync handlers" in line]
    assert len(running) == (1 if task == "block" else 0)


async def test_process_ends_when_its_parent_closes_standard_input(folder: Path, http: httpx.AsyncClient) -> None:
    """``jobfn dev`` starts functions so, with an inherited socket."""
    with bind(LOOPBACK, 0) as listener:
        fd = listener.fileno()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "jobfn.function", "functions.py"),
            *("--listener-fd", str(fd), "--until-stdin-closes"),
            cwd=folder,
            pass_fds=(fd,),
            stdin=asyncio.subprocess.PIPE,
        )
        # The socket is open already: the request waits in its backlog until the process accepts it.
        response = await http.post(f"http://{LOOPBACK}:{listener.getsockname()[1]}/echo", json=1)
        assert response.status_code == 422
        assert process.stdin is not None
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 10) == 0


@pytest.mark.parametrize(
    ("target", "variables", "message"),
    [
        ("raising.py", {}, "raising.py:1: ZeroDivisionError: division by zero"),
        ("functions.py", {"JOBFN_MAX_THREADS": "many"}, "JOBFN_MAX_THREADS='many': Input should be a valid integer"),
        ("functions.py", {"PORT": "http"}, "PORT='http' is not a port: use a number from 1 to 65535"),
    ],
)
async def test_invalid_target_or_variable_is_a_one_line_error(
    target: str, variables: dict[str, str], message: str, folder: Path, command: Command
) -> None:
    (folder / "raising.py").write_text("1 / 0")
    result = await command("python", "-m", "jobfn.function", target, **variables)
    assert (result.code, len(result.output.splitlines())) == (2, 1)
    assert result.output.startswith("jobfn: ")
    assert message in result.output


async def test_help_shows_an_example_and_a_missing_target_exits_with_2(command: Command) -> None:
    result = await command("python", "-m", "jobfn.function", "--help")
    assert (result.code, "PORT=8080 python -m jobfn.function functions.py" in result.output) == (0, True)
    assert (await command("python", "-m", "jobfn.function")).code == 2
