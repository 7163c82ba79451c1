"""jobfn's ways to enqueue: ``single N`` (add_job call by call), ``statement N`` (one statement), ``many N`` (Python).

Prints the seconds.
"""

import os
import sys
import time

import asyncpg
import uvloop

from jobfn.client import enqueue_many

CHUNK = 5000


async def single(connection: "asyncpg.Connection[asyncpg.Record]", jobs: int) -> None:
    """Call add_job once per job in one transaction, from the client."""
    statement = await connection.prepare("select app_jobs.add_job('noop', json_build_object('n', $1::int))")
    async with connection.transaction():
        for number in range(jobs):
            await statement.fetchval(number)


async def statement(connection: "asyncpg.Connection[asyncpg.Record]", jobs: int) -> None:
    """Call add_job once per job in one statement."""
    await connection.execute(
        "select app_jobs.add_job('noop', json_build_object('n', n)) from generate_series(1, $1::int) n", jobs
    )


async def many(connection: "asyncpg.Connection[asyncpg.Record]", jobs: int) -> None:
    """Call ``enqueue_many`` in chunks."""
    for start in range(0, jobs, CHUNK):
        await enqueue_many(connection, "noop", [{"n": n} for n in range(start, min(start + CHUNK, jobs))])


VERBS = {"single": single, "statement": statement, "many": many}


async def main(verb: str, jobs: int) -> None:
    """Run one of them."""
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    started_at = time.perf_counter()
    await VERBS[verb](connection, jobs)
    print(time.perf_counter() - started_at)
    await connection.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
