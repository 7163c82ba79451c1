"""Fixtures that run commands, in processes as users do or in this one. A plugin of ``tests/conftest.py``."""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from jobfn.cli.app import run as run_command_line
from jobfn.telemetry import logs
from support.commands import Command, CommandResult, RunningCommand, Spawn
from support.prefork import fork_command

JOBFN = str(Path(sys.executable).with_name("jobfn"))
_SUPPORT = str(Path(__file__).parents[1])


def environment(extra: dict[str, str]) -> dict[str, str]:
    """Return the test's environment without variables of jobfn or make, and with ``extra``."""
    prefixes = ("JOBS_", "JOBFN_", "INTERNAL_", "KNATIVE_", "PG", "K_", "MAKE", "MFLAGS")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(prefixes) and name not in {"DATABASE_URL", "HOSTNAME", "PORT", "LOG_LEVEL"}
    }
    return kept | extra


@pytest.fixture(scope="session")
def prefork(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the socket of a process that forks ``jobfn`` commands."""
    address = tmp_path_factory.mktemp("prefork") / "socket"
    command = [sys.executable, "-m", "support.prefork", str(address)]
    with subprocess.Popen(command, env=environment({"PYTHONPATH": _SUPPORT}), stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield address
        server.terminate()


@pytest.fixture
async def spawn(tmp_path: Path, prefork: Path) -> AsyncIterator[Spawn]:
    """Start a command in ``tmp_path`` or in ``PWD``; end it after the test."""
    commands: list[RunningCommand] = []

    async def start(*command: str, **env: str) -> RunningCommand:
        folder = Path(env.get("PWD", tmp_path))
        if command[0] == "jobfn":
            running = RunningCommand(await fork_command(prefork, list(command[1:]), environment(env), folder))
        else:
            process = await asyncio.create_subprocess_exec(
                *(JOBFN if part == "jobfn" else sys.executable if part == "python" else part for part in command),
                env=environment(env),
                cwd=folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=PIPE,
                stderr=STDOUT,
            )
            running = RunningCommand(process)
        commands.append(running)
        return running

    yield start
    for running in reversed(commands):
        with contextlib.suppress(ProcessLookupError):
            running.send(signal.SIGTERM)
    for running in commands:
        try:
            await running.wait(seconds=15)
        except TimeoutError:
            running.process.kill()
            await running.wait()


@pytest.fixture
def command(spawn: Spawn) -> Command:
    """Run a command to its end."""

    async def run(*arguments: str, **env: str) -> CommandResult:
        running = await spawn(*arguments, **env)
        code = await running.wait(seconds=60)
        return CommandResult(code, "\n".join(running.lines))

    return run


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Run a ``jobfn`` command that ends by itself in this process: much faster, but one at a time."""
    monkeypatch.chdir(tmp_path)
    modules, path = set(sys.modules), sys.path[:]

    async def run(*command: str, **env: str) -> CommandResult:
        assert command[0] == "jobfn"
        variables = environment(env)
        with monkeypatch.context() as patch:
            for name in os.environ.keys() - variables.keys():
                patch.delenv(name)
            for name, value in variables.items():
                patch.setenv(name, value)
            try:
                code = await asyncio.to_thread(run_command_line, command[1:])
            except SystemExit as exit_:  # shell completion
                code = int(exit_.code or 0)
        captured = capfd.readouterr()
        return CommandResult(code, (captured.out + captured.err).removesuffix("\n"))

    yield run
    sys.path[:] = path
    for name in sys.modules.keys() - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def undo_logging() -> Iterator[None]:
    """Undo ``logs.configure``, whose stream may be closed when the test has ended."""
    root, config = logging.getLogger(), structlog.get_config()
    loggers = [root, *(logging.getLogger(name) for name in logs.NOISY_LOGGERS)]
    handlers, levels = root.handlers[:], [logger.level for logger in loggers]
    yield
    logs.apply_config()
    structlog.configure(**config)
    root.handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
