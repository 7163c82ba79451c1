"""procrastinate: ``install``, ``enqueue N``, ``ping N``, ``work``. ``BENCH_CONCURRENCY`` is its concurrency."""

import os
import sys
import time

import uvloop
from procrastinate import App, PsycopgConnector

from benchmarks.peers.pacing import paced_numbers
from benchmarks.timestamps import TimestampWriter

URL = os.environ["DATABASE_URL"]
CHUNK = 1000

app = App(connector=PsycopgConnector(conninfo=URL, max_size=20))
timestamps = TimestampWriter()


@app.task(name="noop", pass_context=False)
async def noop(n: int) -> None:
    """Do nothing."""
    timestamps.record(n)


async def install() -> None:
    """Install the schema."""
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def enqueue(jobs: int) -> None:
    """Enqueue in bulk. Print the seconds."""
    async with app.open_async():
        started_at = time.perf_counter()
        for start in range(0, jobs, CHUNK):
            await noop.batch_defer_async(*({"n": number} for number in range(start, min(start + CHUNK, jobs))))
        print(time.perf_counter() - started_at)


async def ping(jobs: int) -> None:
    """Enqueue one job at a time, each in a transaction. Print each number and the time when its commit is sent."""
    import psycopg  # noqa: PLC0415

    async with app.open_async(), await psycopg.AsyncConnection.connect(URL) as connection:
        async for number in paced_numbers(jobs):
            await noop.configure(connection=connection).defer_async(n=number)
            print(number, time.monotonic_ns(), flush=True)
            await connection.commit()


async def work() -> None:
    """Run the worker until terminated."""
    async with app.open_async():
        print("working", flush=True)
        await app.run_worker_async(
            concurrency=int(os.environ.get("BENCH_CONCURRENCY", "10")),
            delete_jobs="never",
        )


if __name__ == "__main__":
    verb, *numbers = sys.argv[1:]
    verbs = {"install": install, "enqueue": enqueue, "ping": ping, "work": work}
    uvloop.run(verbs[verb](*map(int, numbers)))  # type: ignore[operator]
