"""pgqueuer: ``install``, ``enqueue N``, ``ping N``, ``work``. ``BENCH_BATCH`` is its batch size."""

import json
import os
from datetime import timedelta

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.models import Job
from pgqueuer.queries import Queries

from benchmarks.peers.script import paced_numbers, print_commit_time, printed_seconds, run_verb
from benchmarks.timestamps import TimestampWriter

URL = os.environ["DATABASE_URL"]
#: Jobs per call of the bulk enqueue.
CHUNK = 5000


async def install() -> None:
    connection = await asyncpg.connect(URL)
    await Queries(AsyncpgDriver(connection)).install()  # as its command line does, with every table logged
    await connection.close()


async def enqueue(jobs: int) -> None:
    connection = await asyncpg.connect(URL)
    queries = Queries(AsyncpgDriver(connection))
    with printed_seconds():
        for start in range(0, jobs, CHUNK):
            numbers = range(start, min(start + CHUNK, jobs))
            payloads: list[bytes | None] = [b'{"n": %d}' % number for number in numbers]
            await queries.enqueue(["noop"] * len(numbers), payloads, [0] * len(numbers))
    await connection.close()


async def ping(jobs: int) -> None:
    connection = await asyncpg.connect(URL)
    queries = Queries(AsyncpgDriver(connection))
    async for number in paced_numbers(jobs):
        transaction = connection.transaction()
        await transaction.start()
        await queries.enqueue("noop", b'{"n": %d}' % number, 0)
        print_commit_time(number)
        await transaction.commit()
    await connection.close()


async def work() -> None:
    connection = await asyncpg.connect(URL)
    manager = QueueManager(Queries(AsyncpgDriver(connection)))
    timestamps = TimestampWriter()

    @manager.entrypoint("noop")
    async def noop(job: Job) -> None:
        timestamps.record(json.loads(job.payload or b"{}")["n"] if timestamps.records_every_job else 0)

    await manager.run(batch_size=int(os.environ["BENCH_BATCH"]), dequeue_timeout=timedelta(seconds=30))


if __name__ == "__main__":
    run_verb(install, enqueue, ping, work)
