"""oban: ``install``, ``enqueue N``, ``ping N``, ``work``. ``BENCH_CONCURRENCY`` is the limit of its queue."""

import asyncio
import os
import signal
from typing import Any

from oban import Oban, worker
from oban.schema import install as install_schema

from benchmarks.peers.script import paced_numbers, print_commit_time, printed_seconds, run_verb
from benchmarks.timestamps import TimestampWriter

URL = os.environ["DATABASE_URL"]
CHUNK = 1000
timestamps = TimestampWriter()


@worker(queue="default")
class Noop:
    """An empty job."""

    async def process(self, job: Any) -> None:
        timestamps.record(job.args["n"])


def create_job(number: int) -> Any:
    return Noop.new({"n": number})  # type: ignore[attr-defined]  # added by the decorator


async def install() -> None:
    pool = await Oban.create_pool(URL)
    await install_schema(pool)
    await pool.close()


async def enqueue(jobs: int) -> None:
    pool = await Oban.create_pool(URL)
    client = Oban(pool=pool)
    with printed_seconds():
        for start in range(0, jobs, CHUNK):
            await client.enqueue_many(create_job(number) for number in range(start, min(start + CHUNK, jobs)))
    await pool.close()


async def ping(jobs: int) -> None:
    pool = await Oban.create_pool(URL)
    client = Oban(pool=pool)
    async with pool.connection() as connection:
        async for number in paced_numbers(jobs):
            await client.enqueue(create_job(number), conn=connection)
            print_commit_time(number)
            await connection.commit()
    await pool.close()


async def work() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    pool = await Oban.create_pool(URL, min_size=2, max_size=10)
    async with Oban(pool=pool, queues={"default": int(os.environ["BENCH_CONCURRENCY"])}):
        await stop.wait()
    await pool.close()


if __name__ == "__main__":
    run_verb(install, enqueue, ping, work)
