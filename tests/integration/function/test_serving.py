"""Functions in processes of their own: python -m jobfn.function, its signals, its logs, its one-line errors."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import httpx
import pytest

from jobfn.http.server import bind
from support.commands import Command, CommandResult, Spawn
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

@task("leave")
async def leave(payload):
    raise SystemExit(7)

app = create_app(tasks=[echo])
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    """Where commands run, with a file of functions."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    return tmp_path


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.mark.parametrize(
    ("target", "tasks"),
    [
        ("functions.py", ["block", "echo", "fail", "leave", "slow"]),
        ("functions", ["block", "echo", "fail", "leave", "slow"]),
        ("functions.py:app", ["echo"]),
        ("functions:slow", ["slow"]),
    ],
)
async def test_it_serves_a_file_a_module_or_an_attribute(
    target: str, tasks: list[str], port: int, spawn: Spawn, http: httpx.AsyncClient
) -> None:
    """At PORT, on every address; SIGTERM ends it with 0, and it says what it does in JSON lines."""
    process = await spawn("python", "-m", "jobfn.function", target, PORT=str(port))
    line = json.loads(await process.until("serving"))
    assert (line["port"], line["tasks"], line["level"]) == (port, tasks, "info")
    listed = (await http.get(f"http://{LOOPBACK}:{port}/")).json()["tasks"]
    assert sorted(entry["identifier"] for entry in listed) == tasks
    process.send(signal.SIGTERM)
    assert await process.wait() == 0
    assert [json.loads(said)["event"] for said in process.lines] == [
        "serving",
        "stopping: finishing running jobs",
        "stopped",
    ]


async def test_options_go_before_the_environment(port: int, spawn: Spawn, http: httpx.AsyncClient) -> None:
    """--host and --port."""
    process = await spawn(
        "python", "-m", "jobfn.function", "functions.py", "--host", LOOPBACK, "--port", str(port), PORT="1"
    )
    await process.until("serving")
    assert (await http.post(f"http://{LOOPBACK}:{port}/echo", json={"a": 1})).json() == {"a": 1}
    process.send(signal.SIGINT)
    assert await process.wait() == 0


