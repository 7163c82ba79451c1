"""Commands that tests run in processes of their own, and the types of the fixtures that start them."""

import asyncio
import signal
from asyncio.subprocess import Process
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Protocol

from support.network import free_port
from support.prefork import ForkedProcess


@dataclass
class RunningCommand:
    """A running command and the lines that it has printed."""

    process: Process | ForkedProcess
    lines: list[str] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._changed:
                self.lines.append(line.decode().rstrip())
                self._changed.notify_all()

    async def until(self, text: str, *, times: int = 1, seconds: float = 30.0) -> str:
        """Wait until ``times`` lines contain the text; return the last of them."""

        def matches() -> list[str]:
            return [line for line in self.lines if text in line]

        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: len(matches()) >= times)
        except TimeoutError:
            raise AssertionError(f"{text!r} was not printed {times} times in:\n" + "\n".join(self.lines)) from None
        return matches()[times - 1]

    def send(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        self.process.send_signal(number)

    async def wait(self, *, seconds: float = 30.0) -> int:
        """Wait until the process has ended and its output is read; return the exit code."""
        async with asyncio.timeout(seconds):
            await asyncio.shield(self._reading)
            return await self.process.wait()


class Spawn(Protocol):
    """The fixture ``spawn``: starts a command in ``tmp_path``, or in the folder ``PWD``.

    ``jobfn`` and ``python`` are those of this environment.
    """

    def __call__(self, *command: str, **env: str) -> Awaitable[RunningCommand]: ...


@dataclass(frozen=True)
class CommandResult:
    """The exit code and the output (both streams) of a command that has ended."""

    code: int
    output: str


class Command(Protocol):
    """The fixture ``command``: runs a command to its end."""

    def __call__(self, *command: str, **env: str) -> Awaitable[CommandResult]: ...


async def spawn_two_workers(spawn: Spawn, database: str, url: str, **variables: str) -> None:
    """Start two services, each a worker and callback server in a separate process, for the function at the URL."""
    for number in (1, 2):
        port = free_port()
        await spawn(
            *("jobfn", "service", "--only", "worker", "--only", "callbacks"),
            DATABASE_URL=database,
            HOSTNAME=f"worker-{number}",
            KNATIVE_SERVICE_URL=url,
            INTERNAL_JOBS_CALLBACK_PORT=str(port),
            INTERNAL_JOBS_CALLBACK_URL=f"http://127.0.0.1:{port}/callback",
            **variables,
        )
