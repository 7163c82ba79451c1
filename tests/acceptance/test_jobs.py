"""``jobfn jobs``, ``workers``, ``doctor`` and ``enqueue --follow``, as people and scripts run them."""

import asyncio
import json
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from support.commands import Command, Finished, RunningCommand, Spawn
from support.jobs import WORKER, Jobs
from support.network import eventually, free_port
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

Jobfn = Callable[..., Coroutine[Any, Any, Finished]]


@pytest.fixture
def jobfn(command: Command, database: str) -> Jobfn:
    """Run jobfn on ``database``, to its end."""

    async def run(*arguments: str, **env: str) -> Finished:
        return await command("jobfn", *arguments, DATABASE_URL=database, **env)

    return run


@pytest.fixture
async def running(spawn: Spawn, database: str, tmp_path: Path) -> dict[str, str]:
    """A function app and a service that run beside each other; the service's variables."""
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
    service: RunningCommand = await spawn("jobfn", "service", **variables)
    await service.until("looking for jobs")
    return variables


@pytest.mark.parametrize(
    "verb",
    [
        *("jobs list", "jobs show", "jobs retry", "jobs run-now", "jobs cancel", "jobs remove", "jobs stats"),
        *("jobs watch", "workers", "doctor"),
    ],
    ids=lambda verb: verb.replace(" ", "-"),
)
async def test_every_verb_has_help_with_an_example(verb: str, command: Command) -> None:
    """--help exits with 0 and shows a line to copy."""
    shown = await command("jobfn", *verb.split(), "--help")
    assert shown.code == 0
    assert f"jobfn {verb}" in shown.output
    assert "example" in shown.output


@pytest.mark.parametrize(
    ("line", "message", "code"),
    [
        ("jobs", "Usage: jobfn jobs", 2),
        ("jobs no-such-verb", "No such command 'no-such-verb'", 2),
        ("jobs list --state odd", "Invalid value for '--state' / '-s': 'odd' is not one of 'ready', 'delayed'", 2),
        ("jobs list --limit 0", "Invalid value for '--limit'", 2),
        ("jobs list --after x", "is no place to go on from", 2),
        ("jobs list --older-than soon", "--older-than 'soon' is no age: write 30s, 15m, 2h or 7d", 2),
        ("jobs list --database-id 7", "Invalid value for '--database-id'", 2),
        ("jobs show", "Missing argument", 2),
        ("jobs show x", "Invalid value for 'ID'", 2),
        ("jobs show 99", "there is no job 99: see `jobfn jobs list`", 1),
        ("jobs show 99999999999999999999999", "there is no job 99999999999999999999999", 1),
        ("jobs retry", "which jobs? Name ids, or a filter: jobfn jobs retry --task TASK", 2),
        ("jobs retry 1 --task x", "by their ids or by a filter, not by both", 2),
        ("jobs retry 1 --running", "go with `jobfn jobs cancel`", 2),
        ("jobs retry 1 --reason x", "go with `jobfn jobs cancel`", 2),
        ("jobs retry --state completed", "completed jobs are gone: there is nothing to retry", 2),
        ("jobs retry 1 2", "retry 2 jobs? Say --yes where nobody can be asked", 2),
        ("jobs remove 1", "remove 1 job? Say --yes where nobody can be asked", 2),
        ("jobs cancel 1 --running", "cancel 1 job? Say --yes where nobody can be asked", 2),
        ("jobs watch --every 0", "Invalid value for '--every'", 2),
        ("enqueue x --timeout 5", "--timeout goes with --follow", 2),
        ("jobs list --database-url nonsense", "is no database address", 2),
    ],
)
async def test_wrong_use_is_one_clear_line(jobfn: Jobfn, jobs: Jobs, line: str, message: str, code: int) -> None:
    """With the exit code that says whose fault it was; no job was touched."""
    job = await jobs.add("x")
    before = await jobs.row(job)
    ended = await jobfn(*line.split(" "))
    assert message in ended.output
    assert ended.code == code
    assert "Traceback" not in ended.output
    assert "Value error" not in ended.output
    assert await jobs.row(job) == before


@pytest.mark.parametrize("verb", ["jobs list --json", "jobs watch --json --every 0.1"])
async def test_a_reader_that_has_read_enough_is_no_failure(
    verb: str, command: Command, database: str, jobs: Jobs
) -> None:
    """``| head -1`` in a script that minds its pipes."""
    await jobs.add("x")
    ended = await command("bash", "-o", "pipefail", "-c", f"{JOBFN} {verb} | head -1", DATABASE_URL=database)
    assert (ended.code, ended.output.startswith("{")) == (0, True), ended.output


