"""oban: ``install``, ``enqueue N``, ``ping N``, ``work``. ``BENCH_CONCURRENCY`` is the limit of its queue."""

import asyncio
import os
import signal
import sys
import time
from typing import Any

import uvloop
from oban import Oban, worker
from oban.schema import install as install_schema

from benchmarks.peers.pacing import paced_numbers
from benchmarks.timestamps import TimestampWriter

URL = os.environ["DATABASE_URL"]
CHUNK = 1000
timestamps = TimestampWriter()


@worker(queue="default")
class Noop:
    """An empty job."""

    async def process(self, job: Any) -> None:
        """Do nothing."""
        timestamps.record(job.args["n"])


def _job(number: int) -> Any:
    return Noop.new({"n": number})  # type: ignore[attr-defined]  # added by the decorator


async def install() -> None:
    """Install the schema."""
    pool = await Oban.create_pool(URL)
    await install_schema(pool)
    await pool.close()


async def enqueue(jobs: int) -> None:
    """Enqueue in bulk. Print the seconds."""
    pool = await Oban.create_pool(URL)
    client = Oban(pool=pool)
    started_at = time.perf_counter()
    for start in range(0, jobs, CHUNK):
        await client.enqueue_many(_job(number) for number in range(start, min(start + CHUNK, jobs)))
    print(time.perf_counter() - started_at)
    await pool.close()


async def ping(jobs: int) -> None:
    """Enqueue one job at a time, each in a transaction. Print each number and the time when its commit is sent."""
    pool = await Oban.create_pool(URL)
    client = Oban(pool=pool)
    async with pool.connection() as connection:
        async for number in paced_numbers(jobs):
            await client.enqueue(_job(number), conn=connection)
            print(number, time.monotonic_ns(), flush=True)
            await connection.commit()
    await pool.close()


async def work() -> None:
    """Run the worker until terminated."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    pool = await Oban.create_pool(URL, min_size=2, max_size=10)
    async with Oban(pool=pool, queues={"default": int(os.environ.get("BENCH_CONCURRENCY", "50"))}):
        print("working", flush=True)
        await stop.wait()
    await pool.close()


if __name__ == "__main__":
    verb, *numbers = sys.argv[1:]
    verbs = {"install": install, "enqueue": enqueue, "ping": ping, "work": work}
    uvloop.run(verbs[verb](*map(int, numbers)))  # type: ignore[operator]