@pytest.mark.parametrize("task", ["slow", "block"])
async def test_what_runs_when_it_is_told_to_stop_is_finished_and_reported(
    task: str, port: int, spawn: Spawn, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """The handler ends, its success is reported and answered, nothing new is accepted, exit code 0."""
    process = await spawn("python", "-m", "jobfn.function", "functions.py", PORT=str(port))
    await process.until("serving")
    url = f"http://{LOOPBACK}:{port}/{task}"
    answering = asyncio.create_task(http.post(url, json=1, headers=job_headers(callbacks.url)))
    await process.until("started")
    process.send(signal.SIGTERM)
    await process.until("stopping")
    process.send(signal.SIGTERM)  # once more changes nothing
    response = await answering
    assert (response.status_code, response.json()) == (200, "done")
    with pytest.raises(httpx.ConnectError):
        await http.post(url, json=0)
    assert await process.wait() == 0
    assert [report.body for report in callbacks.received] == [{"status": "success"}]


@pytest.mark.parametrize("task", ["slow", "block"])
async def test_what_does_not_end_in_time_is_reported_as_failed(
    task: str, port: int, spawn: Spawn, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """After JOBFN_SHUTDOWN_TIMEOUT_SECONDS the job is told, the caller answered, and the process is gone, thread or not."""
    process = await spawn(
        "python", "-m", "jobfn.function", "functions.py", PORT=str(port), JOBFN_SHUTDOWN_TIMEOUT_SECONDS="1"
    )
    await process.until("serving")
    answering = asyncio.create_task(
        http.post(f"http://{LOOPBACK}:{port}/{task}", json=60, headers=job_headers(callbacks.url))
    )
    await process.until("started")
    process.send(signal.SIGTERM)
    response = await answering
    message = f"the function was stopped before {task} finished"
    assert (response.status_code, response.json()) == (503, {"message": message})
    assert await process.wait(seconds=10) == 0
    assert [report.body for report in callbacks.received] == [{"status": "error", "error": message}]
    left = [line for line in process.lines if "stopped with running sync handlers" in line]
    assert len(left) == (1 if task == "block" else 0)


async def test_a_handler_that_exits_does_not_end_the_process(
    port: int, spawn: Spawn, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """SystemExit is its delivery's failure."""
    process = await spawn("python", "-m", "jobfn.function", "functions.py", PORT=str(port))
    await process.until("serving")
    base = f"http://{LOOPBACK}:{port}"
    assert (await http.post(f"{base}/leave", json={}, headers=job_headers(callbacks.url))).status_code == 500
    assert (await http.post(f"{base}/echo", json={"still": "here"})).json() == {"still": "here"}
    assert [report.body for report in callbacks.received] == [{"status": "error", "error": "7"}]


async def test_its_log_has_the_jobs_and_none_of_their_payloads(
    port: int, spawn: Spawn, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """JSON lines that all carry the job; tracebacks are whole and show no values."""
    process = await spawn(
        "python",
        "-m",
        "jobfn.function",
        "functions.py",
        PORT=str(port),
        LOG_LEVEL="debug",
        K_SERVICE="s",
        K_REVISION="r",
    )
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


async def test_it_stops_with_the_parent_that_holds_its_input(folder: Path, http: httpx.AsyncClient) -> None:
    """--until-stdin-closes on an inherited socket, which dev uses: the end of the input is the end of the process."""
    with bind(LOOPBACK, 0) as listener:
        fd = listener.fileno()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "jobfn.function", "functions.py"),
            *("--listener-fd", str(fd), "--until-stdin-closes"),
            cwd=folder,
            pass_fds=(fd,),
            stdin=asyncio.subprocess.PIPE,
        )
        # the socket is open already: the request waits in its queue until the process is there
        response = await http.post(f"http://{LOOPBACK}:{listener.getsockname()[1]}/echo", json=1)
        assert response.status_code == 422
        assert process.stdin is not None
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 10) == 0


WRONG = {
    "missing.py": "no file missing.py: pass the Python file that defines your tasks",
    "missing_module": "no module 'missing_module': pass a file, for example functions.py, or run where it can be imported",
    "functions.py:missing": "functions.py has no app 'missing': its apps and tasks are: echo, slow, block, ",
    "broken.py": "broken.py:1: SyntaxError: invalid syntax",
    "importing.py": "importing.py:2: ModuleNotFoundError: No module named 'missing_inside'",
    "raising.py": "raising.py:1: ZeroDivisionError: division by zero",
    "defining.py": "defining.py:2: @task on f: a handler must be callable as handler(payload) or handler(payload, ctx)",
    "twice.py": "the task 'a' is already defined at",
    "starting.py:app": "the app did not start: its lifespan failed, see the log above",
}
FILES = {
    "broken.py": "def f(:",
    "importing.py": "\nimport missing_inside",
    "raising.py": "1 / 0",
    "defining.py": 'from jobfn import task\n@task("a")\ndef f(): ...',
    "twice.py": 'from jobfn import task\n@task("a")\ndef f(x): ...\n@task("a")\ndef g(x): ...',
    "starting.py": (
        "from contextlib import asynccontextmanager\nfrom jobfn import create_app, task\n"
        '@task("a")\ndef f(x): ...\n'
        '@asynccontextmanager\nasync def lifespan(app):\n    raise ValueError("no database")\n    yield\n'
        "app = create_app(tasks=[f], lifespan=lifespan)"
    ),
}


def last_line(found: CommandResult) -> str:
    """The last thing that was said."""
    return found.output.splitlines()[-1]


@pytest.mark.parametrize("target", WRONG)
async def test_what_cannot_be_served_is_one_line(target: str, folder: Path, port: int, command: Command) -> None:
    """What is wrong and where; exit code 2; no traceback but that of an app's own start."""
    for name, content in FILES.items():
        (folder / name).write_text(content)
    found = await command("python", "-m", "jobfn.function", target, PORT=str(port))
    assert found.code == 2
    assert last_line(found).startswith("jobfn: ")
    assert WRONG[target] in last_line(found)
    if "starting" not in target:
        assert len(found.output.splitlines()) == 1
    else:
        assert "ValueError: no database" in found.output


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"PORT": "http"}, "PORT='http' is not a port: use a number from 1 to 65535"),
        ({"JOBFN_MAX_THREADS": "many"}, "JOBFN_MAX_THREADS='many': Input should be a valid integer"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL='loud': choose one of debug, info"),
    ],
)
async def test_a_wrong_variable_is_one_line(variables: dict[str, str], message: str, command: Command) -> None:
    """The variable and what it may hold."""
    found = await command("python", "-m", "jobfn.function", "functions.py", **variables)
    assert (found.code, len(found.output.splitlines())) == (2, 1)
    assert message in found.output


async def test_a_port_that_is_taken_is_one_line(command: Command) -> None:
    """Who listens there is not known, what to do is."""
    with bind("0.0.0.0", 0) as taken:  # noqa: S104  - where a container listens
        port = taken.getsockname()[1]
        found = await command("python", "-m", "jobfn.function", "functions.py", PORT=str(port))
    assert (found.code, found.output) == (
        2,
        (
            f"jobfn: cannot listen on 0.0.0.0:{port}: Address already in use. "
            "Stop the process that uses it, or choose another port"
        ),
    )


async def test_help_has_an_example(command: Command) -> None:
    """And wrong options exit with 2."""
    found = await command("python", "-m", "jobfn.function", "--help")
    assert (found.code, "PORT=8080 python -m jobfn.function functions.py" in found.output) == (0, True)
    for line in ([], ["a", "b"], ["functions.py", "--port", "x"]):
        assert (await command("python", "-m", "jobfn.function", *line)).code == 2
