"""oban: ``install``, ``enqueue N``, ``ping N``, ``work``. ``BENCH_CONCURRENCY`` is its queue's limit."""

import asyncio
import os
import signal
import sys
import time
from typing import Any

import uvloop
from oban import Oban, worker
from oban.schema import install as install_schema

from benchmarks.peers.pings import ping_times
from benchmarks.timestamps import Marks

URL = os.environ["DATABASE_URL"]
CHUNK = 1000
marks = Marks()


@worker(queue="default")
class Noop:
    """Does nothing."""

    async def process(self, job: Any) -> None:
        """One job."""
        marks.seen(job.args["n"])


def _job(number: int) -> Any:
    return Noop.new({"n": number})  # type: ignore[attr-defined]  # the decorator adds it


async def install() -> None:
    """Its own schema."""
    pool = await Oban.create_pool(URL)
    await install_schema(pool)
    await pool.close()


async def enqueue(jobs: int) -> None:
    """Its bulk enqueue; prints the seconds."""
    pool = await Oban.create_pool(URL)
    client = Oban(pool=pool)
    began = time.perf_counter()
    for start in range(0, jobs, CHUNK):
        await client.enqueue_many(_job(number) for number in range(start, min(start + CHUNK, jobs)))
    print(time.perf_counter() - began)
    await pool.close()


async def ping(jobs: int) -> None:
    """One job at a time, each in a transaction; prints when each commit was sent."""
    pool = await Oban.create_pool(URL)
    client = Oban(pool=pool)
    async with pool.connection() as connection:
        async for number in ping_times(jobs):
            await client.enqueue(_job(number), conn=connection)
            print(number, time.monotonic_ns(), flush=True)
            await connection.commit()
    await pool.close()


async def work() -> None:
    """Work until terminated."""
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
