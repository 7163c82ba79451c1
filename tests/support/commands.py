"""Types of the fixtures that run commands."""

import asyncio
import signal
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol


class RunningCommand(Protocol):
    """A command that runs, and what it has said so far."""

    lines: list[str]
    process: asyncio.subprocess.Process

    async def until(self, text: str, *, times: int = 1, seconds: float = 30.0) -> str:
        """Wait until so many lines hold this text; returns the last of them."""

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""

    async def ended(self, *, seconds: float = 30.0) -> int:
        """Wait for its end; returns the exit code."""


class Spawn(Protocol):
    """The fixture ``spawn``: starts a command, in ``tmp_path`` or its ``PWD``.

    ``jobfn`` and ``python`` are this environment's.
    """

    def __call__(self, *command: str, **env: str) -> Awaitable[RunningCommand]: ...


@dataclass(frozen=True)
class Finished:
    """A command that has ended: its exit code, and what it said on both streams."""

    code: int
    output: str


class Command(Protocol):
    """The fixture ``command``: runs a command to its end."""

    def __call__(self, *command: str, **env: str) -> Awaitable[Finished]: ...
