"""procrastinate: ``install``, ``enqueue N``, ``ping N``, ``work``. ``BENCH_CONCURRENCY`` is its concurrency."""

import os

import psycopg
from procrastinate import App, PsycopgConnector

from benchmarks.peers.script import paced_numbers, print_commit_time, printed_seconds, run_verb
from benchmarks.timestamps import TimestampWriter

URL = os.environ["DATABASE_URL"]
CHUNK = 1000

app = App(connector=PsycopgConnector(conninfo=URL, max_size=20))
timestamps = TimestampWriter()


@app.task(name="noop", pass_context=False)
async def noop(n: int) -> None:
    timestamps.record(n)


async def install() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def enqueue(jobs: int) -> None:
    async with app.open_async():
        with printed_seconds():
            for start in range(0, jobs, CHUNK):
                await noop.batch_defer_async(*({"n": number} for number in range(start, min(start + CHUNK, jobs))))


async def ping(jobs: int) -> None:
    async with app.open_async(), await psycopg.AsyncConnection.connect(URL) as connection:
        async for number in paced_numbers(jobs):
            await noop.configure(connection=connection).defer_async(n=number)
            print_commit_time(number)
            await connection.commit()


async def work() -> None:
    async with app.open_async():
        await app.run_worker_async(concurrency=int(os.environ["BENCH_CONCURRENCY"]), delete_jobs="never")


if __name__ == "__main__":
    run_verb(install, enqueue, ping, work)
