"""Loopback addresses, and waiting for a condition or a line of the log."""

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest

T = TypeVar("T")
LOOPBACK = "127.0.0.1"
_FIRST_PORT, _PORTS_PER_PROCESS, _MAX_PROCESSES = 20_000, 1500, 8


def _ports_of_this_process() -> Iterator[int]:
    """Yield ports from a random one on, below those that the system gives to outgoing connections."""
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _MAX_PROCESSES
    start = secrets.randbelow(_PORTS_PER_PROCESS)
    while True:
        yield _FIRST_PORT + process * _PORTS_PER_PROCESS + start % _PORTS_PER_PROCESS
        start += 1


_ports = _ports_of_this_process()


def free_port() -> int:
    """Return a free TCP port. Each process of pytest-xdist has its own range, and gives no port twice in a row."""
    while True:
        port = next(_ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port


async def eventually(condition: Callable[[], Awaitable[T]], *, seconds: float = 10.0) -> T:
    """Poll until the condition returns a true value, and return it."""
    async with asyncio.timeout(seconds):
        while not (value := await condition()):  # noqa: ASYNC110  - the state is in another process
            await asyncio.sleep(0.01)
    return value


async def until_logged(capsys: pytest.CaptureFixture[str], *events: str, seconds: float = 60.0) -> str:
    """Wait until each event is logged, and return the output up to it."""
    output = ""

    async def is_logged() -> bool:
        nonlocal output
        captured = capsys.readouterr()
        output += captured.out + captured.err
        return all(event in output for event in events)

    try:
        await eventually(is_logged, seconds=seconds)
    except TimeoutError:
        missing = [event for event in events if event not in output]
        pytest.fail(f"not logged after {seconds:g} s: {missing}\n{output}")
    return output
