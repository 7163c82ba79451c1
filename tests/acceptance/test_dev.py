"""``jobfn dev``."""

import getpass
import json
import os
import shlex
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import asyncpg
import httpx
import psutil
import pytest

from jobfn.devserver.postgres import folder_for
from jobfn.devserver.state import DevState
from support.commands import Command, RunningCommand, Spawn
from support.jobs import Jobs

#: The first line, which comes before slow imports.
STARTING = "starting jobfn dev\n"
FUNCTIONS = dedent(
    """
    from jobfn import JobContext, task
    from jobfn.payloads import RowId

    @task("process_invoice")
    async def process_invoice(payload: RowId, ctx: JobContext) -> dict:
        ctx.log.info("charging", invoice=payload.id)
        return {"charged": True}
    """
)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    yield tmp_path
    shutil.rmtree(folder_for(tmp_path), ignore_errors=True)  # for root it is outside of tmp_path


def dev_state(project: Path) -> DevState:
    state = DevState.find(project)
    assert state is not None
    return state


async def start_dev(spawn: Spawn, *options: str, **env: str) -> RunningCommand:
    running = await spawn("jobfn", "dev", "functions.py", "--port", "0", *options, **env)
    await running.until("jobfn dev is running")
    await running.until('"serving"')
    return running


async def test_dev_with_embedded_postgres_runs_a_job_and_stops_clean(
    project: Path, spawn: Spawn, command: Command
) -> None:
    dev = await start_dev(spawn, XDG_STATE_HOME=str(project / "state"))
    hint = shlex.split(await dev.until("jobfn enqueue process_invoice '"))
    added = await command("jobfn", *hint[1:])
    assert added.code == 0, added.output
    charged = json.loads(await dev.until('"charging"'))
    assert (charged["invoice"], charged["job"], charged["attempt"]) == ("string", int(added.output), 1)
    listed = await command("jobfn", "dev", "--list", XDG_STATE_HOME=str(project / "state"))
    assert (str(project) in listed.output, "running" in listed.output) == (True, True)
    await dev.until('"job done"')
    status = await command("jobfn", "db", "status")
    assert (status.code, "installed by jobfn" in status.output) == (0, True)

    state = dev_state(project)
    async with httpx.AsyncClient(timeout=30) as client:
        tasks = (await client.get(f"{state.function_url}/")).json()["tasks"]
        assert [task["identifier"] for task in tasks] == ["process_invoice"]
        assert (await client.post(state.callback_url)).json() == "OK"

    children = psutil.Process(dev.process.pid).children(recursive=True)
    postgres = folder_for(project)
    assert (postgres / "postmaster.pid").exists()
    dev.send(signal.SIGINT)
    assert await dev.wait() == 0
    assert DevState.find(project) is None
    assert not (postgres / "postmaster.pid").exists()
    assert psutil.wait_procs(children, timeout=5)[1] == []


async def test_save_reloads_the_function_and_jobs_wait_for_broken_files(
    project: Path, database: str, spawn: Spawn, command: Command, jobs: Jobs
) -> None:
    dev = await start_dev(spawn, "--database-url", database)
    (project / "functions.py").write_text(FUNCTIONS.replace('"charging"', '"charging again"'))
    await dev.until('"serving"', times=2)
    await jobs.until_gone(await jobs.add("process_invoice", {"id": 1}))
    await dev.until('"charging again"')

    (project / "functions.py").write_text("def (:\n")
    await dev.until("functions.py:1: SyntaxError")
    job = await jobs.add("process_invoice", {"id": 2})
    await jobs.until_claimed(job)
    (project / "functions.py").write_text(FUNCTIONS)
    await jobs.until_gone(job)
    await dev.until('"charging"')


async def test_save_syncs_the_options_of_the_task(project: Path, database: str, spawn: Spawn, jobs: Jobs) -> None:
    dev = await start_dev(spawn, "--database-url", database)
    saved = FUNCTIONS.replace('@task("process_invoice"', '@task("process_invoice", queue="charges", concurrency=2')
    assert saved != FUNCTIONS
    (project / "functions.py").write_text(saved)
    synced = json.loads(await dev.until('"options of task synced"'))
    assert (synced["task"], synced["change"]) == ("process_invoice", "add")
    assert await jobs.connection.fetchval("select queue_name from app_jobs.task_settings") == "charges"
    assert await jobs.connection.fetchval("select concurrency from app_jobs.limits") == 2
    (project / "functions.py").write_text(FUNCTIONS)
    synced = json.loads(await dev.until('"options of task synced"', times=2))
    assert synced["change"] == "remove"
    rows = await jobs.connection.fetch("select action, source, actor from app_jobs.audit_log order by id")
    assert [row["action"] for row in rows] == ["set_task", "set_limit", "set_task", "remove_limit"]
    me = f"{getpass.getuser()}@{socket.gethostname()}"
    assert {(row["source"], row["actor"]) for row in rows} == {("cli", me)}


