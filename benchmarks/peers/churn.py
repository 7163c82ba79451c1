"""jobfn's store run by itself: jobs added, claimed and settled in batches, ``JOBS`` of them or for ``SECONDS``.

Beside it runs what a service does about dead rows, unless ``bare`` follows. Prints a line of JSON at ten stops on the
way: how many jobs have run, in how many seconds, the size of table and indexes, the largest until then, and how often
the table was vacuumed. No HTTP and no handler: what PostgreSQL and the driver can do.
"""

import asyncio
import importlib.util
import json
import os
import sys
import time
from typing import Any

import asyncpg
import uvloop

from jobfn.database.jobs import open_store
from jobfn.database.records import Settlement
from jobfn.telemetry import logs

BATCH, CHUNK = 500, 4000
WORKER = "churn-worker"
ADD = """
    insert into app_jobs.jobs (task_identifier, payload)
    select 'noop', json_build_object('n', n) from generate_series(1, $1::int) n
"""
LOOK = """
    select pg_relation_size('app_jobs.jobs') + pg_indexes_size('app_jobs.jobs') as size,
        vacuum_count + autovacuum_count as vacuums
    from pg_stat_user_tables where relid = 'app_jobs.jobs'::regclass
"""


class Churn:
    """See the module."""

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool
        self.done = 0
        self.worked = 0.0

    async def run(self, jobs: int, seconds: float) -> None:
        """Run so many jobs, at most for so long."""
        store = await open_store(self._pool, "app_jobs")
        began, largest, stop = time.monotonic(), 0, 1
        while self.done < jobs and time.monotonic() - began < seconds:
            await self._pool.execute(ADD, CHUNK)
            from_here = time.monotonic()
            while claimed := await store.claim(WORKER, tasks=None, limit=BATCH, lease_seconds=30):
                self.done += len(await store.settle([Settlement(WORKER, job.id, job.attempt) for job in claimed]))
            self.worked += time.monotonic() - from_here
            look = dict(await self._pool.fetchrow(LOOK))
            largest = max(largest, look["size"])
            while self.done >= jobs * stop / 10:
                line = {"jobs": self.done, "seconds": self.worked, "largest": largest, **look}
                print(json.dumps(line), flush=True)
                stop += 1

    async def vacuum(self, stop: asyncio.Event) -> None:
        """What a service does meanwhile; nothing in a checkout from before it did."""
        if importlib.util.find_spec("jobfn.worker.maintenance.vacuum") is None:
            return
        from jobfn.database.vacuum_table import JobsTable  # noqa: PLC0415  - not in every checkout
        from jobfn.worker.maintenance.vacuum import Vacuumer  # noqa: PLC0415

        table = JobsTable(self._pool, "app_jobs", dsn=os.environ["DATABASE_URL"])
        await Vacuumer(table, settlements=lambda: self.done).run(stop)


async def main(jobs: int, seconds: float, *, bare: bool) -> None:
    """Run it."""
    logs.configure()
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=2) as pool:
        churn, stop = Churn(pool), asyncio.Event()
        beside = None if bare else asyncio.create_task(churn.vacuum(stop))
        await churn.run(jobs, seconds)
        stop.set()
        if beside is not None:
            await beside


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2]), bare=sys.argv[3:] == ["bare"]))