@pytest.mark.parametrize("verb", ["jobs list", "jobs stats", "workers", "jobs retry 1", "jobs watch"])
async def test_without_a_database(command: Command, verb: str) -> None:
    """One line with what to do."""
    ended = await command("jobfn", *verb.split())
    assert (ended.code, "no database: start `jobfn dev" in ended.output) == (2, True)
    away = await command("jobfn", *verb.split(), DATABASE_URL=f"postgresql://127.0.0.1:{free_port()}/x")
    assert (away.code, "cannot be reached" in away.output) == (1, True)


async def test_listing_and_showing(jobfn: Jobfn, jobs: Jobs) -> None:
    """As lines and as JSON, page after page."""
    assert (await jobfn("jobs", "list")).output == "no job fits"
    for number in range(3):
        await jobs.add("send", {"n": number}, job_key=f"order-{number}")
    await jobs.claim()
    await jobs.connection.execute("select app_jobs.fail_job($1, 1, 'boom')", WORKER)
    await jobs.connection.execute("update app_jobs.jobs set run_at = now() + interval '1 h' where id = 1")
    first = await jobfn("jobs", "list", "--limit", "2")
    assert [line.split()[0] for line in first.output.splitlines()] == ["ID", "3", "2", "more:"]
    page = json.loads((await jobfn("jobs", "list", "--limit", "2", "--after", "2", "--json")).output)
    assert ([job["id"] for job in page["jobs"]], page["next"]) == ([1], None)
    found = json.loads((await jobfn("jobs", "list", "--error", "BOOM", "-t", "send", "--json")).output)
    assert [(job["id"], job["state"], job["last_error"]) for job in found["jobs"]] == [(1, "delayed", "boom")]
    shown = await jobfn("jobs", "show", "1")
    assert shown.code == 0
    for part in ("job 1  send  delayed", "order-0", '"n": 0', "attempt 1 on", "boom", "failed, to be tried again"):
        assert part in shown.output
    detail = json.loads((await jobfn("jobs", "show", "1", "--json")).output)
    assert (detail["payload"], [run["outcome"] for run in detail["runs"]]) == ('{"n": 0}', ["failed"])


async def test_a_completed_job_is_shown_from_history(jobfn: Jobfn, jobs: Jobs) -> None:
    """And not where no history is kept."""
    await jobs.add("send")
    await jobs.claim()
    await jobs.connection.execute("select app_jobs.complete_job($1, 1)", WORKER)
    assert "its row is gone; this is what history has kept" in (await jobfn("jobs", "show", "1")).output
    assert (await jobfn("jobs", "list", "--state", "completed")).output.splitlines()[1].split()[:3] == [
        "1",
        "completed",
        "send",
    ]
    await jobs.connection.execute("select app_jobs.set_history_days(0); truncate app_jobs.job_runs")
    gone = await jobfn("jobs", "show", "1")
    assert (gone.code, "no history is kept" in gone.output) == (1, True)


async def test_acting_on_ids(jobfn: Jobfn, jobs: Jobs) -> None:
    """Cancel, retry, run now, remove: what was done, what was left and why, and 4 where something was."""
    await jobs.add("x")
    delayed = await jobs.add("x")
    await jobs.connection.execute("update app_jobs.jobs set run_at = now() + interval '1 d' where id = $1", delayed)
    cancelled = await jobfn("jobs", "cancel", "1", "--reason", "not wanted")
    assert (cancelled.code, cancelled.output) == (0, "cancelled 1 job")
    retried = await jobfn("jobs", "retry", "1", "2", "99", "--yes")
    assert retried.code == 4
    assert retried.output.splitlines() == [
        "retried 1 job",
        "left job 2: it has not failed for good: it waits for its time",
        "left job 99: there is no such job (any more)",
    ]
    assert (await jobfn("jobs", "run-now", "2")).output == "made due 1 job"
    removed = json.loads((await jobfn("jobs", "remove", "1", "2", "--yes", "--json")).output)
    assert (removed["action"], removed["done"], removed["ids"]) == ("remove", 2, [1, 2])
    assert await jobs.count() == 0


