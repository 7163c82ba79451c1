"""jobfn as its users run it: commands in processes of their own. A plugin of tests/conftest.py."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.commands import Command, Finished, Spawn

JOBFN = str(Path(sys.executable).with_name("jobfn"))


@dataclass
class Running:
    """A command that runs, and what it has said so far."""

    process: Process
    lines: list[str] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        """Collect its output until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._changed:
                self.lines.append(line.decode().rstrip())
                self._changed.notify_all()
        async with self._changed:
            self._changed.notify_all()

    async def until(self, text: str, *, times: int = 1, seconds: float = 30.0) -> str:
        """Wait until so many lines hold this text; returns the last of them."""

        def found() -> list[str]:
            return [line for line in self.lines if text in line]

        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: len(found()) >= times)
        except TimeoutError:
            raise AssertionError(f"{text!r} was not said {times} times in:\n" + "\n".join(self.lines)) from None
        return found()[times - 1]

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def ended(self, *, seconds: float = 30.0) -> int:
        """Wait for its end, and until all it said is read; returns the exit code."""
        async with asyncio.timeout(seconds):
            await asyncio.shield(self.reading)
            return await self.process.wait()


def environment(extra: dict[str, str]) -> dict[str, str]:
    """The test's environment without what jobfn, or the make around the tests, has in it; and these on top."""
    ours = ("JOBS_", "JOBFN_", "INTERNAL_", "KNATIVE_", "PG", "K_", "MAKE", "MFLAGS")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(ours) and name not in {"DATABASE_URL", "HOSTNAME", "PORT", "LOG_LEVEL"}
    }
    return kept | extra


@pytest.fixture
async def spawn(tmp_path: Path) -> AsyncIterator[Spawn]:
    """Start a command in ``tmp_path``, or in its ``PWD``; what still runs at the end of the test is ended."""
    started: list[Running] = []

    async def start(*command: str, **env: str) -> Running:
        process = await asyncio.create_subprocess_exec(
            *(JOBFN if part == "jobfn" else sys.executable if part == "python" else part for part in command),
            env=environment(env),
            cwd=env.get("PWD", tmp_path),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
        )
        running = Running(process)
        started.append(running)
        return running

    yield start
    for running in reversed(started):
        with contextlib.suppress(ProcessLookupError):
            running.process.send_signal(signal.SIGTERM)
        try:
            await running.ended(seconds=15)
        except TimeoutError:
            running.process.kill()
            await running.ended()


@pytest.fixture
def command(spawn: Spawn) -> Command:
    """Run a command to its end."""

    async def run(*arguments: str, **env: str) -> Finished:
        running = await spawn(*arguments, **env)
        code = await running.ended(seconds=60)
        return Finished(code, "\n".join(running.lines))

    return run
