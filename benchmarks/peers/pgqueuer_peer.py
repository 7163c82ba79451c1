"""pgqueuer: ``install``, ``enqueue N``, ``ping N``, ``work``. ``BENCH_BATCH`` is its batch size."""

import json
import os
import sys
import time
from datetime import timedelta

import asyncpg
import uvloop
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.models import Job
from pgqueuer.queries import Queries

from benchmarks.peers.pacing import paced_numbers
from benchmarks.timestamps import TimestampWriter

URL = os.environ["DATABASE_URL"]
#: Jobs per call of the bulk enqueue.
CHUNK = 5000


async def install() -> None:
    """Install the schema as its command line does, with every table logged."""
    connection = await asyncpg.connect(URL)
    await Queries(AsyncpgDriver(connection)).install()
    await connection.close()


async def enqueue(jobs: int) -> None:
    """Enqueue in bulk. Print the seconds."""
    connection = await asyncpg.connect(URL)
    queries = Queries(AsyncpgDriver(connection))
    started_at = time.perf_counter()
    for start in range(0, jobs, CHUNK):
        numbers = range(start, min(start + CHUNK, jobs))
        payloads: list[bytes | None] = [b'{"n": %d}' % number for number in numbers]
        await queries.enqueue(["noop"] * len(numbers), payloads, [0] * len(numbers))
    print(time.perf_counter() - started_at)
    await connection.close()


async def ping(jobs: int) -> None:
    """Enqueue one job at a time, each in a transaction. Print each number and the time when its commit is sent."""
    connection = await asyncpg.connect(URL)
    queries = Queries(AsyncpgDriver(connection))
    async for number in paced_numbers(jobs):
        transaction = connection.transaction()
        await transaction.start()
        await queries.enqueue("noop", b'{"n": %d}' % number, 0)
        print(number, time.monotonic_ns(), flush=True)
        await transaction.commit()
    await connection.close()


async def work() -> None:
    """Run the worker until terminated."""
    connection = await asyncpg.connect(URL)
    manager = QueueManager(Queries(AsyncpgDriver(connection)))
    timestamps = TimestampWriter()

    @manager.entrypoint("noop")
    async def noop(job: Job) -> None:
        timestamps.record(json.loads(job.payload or b"{}")["n"] if timestamps.records_every_job else 0)

    print("working", flush=True)
    await manager.run(batch_size=int(os.environ.get("BENCH_BATCH", "10")), dequeue_timeout=timedelta(seconds=30))


if __name__ == "__main__":
    verb, *numbers = sys.argv[1:]
    verbs = {"install": install, "enqueue": enqueue, "ping": ping, "work": work}
    uvloop.run(verbs[verb](*map(int, numbers)))  # type: ignore[operator]