async def test_acting_on_all_that_fit(jobfn: Jobfn, jobs: Jobs) -> None:
    """By task, error and age; nothing that fits is no error; where nobody can be asked, only with --yes."""
    await jobs.connection.execute(
        "insert into app_jobs.jobs (task_identifier, attempts, last_error)"
        " select 'x', 25, 'timeout ' || n from generate_series(1, 1200) n"
    )
    await jobs.add("y")
    asked = await jobfn("jobs", "retry", "--error", "timeout")
    assert (asked.code, "retry 1,200 jobs? Say --yes" in asked.output) == (2, True)
    done = await jobfn("jobs", "retry", "--error", "timeout", "--newer-than", "1h", "--yes")
    assert (done.code, done.output) == (0, "retried 1,200 jobs")
    none = await jobfn("jobs", "retry", "--error", "timeout", "--yes")
    assert (none.code, none.output) == (0, "retried 0 jobs")
    assert (await jobfn("jobs", "remove", "--task", "x", "--yes")).output == "removed 1,200 jobs"
    assert await jobs.count() == 1


async def in_terminal(*arguments: str, answer: str, **env: str) -> tuple[int, str]:
    """Run jobfn in a terminal of its own and answer its question; returns exit code and what it showed."""
    ours, its = os.openpty()
    process = await asyncio.create_subprocess_exec(
        JOBFN, *arguments, stdin=its, stdout=its, stderr=its, env=environment({"TERM": "xterm", **env})
    )
    os.close(its)
    loop, shown, ended = asyncio.get_running_loop(), bytearray(), asyncio.Event()
    answered = False

    def read() -> None:
        nonlocal answered
        try:
            part = os.read(ours, 65_536)
        except OSError:
            part = b""
        if not part:
            loop.remove_reader(ours)
            ended.set()
        shown.extend(part)
        if b"[y/N]" in shown and not answered:
            answered = True
            os.write(ours, answer.encode() + b"\n")

    loop.add_reader(ours, read)
    async with asyncio.timeout(60):
        code = await process.wait()
        await ended.wait()
    os.close(ours)
    return code, shown.decode()


@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, 0), ("n", 1, 1), ("", 1, 1)])
async def test_in_a_terminal_it_asks(database: str, jobs: Jobs, answer: str, code: int, left: int) -> None:
    """And does nothing without a yes."""
    await jobs.add("x")
    ended, shown = await in_terminal("jobs", "remove", "--task", "x", answer=answer, DATABASE_URL=database)
    assert "remove 1 job? [y/N]" in shown
    assert (ended, await jobs.count()) == (code, left)


async def test_a_table_is_cut_to_the_terminal(database: str, jobs: Jobs) -> None:
    """Long errors do not wrap; what is piped is whole."""
    await jobs.add("x")
    await jobs.connection.execute("update app_jobs.jobs set last_error = repeat('long ', 100)")
    _, shown = await in_terminal("jobs", "list", answer="", DATABASE_URL=database, COLUMNS="60")
    assert all(len(line) <= 60 for line in shown.splitlines())
    assert "…" in shown


async def test_stats(jobfn: Jobfn, jobs: Jobs) -> None:
    """By state, task and queue, and the last hour; as JSON all of it."""
    await jobs.add("send", queue_name="mail")
    await jobs.add("send")
    await jobs.claim()
    await jobs.connection.execute(
        "select app_jobs.complete_job($1, (select id from app_jobs.jobs where locked_by = $1))", WORKER
    )
    text = (await jobfn("jobs", "stats")).output
    assert text.startswith("ready 1   delayed 0   running 0   failed 0")
    assert "last 60 minutes: 1 completed, 0 failed" in text
    found = json.loads((await jobfn("jobs", "stats", "--json")).output)
    assert (found["counts"]["ready"], len(found["minutes"])) == (1, 60)


async def test_watching(jobfn: Jobfn, spawn: Spawn, database: str, jobs: Jobs) -> None:
    """Look after look; with --json a line each; in a terminal in place."""
    await jobs.add("send")
    twice = await jobfn("jobs", "watch", "--times", "2", "--every", "0.1")
    assert twice.output.count("ready 1") == 2
    lines = (await jobfn("jobs", "watch", "--times", "2", "--every", "0.1", "--json", "--task", "send")).output
    assert [json.loads(line)["counts"]["ready"] for line in lines.splitlines()] == [1, 1]
    code, shown = await in_terminal("jobs", "watch", "--times", "1", answer="", DATABASE_URL=database)
    assert (code, "ready 1" in shown) == (0, True)
    watching = await spawn("jobfn", "jobs", "watch", "--json", "--every", "0.1", DATABASE_URL=database)
    await watching.until('"ready": 1')
    await jobs.add("send")
    await watching.until('"ready": 2')
    watching.process.send_signal(2)
    assert await watching.ended() == 130


