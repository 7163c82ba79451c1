"""chancy: ``install``, ``enqueue N``, ``ping N``, ``work``. ``BENCH_CONCURRENCY`` is the concurrency of its queue."""

import importlib
import logging
import os

from chancy import Chancy, Job, Queue, Worker
from psycopg.rows import dict_row

from benchmarks.peers.script import paced_numbers, print_commit_time, printed_seconds, run_verb
from benchmarks.timestamps import TimestampWriter

URL = os.environ["DATABASE_URL"]
timestamps = TimestampWriter()


async def noop(*, n: int) -> None:
    timestamps.record(n)


def create_job(number: int) -> Job:
    return Job(func="benchmarks.peers.chancy_peer.noop", kwargs={"n": number})


async def install() -> None:
    async with Chancy(URL) as chancy:
        await chancy.migrate()


async def enqueue(jobs: int) -> None:
    async with Chancy(URL) as chancy:
        with printed_seconds():
            async for _ in chancy.push_many([create_job(number) for number in range(jobs)]):
                pass


async def ping(jobs: int) -> None:
    async with (
        Chancy(URL) as chancy,
        chancy.pool.connection() as connection,
        connection.cursor(row_factory=dict_row) as cursor,
    ):
        async for number in paced_numbers(jobs):
            await chancy.push_ex(cursor, create_job(number))
            print_commit_time(number)
            await connection.commit()


async def work() -> None:
    queue = Queue(
        "default",
        concurrency=int(os.environ["BENCH_CONCURRENCY"]),
        executor=Chancy.Executor.Async,
        eager_polling=True,
    )
    logging.getLogger("chancy").setLevel(logging.ERROR)
    async with Chancy(URL, log=logging.getLogger("chancy")) as chancy:
        await chancy.declare(queue, upsert=True)
        async with Worker(chancy) as worker:
            await worker.wait_for_shutdown()


if __name__ == "__main__":
    # The worker imports the handler by name. Run this module under that name, so that there is one TimestampWriter.
    module = importlib.import_module("benchmarks.peers.chancy_peer")
    run_verb(module.install, module.enqueue, module.ping, module.work)
