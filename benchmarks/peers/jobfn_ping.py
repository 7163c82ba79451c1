"""jobfn's ``add_job``, one job at a time, each in a transaction: ``python -m benchmarks.peers.jobfn_ping N``."""

import os
import sys
import time

import asyncpg
import uvloop

from benchmarks.peers.pacing import paced_numbers


async def main(jobs: int) -> None:
    """Enqueue jobs. Print each number and the time when its commit is sent."""
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    async for number in paced_numbers(jobs):
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("select app_jobs.add_job('noop', json_build_object('n', $1::int))", number)
        print(number, time.monotonic_ns(), flush=True)
        await transaction.commit()
    await connection.close()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
