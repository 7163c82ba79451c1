"""The rhythm of the latency measurement, the same for every peer: a job, a pause that is not always the same."""

import asyncio
from collections.abc import AsyncIterator

#: Long enough for an idle worker to be idle again.
PAUSE_SECONDS = 0.03


async def ping_times(jobs: int) -> AsyncIterator[int]:
    """0, 1, 2 ... with a pause before each, which varies so that it falls into step with no timer of a worker's."""
    for number in range(jobs):
        await asyncio.sleep(PAUSE_SECONDS + (number * 7 % 11) / 1000)
        yield number
