"""Loopback addresses, and waiting for a condition or a line of the log."""

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

T = TypeVar("T")
LOOPBACK = "127.0.0.1"
_FIRST_PORT, _PORTS_PER_PROCESS, _MAX_PROCESSES = 20_000, 1500, 8
_given_ports: set[int] = set()


def free_port() -> int:
    """Return a free TCP port that no other test gets before it is used.

    It is below those that the system gives to outgoing connections. Each process of pytest-xdist has its own range.
    """
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _MAX_PROCESSES
    first = _FIRST_PORT + process * _PORTS_PER_PROCESS
    while True:
        port = secrets.choice(range(first, first + _PORTS_PER_PROCESS))
        if port in _given_ports and len(_given_ports) < _PORTS_PER_PROCESS // 2:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            _given_ports.add(port)
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
