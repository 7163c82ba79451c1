"""``jobfn mcp`` as an assistant starts it: a process with standard input and output."""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

pytest.importorskip("mcp", reason="the MCP SDK is not installed: run make setup")

from mcp import Client, StdioServerParameters

from support.assistant import MODES, Assistant, Person
from support.commands import Command
from support.jobs import Jobs
from support.processes import JOBFN, environment


@contextlib.asynccontextmanager
async def session(
    database: str, *options: str, mode: str = "auto", person: Person | None = None
) -> AsyncIterator[Assistant]:
    """Start ``jobfn mcp`` and open a session."""
    parameters = StdioServerParameters(
        command=JOBFN, args=["mcp", *options], env=environment({"DATABASE_URL": database, "LOG_LEVEL": "debug"})
    )
    async with Client(
        parameters, mode=mode, elicitation_callback=None if person is None else person.answer, read_timeout_seconds=60
    ) as client:
        yield Assistant(client)


@pytest.mark.parametrize("mode", MODES)
async def test_assistant_looks_and_changes_over_standard_input(database: str, jobs: Jobs, mode: str) -> None:
    job = await jobs.add("mail")
    person = Person()
    async with session(database, mode=mode, person=person) as assistant:
        assert (await assistant.call("overview"))["ready"] == 1
        assert (await assistant.call("cancel_jobs", job_ids=[job]))["done"] == 1
    assert len(person.questions) == 1
    assert (await jobs.row(job))["last_error"] == "cancelled by hand"


async def test_two_assistants_see_the_same_jobs(database: str, jobs: Jobs) -> None:
    job = await jobs.add("mail")
    async with session(database) as first, session(database, "--read-only") as second:
        assert "cancel_jobs" not in await second.tools()
        assert (await second.call("show_job", job_id=job))["state"] == "ready"
        assert (await first.confirmed("remove_jobs", job_ids=[job]))["done"] == 1
        assert (await second.call("show_job", job_id=job))["timeline"][-1]["outcome"] == "removed"


async def test_payloads_are_refused_by_an_option(database: str, jobs: Jobs) -> None:
    job = await jobs.add("mail", {"to": "ada@example.com"})
    async with session(database, "--no-payloads") as assistant:
        refused = await assistant.error("show_job", job_id=job, with_payload=True)
    assert refused.startswith("payloads are not shown by this server")


@contextlib.asynccontextmanager
async def process(database: str) -> AsyncIterator[Process]:
    """Start ``jobfn mcp`` and wait until it serves, also after a line that is not JSON."""
    started = await asyncio.create_subprocess_exec(
        JOBFN, "mcp", env=environment({"DATABASE_URL": database}), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    try:
        assert started.stdin is not None
        assert started.stdout is not None
        started.stdin.write(b'hunter2\n{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
        async with asyncio.timeout(60):
            assert b'"id":1' in await started.stdout.readline()
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            started.kill()
        await started.wait()


async def test_process_ends_with_its_input(database: str) -> None:
    async with process(database) as started, asyncio.timeout(60):
        assert started.stdin is not None
        started.stdin.close()
        output, errors = await started.communicate()
    assert (started.returncode, output, errors) == (0, b"", b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_process_ends_with_a_signal_while_it_waits_for_input(database: str, number: signal.Signals) -> None:
    async with process(database) as started, asyncio.timeout(60):
        started.send_signal(number)
        assert await started.wait() == -number


async def test_terminal_shows_what_it_waits_for(database: str) -> None:
    master, slave = os.openpty()
    variables = environment({"DATABASE_URL": database})
    started = await asyncio.create_subprocess_exec(JOBFN, "mcp", env=variables, stdin=slave, stdout=PIPE, stderr=PIPE)
    try:
        assert started.stderr is not None
        async with asyncio.timeout(60):
            line = await started.stderr.readline()
        assert line.startswith(b"jobfn mcp waits for an assistant")
    finally:
        started.kill()
        await started.communicate()
        os.close(master)
        os.close(slave)


async def test_errors_at_the_start_are_one_line(invoke: Command, empty_database: str) -> None:
    result = await invoke("jobfn", "mcp")
    assert (result.code, result.output.partition(":")[0], result.output.count("\n")) == (2, "jobfn", 0)
    assert "no database is set" in result.output
    result = await invoke("jobfn", "mcp", DATABASE_URL=empty_database)
    assert (result.code, result.output.count("\n")) == (1, 0)
    assert "run `jobfn db migrate`" in result.output


async def test_missing_extra_is_named(tmp_path: Path, command: Command) -> None:
    (tmp_path / "mcp.py").write_text("raise ModuleNotFoundError(name='mcp')")
    code = "import sys; from jobfn.cli.app import run; sys.exit(run(['mcp']))"
    result = await command("python", "-c", code, PYTHONPATH=str(tmp_path))
    hint = "pip install 'jobfn[mcp] @ git+https://github.com/constructive-io/jobfn'"
    assert (result.code, result.output) == (2, f"jobfn: the MCP SDK is not installed: {hint} [J101]")
