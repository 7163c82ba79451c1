"""jobfn's ways to enqueue: ``single N`` (add_job, one transaction), ``sql N`` (one statement), ``many N`` (Python).

Prints the seconds. ``many`` fails where this jobfn has no ``enqueue_many``.
"""

import importlib
import os
import sys
import time
from typing import Any

import asyncpg
import uvloop

CHUNK = 5000


def client() -> Any:
    """The module for enqueueing; ends the process where this jobfn has none."""
    try:
        return importlib.import_module("jobfn.client")
    except ImportError:
        sys.exit("no enqueue_many")


async def single(connection: "asyncpg.Connection[asyncpg.Record]", jobs: int) -> None:
    """One call of add_job after the other in one transaction, from a client."""
    statement = await connection.prepare("select app_jobs.add_job('noop', json_build_object('n', $1::int))")
    async with connection.transaction():
        for number in range(jobs):
            await statement.fetchval(number)


async def sql(connection: "asyncpg.Connection[asyncpg.Record]", jobs: int) -> None:
    """One call of add_job after the other in one statement, inside PostgreSQL."""
    await connection.execute(
        "select app_jobs.add_job('noop', json_build_object('n', n)) from generate_series(1, $1::int) n", jobs
    )


async def many(connection: "asyncpg.Connection[asyncpg.Record]", jobs: int) -> None:
    """``enqueue_many``, in calls of so many."""
    enqueue_many = client().enqueue_many
    for start in range(0, jobs, CHUNK):
        await enqueue_many(connection, "noop", [{"n": n} for n in range(start, min(start + CHUNK, jobs))])


async def main(verb: str, jobs: int) -> None:
    """Run one of them."""
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    if verb == "many":
        client()  # its imports are not what is timed
    began = time.perf_counter()
    await {"single": single, "sql": sql, "many": many}[verb](connection, jobs)
    print(time.perf_counter() - began)
    await connection.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
