"""chancy: ``install``, ``enqueue N``, ``ping N``, ``work``. ``BENCH_CONCURRENCY`` is the concurrency of its queue."""

import importlib
import logging
import os
import sys
import time

import uvloop
from chancy import Chancy, Job, Queue, Worker
from psycopg.rows import dict_row

from benchmarks.peers.pacing import paced_numbers
from benchmarks.timestamps import TimestampWriter

URL = os.environ["DATABASE_URL"]
timestamps = TimestampWriter()


async def noop(*, n: int) -> None:
    """Do nothing."""
    timestamps.record(n)


def _job(number: int) -> Job:
    return Job(func="benchmarks.peers.chancy_peer.noop", kwargs={"n": number})


def _queue() -> Queue:
    return Queue(
        "default",
        concurrency=int(os.environ.get("BENCH_CONCURRENCY", "100")),
        executor=Chancy.Executor.Async,
        eager_polling=True,
    )


async def install() -> None:
    """Install the schema."""
    async with Chancy(URL) as chancy:
        await chancy.migrate()


async def enqueue(jobs: int) -> None:
    """Enqueue in bulk. Print the seconds."""
    async with Chancy(URL) as chancy:
        started_at = time.perf_counter()
        async for _ in chancy.push_many([_job(number) for number in range(jobs)]):
            pass
        print(time.perf_counter() - started_at)


async def ping(jobs: int) -> None:
    """Enqueue one job at a time, each in a transaction. Print each number and the time when its commit is sent."""
    async with (
        Chancy(URL) as chancy,
        chancy.pool.connection() as connection,
        connection.cursor(row_factory=dict_row) as cursor,
    ):
        async for number in paced_numbers(jobs):
            await chancy.push_ex(cursor, _job(number))
            print(number, time.monotonic_ns(), flush=True)
            await connection.commit()


async def work() -> None:
    """Run the worker until terminated."""
    logging.getLogger("chancy").setLevel(logging.ERROR)
    async with Chancy(URL, log=logging.getLogger("chancy")) as chancy:
        await chancy.declare(_queue(), upsert=True)
        async with Worker(chancy) as worker:
            print("working", flush=True)
            await worker.wait_for_shutdown()


if __name__ == "__main__":
    # The worker imports the handler by name. Run this module under that name, so that there is one TimestampWriter.
    chancy_peer = importlib.import_module("benchmarks.peers.chancy_peer")
    verb, *numbers = sys.argv[1:]
    uvloop.run(getattr(chancy_peer, verb)(*map(int, numbers)))
