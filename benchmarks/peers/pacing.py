"""Pauses between the jobs of the latency measurement, the same for every peer."""

import asyncio
from collections.abc import AsyncIterator

#: Long enough for a worker to become idle again.
PAUSE_SECONDS = 0.03


async def paced_numbers(jobs: int) -> AsyncIterator[int]:
    """Yield 0, 1, 2, ... after pauses that vary, so that they do not fall into step with a worker's timer."""
    for number in range(jobs):
        await asyncio.sleep(PAUSE_SECONDS + (number * 7 % 11) / 1000)
        yield number
