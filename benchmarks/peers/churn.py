"""jobfn's store run by itself: jobs added, claimed and settled in batches, ``JOBS`` of them or for ``SECONDS``.

Prints a line of JSON at ten stops on the way: how many jobs have run, in how many seconds, and the size of table and
indexes. No HTTP and no handler: what PostgreSQL and the driver can do.
"""

import json
import os
import sys
import time

import asyncpg
import uvloop

from jobfn.database.jobs import open_store
from jobfn.database.model import Settlement

BATCH, CHUNK = 500, 4000
WORKER = "churn-worker"
ADD = """
    insert into app_jobs.jobs (task_identifier, payload)
    select 'noop', json_build_object('n', n) from generate_series(1, $1::int) n
"""
SIZES = "select pg_relation_size('app_jobs.jobs'), pg_indexes_size('app_jobs.jobs')"


async def main(jobs: int, seconds: float) -> None:
    """Run it."""
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=2) as pool:
        store = await open_store(pool, "app_jobs")
        began = time.monotonic()
        worked, done, stop = 0.0, 0, 1
        while done < jobs and time.monotonic() - began < seconds:
            await pool.execute(ADD, CHUNK)
            from_here = time.monotonic()
            while claimed := await store.claim(WORKER, tasks=None, limit=BATCH, lease_seconds=30):
                done += len(await store.settle([Settlement(WORKER, job.id, job.attempt) for job in claimed]))
            worked += time.monotonic() - from_here
            while done >= jobs * stop / 10:
                table, indexes = await pool.fetchrow(SIZES)
                print(json.dumps({"jobs": done, "seconds": worked, "table": table, "indexes": indexes}), flush=True)
                stop += 1


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2])))
