"""Loopback addresses and waiting for a condition."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


async def eventually(condition: Callable[[], Awaitable[T]], *, seconds: float = 10.0) -> T:
    """Ask until the answer is true, at most for so many seconds; returns the answer."""
    async with asyncio.timeout(seconds):
        while not (found := await condition()):  # noqa: ASYNC110  - what is asked lies in another process
            await asyncio.sleep(0.01)
    return found
