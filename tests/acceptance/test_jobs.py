"""``jobfn jobs``, ``workers``, ``doctor`` and ``enqueue --follow``."""

import asyncio
import contextlib
import functools
import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from support.commands import Command, CommandResult, Spawn
from support.freezing_proxy import FreezingProxy
from support.jobs import WORKER, Jobs
from support.network import eventually, free_port
from support.prefork import fork_command
from support.processes import JOBFN, environment

FUNCTIONS = dedent(
    """
    import asyncio
    from jobfn import PermanentError, task

    @task("greet")
    async def greet(payload: dict) -> None: ...

    @task("refuse")
    async def refuse(payload: dict) -> None:
        raise PermanentError("no such customer")

    @task("forever")
    async def forever(payload: dict) -> None:
        await asyncio.sleep(3600)
    """
)

Jobfn = Callable[..., Awaitable[CommandResult]]


@pytest.fixture
def jobfn(invoke: Command, database: str) -> Jobfn:
    """Run jobfn on ``database`` to its end."""
    return functools.partial(invoke, "jobfn", DATABASE_URL=database)


@pytest.fixture
async def service_variables(database: str, spawn: Spawn, tmp_path: Path) -> dict[str, str]:
    """Run a function app and a service; return the service's variables."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    function_port, callback_port = free_port(), free_port()
    variables = {
        "DATABASE_URL": database,
        "KNATIVE_SERVICE_URL": f"http://127.0.0.1:{function_port}",
        "INTERNAL_JOBS_CALLBACK_URL": f"http://127.0.0.1:{callback_port}/callback",
        "INTERNAL_JOBS_CALLBACK_PORT": str(callback_port),
        "HOSTNAME": WORKER,
        "JOBS_SHUTDOWN_TIMEOUT_SECONDS": "1",
    }
    function = await spawn(
        *("jobfn", "serve", "functions.py", "--host", "127.0.0.1", "--port", str(function_port)),
        JOBFN_SHUTDOWN_TIMEOUT_SECONDS="1",
    )
    await function.until('"serving"')
    service = await spawn("jobfn", "service", **variables)
    await service.until("looking for jobs")
    return variables


@pytest.mark.parametrize(
    ("line", "message", "code"),
    [
        ("jobs", "Usage: jobfn jobs", 2),
        ("jobs list --state odd", "Invalid value for '--state' / '-s': 'odd' is not one of 'ready', 'delayed'", 2),
        ("jobs list --after x", "invalid cursor 'x'", 2),
        ("jobs list --older-than soon", "--older-than 'soon' is not an age: write 30s, 15m, 2h or 7d", 2),
        ("jobs show 99", "job 99 does not exist: see `jobfn jobs list`", 1),
        ("jobs show 99999999999999999999999", "job 99999999999999999999999 does not exist", 1),
        ("explain-wait 99", "job 99 does not wait: it has completed, was removed, or never existed", 1),
        ("explain-wait 99999999999999999999999", "job 99999999999999999999999 does not wait", 1),
        ("jobs retry", "no jobs are selected: give ids or a filter, jobfn jobs retry --task TASK", 2),
        ("jobs retry 1 --task x", "job ids and a filter cannot be combined", 2),
        ("jobs retry 1 --running", "are options of `jobfn jobs cancel`", 2),
        ("jobs retry --state completed", "completed jobs are deleted: there is nothing to retry", 2),
        ("jobs retry 1 2", "retry 2 jobs? Confirm with --yes: there is no terminal to ask in", 2),
        ("jobs remove 1", "remove 1 job? Confirm with --yes: there is no terminal to ask in", 2),
        ("jobs cancel 1 --running", "cancel 1 job? Confirm with --yes: there is no terminal to ask in", 2),
        ("enqueue x --timeout 5", "--timeout requires --follow", 2),
    ],
)
async def test_wrong_usage_is_one_line_and_changes_nothing(
    jobfn: Jobfn, jobs: Jobs, line: str, message: str, code: int
) -> None:
    job = await jobs.add("x")
    before = await jobs.row(job)
    result = await jobfn(*line.split(" "))
    assert message in result.output
    assert result.code == code
    assert "Traceback" not in result.output
    assert "Value error" not in result.output
    assert await jobs.row(job) == before


async def test_closed_pipe_is_not_an_error(command: Command, database: str, jobs: Jobs) -> None:
    await jobs.add("x")
    pipe = f"{JOBFN} jobs watch --json --every 0.1 | head -1"
    result = await command("bash", "-o", "pipefail", "-c", pipe, DATABASE_URL=database)
    assert (result.code, result.output.startswith("{")) == (0, True), result.output


@pytest.mark.parametrize("arguments", ["jobs list", "jobs retry 1", "jobs watch"])
async def test_missing_database_is_an_error_with_advice(invoke: Command, arguments: str) -> None:
    result = await invoke("jobfn", *arguments.split())
    assert (result.code, "no database is set: start `jobfn dev" in result.output) == (2, True)
    result = await invoke("jobfn", *arguments.split(), DATABASE_URL=f"postgresql://127.0.0.1:{free_port()}/x")
    assert (result.code, "cannot be reached" in result.output) == (1, True)


async def test_list_and_show_print_text_and_json(jobfn: Jobfn, jobs: Jobs) -> None:
    assert (await jobfn("jobs", "list")).output == "no matching jobs"
    for number in range(3):
        await jobs.add("send", {"n": number}, job_key=f"order-{number}")
    await jobs.claim()
    await jobs.connection.execute("select app_jobs.fail_job($1, 1, 'boom')", WORKER)
    await jobs.connection.execute("update app_jobs.jobs set run_at = now() + interval '1 h' where id = 1")
    first = await jobfn("jobs", "list", "--limit", "2")
    assert [line.split()[0] for line in first.output.splitlines()] == ["ID", "3", "2", "more:", "warning:"]
    waits = "warning: 2 jobs wait, but no worker is running: start `jobfn service` where the functions can be reached"
    for command in ("list", "stats"):
        assert waits in (await jobfn("jobs", command)).output
        assert "warning" not in (await jobfn("jobs", command, "--json")).output
    page = json.loads((await jobfn("jobs", "list", "--limit", "2", "--after", "2", "--json")).output)
    assert ([job["id"] for job in page["jobs"]], page["next"]) == ([1], None)
    matching = json.loads((await jobfn("jobs", "list", "--error", "BOOM", "-t", "send", "--json")).output)
    assert [(job["id"], job["state"], job["last_error"]) for job in matching["jobs"]] == [(1, "delayed", "boom")]
    text = (await jobfn("jobs", "show", "1")).output
    parts = ("job 1  send  delayed", "order-0", '"n": 0', "attempt 1 on", "boom", "failed, will be retried")
    for part in (*parts, "no traceback:"):
        assert part in text
    detail = json.loads((await jobfn("jobs", "show", "1", "--json")).output)
    assert (detail["payload"], [run["outcome"] for run in detail["runs"]]) == ('{"n": 0}', ["failed"])


async def test_explain_wait_prints_the_first_reason_or_all(jobfn: Jobfn, jobs: Jobs) -> None:
    job = await jobs.add("send")
    await jobs.connection.execute("update app_jobs.jobs set run_at = '2100-01-01' where id = $1", job)
    not_due = "not due until 2100-01-01 00:00:00 UTC"
    nobody = "no registered worker that is alive takes this task: there is none"
    assert (await jobfn("explain-wait", "1")).output == not_due
    assert (await jobfn("explain-wait", "1", "--all")).output.splitlines() == [not_due, nobody]
    assert json.loads((await jobfn("explain-wait", "1", "--json")).output) == [
        {"code": "not_due", "text": not_due, "since": None, "until": "2100-01-01T00:00:00+00:00", "job_ids": []}
    ]
    assert f"    waits       {not_due}\n" in (await jobfn("jobs", "show", "1")).output
    detail = json.loads((await jobfn("jobs", "show", "1", "--json")).output)
    assert detail["wait"]["code"] == "not_due"
    first, second = await jobs.add("paused", queue_name="q"), await jobs.add("send", queue_name="q")
    await jobs.connection.execute("select app_jobs.pause(task := 'paused')")
    assert (await jobfn("explain-wait", str(second), "--all")).output.splitlines() == [
        f"{nobody.replace('task', 'task from this queue')}",
        f"job {first} is ahead of it in the queue q, and is paused: task paused",
    ]


async def test_explain_wait_names_what_the_workers_of_other_processes_do(
    jobfn: Jobfn, jobs: Jobs, spawn: Spawn, database: str
) -> None:
    variables = {"JOBS_SUPPORT_ANY": "false", "KNATIVE_SERVICE_URL": f"http://127.0.0.1:{free_port()}"}
    for name, task in (("worker-1", "print"), ("worker-2", "fax")):
        worker = await spawn(
            *("jobfn", "service", "--only", "worker"),
            **variables,
            DATABASE_URL=database,
            HOSTNAME=name,
            JOBS_SUPPORTED=task,
            JOBS_HEALTH_PORT="0",
        )
        await worker.until("looking for jobs")
    await jobs.add("send")
    assert (await jobfn("explain-wait", "1")).output == (
        "no registered worker that is alive takes this task: worker-1 takes print; worker-2 takes fax"
    )
    await jobs.add("fax", queue_name="q")
    await jobs.add("fax", queue_name="q")

    async def reason() -> bool:
        (first,) = json.loads((await jobfn("explain-wait", "3", "--json")).output)
        text: str = first["text"]
        return text == "the queue q is held by job 2, which runs on worker-2"

    await eventually(reason, seconds=30)


async def test_completed_job_is_shown_from_history(jobfn: Jobfn, jobs: Jobs) -> None:
    await jobs.add("send")
    await jobs.claim()
    await jobs.connection.execute("select app_jobs.complete_job($1, 1)", WORKER)
    assert "the job was deleted; this is its history" in (await jobfn("jobs", "show", "1")).output
    rows = (await jobfn("jobs", "list", "--state", "completed")).output.splitlines()
    assert rows[1].split()[:3] == ["1", "completed", "send"]
    await jobs.connection.execute("select app_jobs.set_history_retention(0); truncate app_jobs.job_runs")
    result = await jobfn("jobs", "show", "1")
    assert (result.code, "there is no history" in result.output) == (1, True)


async def test_actions_on_ids_print_changed_and_skipped_jobs(jobfn: Jobfn, jobs: Jobs) -> None:
    await jobs.add("x")
    delayed = await jobs.add("x")
    await jobs.connection.execute("update app_jobs.jobs set run_at = now() + interval '1 d' where id = $1", delayed)
    cancelled = await jobfn("jobs", "cancel", "1", "--reason", "not wanted")
    assert (cancelled.code, cancelled.output) == (0, "cancelled 1 job")
    retried = await jobfn("jobs", "retry", "1", "2", "99", "--yes")
    assert retried.code == 4
    assert retried.output.splitlines() == [
        "retried 1 job",
        "skipped job 2: it has not permanently failed: it is delayed",
        "skipped job 99: it does not exist, or was completed or removed",
    ]
    assert (await jobfn("jobs", "run-now", "2")).output == "made due 1 job"
    removed = json.loads((await jobfn("jobs", "remove", "1", "2", "--yes", "--json")).output)
    assert (removed["action"], removed["done"], removed["ids"]) == ("remove", 2, [1, 2])
    assert await jobs.count() == 0


async def test_actions_on_a_filter_require_confirmation(jobfn: Jobfn, jobs: Jobs) -> None:
    await jobs.connection.execute(
        "insert into app_jobs.jobs (task_identifier, attempts, last_error)"
        " select 'x', 25, 'timeout ' || n from generate_series(1, 1200) n"
    )
    await jobs.add("y")
    unconfirmed = await jobfn("jobs", "retry", "--error", "timeout")
    assert (unconfirmed.code, "retry 1,200 jobs? Confirm with --yes" in unconfirmed.output) == (2, True)
    retried = await jobfn("jobs", "retry", "--error", "timeout", "--newer-than", "1h", "--yes")
    assert (retried.code, retried.output) == (0, "retried 1,200 jobs")
    none = await jobfn("jobs", "retry", "--error", "timeout", "--yes")
    assert (none.code, none.output) == (0, "retried 0 jobs")
    assert (await jobfn("jobs", "remove", "--task", "x", "--yes")).output == "removed 1,200 jobs"
    assert await jobs.count() == 1


Terminal = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def in_terminal(prefork: Path, database: str, tmp_path: Path) -> Terminal:
    """Run jobfn in a terminal and answer its question; return exit code and output."""

    async def run(*arguments: str, answer: bytes = b"", **env: str) -> tuple[int, str]:
        master, slave = os.openpty()
        variables = environment({"TERM": "xterm", "DATABASE_URL": database, **env})
        process = await fork_command(prefork, list(arguments), variables, tmp_path, terminal=slave)
        os.close(slave)
        os.write(master, answer)
        output = b""
        with contextlib.suppress(OSError):  # closed
            while data := await asyncio.to_thread(os.read, master, 65_536):
                output += data
        os.close(master)
        return await process.wait(), output.decode()

    return run


@pytest.mark.parametrize(("answer", "code", "count"), [(b"y\n", 0, 0), (b"n\n", 1, 1)])
async def test_terminal_asks_for_confirmation(
    in_terminal: Terminal, jobs: Jobs, answer: bytes, code: int, count: int
) -> None:
    await jobs.add("x")
    exit_code, output = await in_terminal("jobs", "remove", "--task", "x", answer=answer)
    assert "remove 1 job? [y/N]" in output
    assert (exit_code, await jobs.count()) == (code, count)


async def test_ctrl_c_at_the_question_changes_nothing(prefork: Path, database: str, jobs: Jobs, tmp_path: Path) -> None:
    await jobs.add("x")
    master, slave = os.openpty()
    variables = environment({"TERM": "xterm", "DATABASE_URL": database})
    process = await fork_command(prefork, ["jobs", "remove", "--task", "x"], variables, tmp_path, terminal=slave)

    async def reads_the_answer() -> bool:
        return psutil.Process(process.pid).status() == psutil.STATUS_SLEEPING

    os.close(slave)
    try:
        output = b""
        while b"[y/N]" not in output:
            output += await asyncio.to_thread(os.read, master, 65_536)
        await eventually(reads_the_answer)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(10):
            assert (await process.wait(), await jobs.count()) == (130, 1)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        os.close(master)


async def test_table_is_truncated_to_the_terminal(in_terminal: Terminal, jobs: Jobs) -> None:
    await jobs.add("x")
    await jobs.connection.execute("update app_jobs.jobs set last_error = repeat('long ', 100)")
    _, output = await in_terminal("jobs", "list", COLUMNS="60")
    assert all(len(line) <= 60 for line in output.splitlines() if not line.startswith("warning: "))
    assert "…" in output


async def test_stats_print_text_and_json(jobfn: Jobfn, jobs: Jobs) -> None:
    await jobs.add("send", queue_name="mail")
    await jobs.add("send")
    await jobs.claim()
    await jobs.connection.execute(
        "select app_jobs.complete_job($1, (select id from app_jobs.jobs where locked_by = $1))", WORKER
    )
    text = (await jobfn("jobs", "stats")).output
    assert text.startswith("ready 1   delayed 0   parked 0   running 0   failed 0")
    assert "last 60 minutes: 1 completed, 0 failed" in text
    stats = json.loads((await jobfn("jobs", "stats", "--json")).output)
    assert (stats["counts"]["ready"], len(stats["minutes"])) == (1, 60)


async def test_watch_refreshes_a_number_of_times(jobfn: Jobfn, in_terminal: Terminal, jobs: Jobs) -> None:
    await jobs.add("send")
    text = (await jobfn("jobs", "watch", "--times", "2", "--every", "0.1")).output
    assert text.count("ready 1") == 2
    await jobs.connection.execute("select app_jobs.pause(task := 'send', reason := 'outage')")
    code, output = await in_terminal("jobs", "watch", "--times", "1")
    assert (code, "ready 1" in output, "warning: paused: task send (outage)" in output) == (0, True, True)


async def test_watch_shows_new_jobs_after_an_outage_until_ctrl_c(database: str, spawn: Spawn, jobs: Jobs) -> None:
    proxy = FreezingProxy(database)
    async with proxy.serve():
        watch = await spawn("jobfn", "jobs", "watch", "--json", "--every", "0.1", DATABASE_URL=proxy.dsn)
        first = await jobs.add("send")
        await watch.until(f'"id": {first}')  # not the counts, which are cached
    await watch.until(" UTC  the connection to the database was lost")
    second = await jobs.add("send")
    async with proxy.serve(proxy.port):
        await watch.until(f'"id": {second}')
    watch.send(signal.SIGINT)
    assert await watch.wait(seconds=60) == 130


@pytest.mark.usefixtures("service_variables")
async def test_follow_exits_with_the_job_s_outcome(command: Command, database: str, jobs: Jobs) -> None:
    jobfn = functools.partial(command, "jobfn", DATABASE_URL=database)
    completed = await jobfn("enqueue", "greet", "--follow")
    assert (completed.code, "completed in attempt 1" in completed.output) == (0, True), completed.output
    failed = await jobfn("enqueue", "refuse", "-f")
    assert (failed.code, "permanently failed: no such customer" in failed.output) == (5, True), failed.output
    slow = await jobfn("enqueue", "forever", "-f", "--timeout", "0.5")
    assert (slow.code, "has not ended within 0.5 seconds" in slow.output) == (124, True), slow.output
    job = int(slow.output.splitlines()[0])
    assert await jobs.exists(job)
    following = asyncio.ensure_future(jobfn("enqueue", "forever", "-f"))

    async def locked_ids() -> list[int]:
        rows = await jobs.connection.fetch("select id from app_jobs.jobs where locked_at is not null and id > $1", job)
        return [row["id"] for row in rows]

    (second,) = await eventually(locked_ids)
    assert (await jobfn("jobs", "cancel", str(second), "--running", "--yes")).code == 0
    cancelled = await following
    assert (cancelled.code, f"job {second} was cancelled: cancelled by hand" in cancelled.output) == (5, True)


async def test_doctor_and_workers_show_a_running_service(
    jobfn: Jobfn, service_variables: dict[str, str], jobs: Jobs
) -> None:
    await jobs.until_gone(await jobs.add("greet"))
    variables = {name: value for name, value in service_variables.items() if name != "DATABASE_URL"}
    text = await jobfn("doctor", **variables)
    assert text.code == 0, text.output
    for check in ("database", "schema", "clocks", "worker", "callback URL", "function greet", "reports from"):
        assert f"ok       {check}" in text.output
    checks = json.loads((await jobfn("doctor", "--json", **variables)).output)
    assert {check["status"] for check in checks} == {"ok"}
    (worker,) = json.loads((await jobfn("workers", "--json")).output)
    assert (worker["id"], worker["is_alive"], worker["roles"]) == (WORKER, True, ["worker", "callbacks", "scheduler"])
    assert WORKER in (await jobfn("workers")).output


async def test_workers_without_a_service_say_what_to_start(jobfn: Jobfn) -> None:
    assert "start `jobfn service`" in (await jobfn("workers")).output


async def test_doctor_prints_errors_with_advice(jobfn: Jobfn, invoke: Command, empty_database: str, jobs: Jobs) -> None:
    await jobs.add("greet")
    result = await jobfn(
        "doctor", KNATIVE_SERVICE_URL=f"http://127.0.0.1:{free_port()}", JOBS_CALLBACK_HOST="127.0.0.1"
    )
    assert result.code == 3
    assert "error    worker: no worker is running" in result.output
    assert result.output.count("->") == result.output.count("error    ")
    result = await invoke("jobfn", "doctor", DATABASE_URL=empty_database)
    assert (result.code, "run `jobfn db migrate`" in result.output) == (3, True)
    result = await invoke("jobfn", "doctor", "--json", DATABASE_URL=f"postgresql://127.0.0.1:{free_port()}/x")
    assert (result.code, json.loads(result.output)[0]["status"]) == (3, "error")


async def test_completion_lists_tasks(jobfn: Jobfn, command: Command, jobs: Jobs) -> None:
    await jobs.add("send_email")
    await jobs.add("report")
    words = {"_JOBFN_COMPLETE": "complete_bash", "COMP_WORDS": "jobfn jobs list --task se", "COMP_CWORD": "4"}
    assert (await jobfn(**words)).output == "send_email"
    words |= {"COMP_WORDS": "jobfn enqueue ", "COMP_CWORD": "2"}
    assert (await jobfn(**words)).output.split() == ["report", "send_email"]
    assert (await command("jobfn", **words)).output == ""


async def test_command_list_imports_no_optional_modules(command: Command) -> None:
    code = "import jobfn.cli.app, sys; print([n for n in ('httpx', 'jobfn.operations.doctor') if n in sys.modules])"
    result = await command("python", "-c", code)
    assert (result.code, result.output) == (0, "[]")