async def test_database_url_is_migrated_and_left_without_locks(
    project: Path, empty_database: str, spawn: Spawn
) -> None:
    enqueue = ("--enqueue", "process_invoice", '{"id": 7}')
    # JOBS_DATABASES names the databases of a service, which dev must not touch
    dev = await start_dev(spawn, "--database-url", empty_database, *enqueue, JOBS_DATABASES="production")
    await dev.until('"job done"')
    dev.send(signal.SIGTERM)
    assert await dev.wait() == 0
    connection = await asyncpg.connect(empty_database)
    try:
        assert await connection.fetchval("select count(*) from app_jobs.jobs") == 0
    finally:
        await connection.close()


async def test_function_ends_when_dev_is_killed(project: Path, database: str, spawn: Spawn) -> None:
    dev = await start_dev(spawn, "--database-url", database)
    (child,) = [
        process for process in psutil.Process(dev.process.pid).children() if "jobfn.function" in process.cmdline()
    ]
    dev.send(signal.SIGKILL)
    await dev.wait()
    assert psutil.wait_procs([child], timeout=10)[1] == []
    assert DevState.find(project) is None


async def test_ctrl_c_waits_for_a_job_of_a_starting_function(
    project: Path, database: str, spawn: Spawn, jobs: Jobs
) -> None:
    """Ctrl-C reaches the whole process group of the terminal."""
    waits = "import pathlib\nprint('importing', flush=True)\nwhile not pathlib.Path('go').exists(): pass\n"
    (project / "functions.py").write_text(waits + FUNCTIONS)
    start_group = "import os, sys; os.setpgid(0, 0); os.execv(sys.argv[1], sys.argv[1:])"
    options = ("--port", "0", "--enqueue", "process_invoice", '{"id": 7}', "--database-url", database)
    dev = await spawn("python", "-c", start_group, "jobfn", "dev", "functions.py", *options)
    await dev.until("importing")
    added = await dev.until("added job")
    await jobs.until_claimed(int(added.split()[2].rstrip(":")))
    os.killpg(dev.process.pid, signal.SIGINT)
    (project / "go").touch()
    await dev.until('"job done"', seconds=15)
    assert await dev.wait(seconds=15) == 0
    assert not [line for line in dev.lines if "KeyboardInterrupt" in line]


async def test_broken_file_without_reload_ends_dev(
    project: Path, database: str, spawn: Spawn, command: Command
) -> None:
    (project / "functions.py").write_text("def (:\n")
    dev = ("jobfn", "dev", "functions.py", "--no-reload", "--port", "0")
    result = await command(*dev, "--database-url", database)
    assert result.code == 2
    assert "functions.py:1: SyntaxError" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("variable", "option"),
    [("DATABASE_URL", '--database-url "$DATABASE_URL"'), ("PGDATABASE", "--database-url postgresql://")],
)
async def test_dev_does_not_touch_a_database_that_only_the_environment_names(
    project: Path, empty_database: str, command: Command, variable: str, option: str
) -> None:
    address = {"DATABASE_URL": empty_database, "PGDATABASE": "shop"}[variable]
    result = await command("jobfn", "dev", "functions.py", "--port", "0", **{variable: address})
    assert result.code == 2
    assert result.output.removeprefix(STARTING).startswith(
        f"jobfn: {variable} names a database, which jobfn dev would migrate and run jobs on:"
    )
    assert f"pass {option} if it is a test database, or unset {variable} for an embedded PostgreSQL" in result.output
    connection = await asyncpg.connect(empty_database)
    try:
        assert await connection.fetchval("select to_regnamespace('app_jobs')") is None
    finally:
        await connection.close()


async def test_second_dev_in_a_folder_names_the_first(
    project: Path, database: str, spawn: Spawn, command: Command
) -> None:
    await start_dev(spawn, "--database-url", database)
    first = dev_state(project)
    second = await command("jobfn", "dev", "functions.py", "--port", "0", "--database-url", database)
    assert second.code == 2
    assert second.output.removeprefix(STARTING) == (
        f"jobfn: jobfn dev already runs in this folder (process {first.pid}, {first.function_url}/): "
        "stop it first, or start this one in another folder [J101]"
    )
    assert dev_state(project) == first


async def test_dev_of_two_folders_have_different_worker_ids(project: Path, database: str, spawn: Spawn) -> None:
    other = project / "other"
    other.mkdir()
    (other / "functions.py").write_text(FUNCTIONS)
    await start_dev(spawn, "--database-url", database)
    await start_dev(spawn, "--database-url", database, PWD=str(other))
    connection = await asyncpg.connect(database)
    try:
        assert await connection.fetchval("select count(distinct worker_id) from app_jobs.workers") == 2
    finally:
        await connection.close()


@pytest.mark.parametrize("option", ["--port", "--callback-port", "--dashboard-port"])
async def test_taken_port_names_the_option(project: Path, database: str, command: Command, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        ports = {"--port": "0", option: port}
        options = [word for pair in ports.items() for word in pair]
        result = await command("jobfn", "dev", "functions.py", *options, "--database-url", database)
    assert result.code == 2
    assert result.output.removeprefix(STARTING) == (
        f"jobfn: cannot listen on 127.0.0.1:{port}: Address already in use. "
        f"Stop the process that uses it, or choose another port with {option} [J101]"
    )
