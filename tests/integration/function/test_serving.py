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
from support.function_app import SECRET, CallbackServer, job_headers
from support.network import LOOPBACK, free_port

FUNCTIONS = """\
import asyncio, logging, os, time
from jobfn import JobContext, create_app, task

@task("echo")
async def echo(payload, ctx: JobContext):
    ctx.log.info("echoing")
    logging.getLogger("library").info("from a library")
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

@task("fail")
async def fail(payload):
    local = payload
    raise ValueError("it failed")

@task("exit")
async def leave(payload):
    raise SystemExit(7)

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


@pytest.mark.parametrize(
    ("target", "tasks"),
    [
        ("functions.py", ["block", "echo", "exit", "fail", "slow"]),
        ("functions", ["block", "echo", "exit", "fail", "slow"]),
        ("functions.py:app", ["echo"]),
        ("functions:slow", ["slow"]),
    ],
)
async def test_file_module_or_attribute_is_served_until_sigterm(
    target: str, tasks: list[str], port: int, spawn: Spawn, http: httpx.AsyncClient
) -> None:
    process = await spawn("python", "-m", "jobfn.function", target, PORT=str(port))
    line = json.loads(await process.until("serving"))
    assert (line["port"], line["tasks"], line["level"]) == (port, tasks, "info")
    index = (await http.get(f"http://{LOOPBACK}:{port}/")).json()["tasks"]
    assert sorted(entry["identifier"] for entry in index) == tasks
    process.send(signal.SIGTERM)
    assert await process.wait() == 0
    assert [json.loads(line)["event"] for line in process.lines] == [
        "serving",
        "stopping: finishing running jobs",
        "stopped",
    ]


async def test_options_override_the_environment(port: int, spawn: Spawn, http: httpx.AsyncClient) -> None:
    process = await spawn(
        "python", "-m", "jobfn.function", "functions.py", "--host", LOOPBACK, "--port", str(port), PORT="1"
    )
    await process.until("serving")
    assert (await http.post(f"http://{LOOPBACK}:{port}/echo", json={"a": 1})).json() == {"a": 1}
    process.send(signal.SIGINT)
    assert await process.wait() == 0


@pytest.mark.parametrize("task", ["slow", "block"])
async def test_running_job_is_finished_and_reported_after_sigterm(
    task: str, port: int, spawn: Spawn, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    process = await spawn("python", "-m", "jobfn.function", "functions.py", PORT=str(port))
    await process.until("serving")
    url = f"http://{LOOPBACK}:{port}/{task}"
    request = asyncio.create_task(http.post(url, json=1, headers=job_headers(callbacks.url)))
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
        "python", "-m", "jobfn.function", "functions.py", PORT=str(port), JOBFN_SHUTDOWN_TIMEOUT_SECONDS="1"
    )
    await process.until("serving")
    request = asyncio.create_task(
        http.post(f"http://{LOOPBACK}:{port}/{task}", json=60, headers=job_headers(callbacks.url))
    )
    await process.until("started")
    process.send(signal.SIGTERM)
    response = await request
    message = f"the function was stopped before {task} finished"
    assert (response.status_code, response.json()) == (503, {"message": message})
    assert await process.wait(seconds=10) == 0
    assert [report.body for report in callbacks.received] == [{"status": "error", "error": message}]
    running = [line for line in process.lines if "stopped with running sync handlers" in line]
    assert len(running) == (1 if task == "block" else 0)


async def test_handler_that_raises_system_exit_fails_only_its_job(
    port: int, spawn: Spawn, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    process = await spawn("python", "-m", "jobfn.function", "functions.py", PORT=str(port))
    await process.until("serving")
    base = f"http://{LOOPBACK}:{port}"
    assert (await http.post(f"{base}/exit", json={}, headers=job_headers(callbacks.url))).status_code == 500
    assert (await http.post(f"{base}/echo", json={"still": "running"})).json() == {"still": "running"}
    assert [report.body for report in callbacks.received] == [{"status": "error", "error": "7"}]


async def test_log_lines_carry_the_job_and_no_payload(
    port: int, spawn: Spawn, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    environment = {"PORT": str(port), "LOG_LEVEL": "debug", "K_SERVICE": "s", "K_REVISION": "r"}
    process = await spawn("python", "-m", "jobfn.function", "functions.py", **environment)
    await process.until("serving")
    base = f"http://{LOOPBACK}:{port}"
    headers = job_headers(callbacks.url)
    for path, body in (("echo", {"a": SECRET}), ("fail", {"a": SECRET}), ("slow", SECRET), ("missing", SECRET)):
        await http.post(f"{base}/{path}", json=body, headers=headers)
    await http.post(f"{base}/echo", content=SECRET.encode(), headers=headers)
    process.send(signal.SIGTERM)
    await process.wait()
    lines = [json.loads(line) for line in process.lines]
    assert all((line["service"], line["revision"]) == ("s", "r") for line in lines)
    by_event = {line["event"]: line for line in lines}
    for event in ("echoing", "from a library", "task failed"):
        assert by_event[event]["job"] == 42
    assert "functions.py" in by_event["task failed"]["exception"]
    assert by_event["task failed"]["exception"].endswith("ValueError: it failed")
    assert sum(line["event"] == "request refused" for line in lines) == 3
    assert SECRET not in "\n".join(process.lines)


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


#: Each target, its file and the error.
INVALID_TARGETS = {
    "missing.py": (None, "no file missing.py: pass the Python file that defines your tasks"),
    "missing_module": (None, "no module 'missing_module': pass a file, for example functions.py, or run where it can"),
    "functions.py:missing": (None, "functions.py has no app 'missing': its apps and tasks are: echo, slow, block, "),
    "broken.py": ("def f(:", "broken.py:1: SyntaxError: invalid syntax"),
    "raising.py": ("1 / 0", "raising.py:1: ZeroDivisionError: division by zero"),
    "defining.py": (
        'from jobfn import task\n@task("a")\ndef f(): ...',
        "defining.py:2: @task on f: a handler must be callable as handler(payload) or handler(payload, ctx)",
    ),
    "twice.py": (
        'from jobfn import task\n@task("a")\ndef f(x): ...\n@task("a")\ndef g(x): ...',
        "the task 'a' is already defined at",
    ),
}


@pytest.mark.parametrize("target", INVALID_TARGETS)
async def test_invalid_target_is_a_one_line_error(target: str, folder: Path, port: int, command: Command) -> None:
    content, message = INVALID_TARGETS[target]
    if content is not None:
        (folder / target).write_text(content)
    result = await command("python", "-m", "jobfn.function", target, PORT=str(port))
    assert result.code == 2
    [line] = result.output.splitlines()
    assert line.startswith("jobfn: ")
    assert message in line


async def test_lifespan_that_raises_is_an_error_below_its_traceback(folder: Path, port: int, command: Command) -> None:
    (folder / "starting.py").write_text(
        "from contextlib import asynccontextmanager\nfrom jobfn import create_app, task\n"
        '@task("a")\ndef f(x): ...\n'
        '@asynccontextmanager\nasync def lifespan(app):\n    raise ValueError("no database")\n    yield\n'
        "app = create_app(tasks=[f], lifespan=lifespan)"
    )
    result = await command("python", "-m", "jobfn.function", "starting.py:app", PORT=str(port))
    assert result.code == 2
    assert "ValueError: no database" in result.output
    last_line = result.output.splitlines()[-1]
    assert last_line.startswith("jobfn: the app did not start: its lifespan failed, see the log above")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"PORT": "http"}, "PORT='http' is not a port: use a number from 1 to 65535"),
        ({"JOBFN_MAX_THREADS": "many"}, "JOBFN_MAX_THREADS='many': Input should be a valid integer"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL='loud': choose one of debug, info"),
    ],
)
async def test_invalid_variable_is_a_one_line_error(variables: dict[str, str], message: str, command: Command) -> None:
    result = await command("python", "-m", "jobfn.function", "functions.py", **variables)
    assert (result.code, len(result.output.splitlines())) == (2, 1)
    assert message in result.output


async def test_occupied_port_is_a_one_line_error(command: Command) -> None:
    with bind("0.0.0.0", 0) as listener:  # noqa: S104  - where a container listens
        port = listener.getsockname()[1]
        result = await command("python", "-m", "jobfn.function", "functions.py", PORT=str(port))
    assert (result.code, result.output) == (
        2,
        (
            f"jobfn: cannot listen on 0.0.0.0:{port}: Address already in use. "
            "Stop the process that uses it, or choose another port"
        ),
    )


async def test_help_shows_an_example_and_invalid_options_exit_with_2(command: Command) -> None:
    result = await command("python", "-m", "jobfn.function", "--help")
    assert (result.code, "PORT=8080 python -m jobfn.function functions.py" in result.output) == (0, True)
    for arguments in ([], ["a", "b"], ["functions.py", "--port", "x"]):
        assert (await command("python", "-m", "jobfn.function", *arguments)).code == 2