async def test_following_a_job(jobfn: Jobfn, running: dict[str, str], jobs: Jobs) -> None:
    """0 when it is done, 5 when it failed for good, 124 when it takes too long; standard output has the id alone."""
    done = await jobfn("enqueue", "greet", "--follow")
    assert done.code == 0, done.output
    assert "completed in attempt 1" in done.output
    failed = await jobfn("enqueue", "refuse", "-f")
    assert failed.code == 5
    assert "failed for good: no such customer" in failed.output
    slow = await jobfn("enqueue", "forever", "-f", "--timeout", "0.5")
    assert slow.code == 124
    assert "has not ended after 0.5 seconds: it goes on" in slow.output
    job = int(slow.output.splitlines()[0])
    assert await jobs.row(job) is not None
    following = asyncio.create_task(jobfn("enqueue", "forever", "-f"))

    async def held() -> list[int]:
        rows = await jobs.connection.fetch("select id from app_jobs.jobs where locked_at is not null and id > $1", job)
        return [row["id"] for row in rows]

    (second,) = await eventually(held)
    assert (await jobfn("jobs", "cancel", str(second), "--running", "--yes")).code == 0
    cancelled = await following
    assert (cancelled.code, f"job {second} was cancelled: cancelled by hand" in cancelled.output) == (5, True)


async def test_workers(jobfn: Jobfn, running: dict[str, str]) -> None:
    """The service is there with its parts; as JSON too."""

    async def listed() -> list[Any]:
        return list(json.loads((await jobfn("workers", "--json")).output))

    (worker,) = await eventually(listed)
    assert (worker["id"], worker["is_alive"], worker["parts"]) == (WORKER, True, ["worker", "callbacks", "scheduler"])
    assert WORKER in (await jobfn("workers")).output


async def test_no_workers(jobfn: Jobfn) -> None:
    """Says what to start."""
    assert "start `jobfn service`" in (await jobfn("workers")).output


async def test_doctor_finds_all_in_order(jobfn: Jobfn, running: dict[str, str], jobs: Jobs) -> None:
    """With the service's environment: every line is ok, exit code 0."""
    await jobs.until_gone(await jobs.add("greet"))
    others = {name: value for name, value in running.items() if name != "DATABASE_URL"}
    ended = await jobfn("doctor", **others)
    assert ended.code == 0, ended.output
    assert all(line.startswith("ok  ") for line in ended.output.splitlines())
    for check in ("database", "schema", "clocks", "worker", "callback URL", "function greet", "reports from"):
        assert f"ok  {check}" in ended.output
    checks = json.loads((await jobfn("doctor", "--json", **others)).output)
    assert {check["verdict"] for check in checks} == {"good"}


async def test_doctor_finds_what_is_wrong(jobfn: Jobfn, command: Command, empty_database: str, jobs: Jobs) -> None:
    """Exit code 3, and after each finding what to do; no traceback whatever is missing."""
    await jobs.add("greet")
    ended = await jobfn("doctor", KNATIVE_SERVICE_URL=f"http://127.0.0.1:{free_port()}", JOBS_CALLBACK_HOST="127.0.0.1")
    assert ended.code == 3
    assert "NO  worker: no worker takes jobs" in ended.output
    assert ended.output.count("->") == ended.output.count("NO  ")
    bare = await command("jobfn", "doctor", DATABASE_URL=empty_database)
    assert (bare.code, "run `jobfn db migrate`" in bare.output) == (3, True)
    away = await command("jobfn", "doctor", "--json", DATABASE_URL=f"postgresql://127.0.0.1:{free_port()}/x")
    assert (away.code, json.loads(away.output)[0]["verdict"]) == (3, "bad")


async def test_completion_knows_the_tasks(jobfn: Jobfn, command: Command, jobs: Jobs) -> None:
    """In a shell, after --task and for enqueue; without a database it knows none, and says nothing."""
    await jobs.add("send_email")
    await jobs.add("report")
    words = {"_JOBFN_COMPLETE": "complete_bash", "COMP_WORDS": "jobfn jobs list --task se", "COMP_CWORD": "4"}
    assert (await jobfn(**words)).output == "send_email"
    words |= {"COMP_WORDS": "jobfn enqueue ", "COMP_CWORD": "2"}
    assert (await jobfn(**words)).output.split() == ["report", "send_email"]
    assert (await command("jobfn", **words)).output == ""
    assert "install-completion" in (await command("jobfn", "--help")).output


async def test_commands_start_without_what_they_do_not_need(command: Command) -> None:
    """The list of verbs loads neither httpx nor what only doctor needs: completion is to be quick."""
    code = "import jobfn.cli.app, sys; print([n for n in ('httpx', 'jobfn.operations.doctor') if n in sys.modules])"
    ended = await command("python", "-c", code)
    assert (ended.code, ended.output) == (0, "[]")
