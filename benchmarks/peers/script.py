"""Helpers of the peers' scripts: verbs of the command line, and output that the benchmark parses."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import uvloop

#: Long enough for a worker to become idle again.
PAUSE_SECONDS = 0.03


def run_verb(*verbs: Callable[..., Coroutine[Any, Any, None]]) -> None:
    """Run the function that the first argument names. The other arguments are numbers."""
    name, *numbers = sys.argv[1:]
    by_name = {verb.__name__: verb for verb in verbs}
    uvloop.run(by_name[name](*map(int, numbers)))


@contextmanager
def printed_seconds() -> Iterator[None]:
    """Print the duration of the block."""
    started_at = time.perf_counter()
    yield
    print(time.perf_counter() - started_at)


async def paced_numbers(jobs: int) -> AsyncIterator[int]:
    """Yield 0, 1, 2, ... after pauses that vary, so that they do not fall into step with a worker's timer."""
    for number in range(jobs):
        await asyncio.sleep(PAUSE_SECONDS + (number * 7 % 11) / 1000)
        yield number


def print_commit_time(number: int) -> None:
    """Print a job's number and the time, right before its commit is sent."""
    print(number, time.monotonic_ns(), flush=True)
