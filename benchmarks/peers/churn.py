"""jobfn's store without HTTP and handlers: add, claim and settle jobs in batches.

``JOBS`` jobs or ``SECONDS`` seconds, next to the service's vacuum unless ``--no-vacuum`` follows. Prints ten samples as
lines of JSON: handled jobs, seconds, size of table and indexes, largest size so far, number of vacuums.
"""

import asyncio
import contextlib
import inspect
import json
import os
import sys
import time
from typing import Any

import asyncpg
import uvloop

from benchmarks.peers.source_tree import import_first

open_store = import_first("jobfn.database.open_store", "jobfn.database.jobs").open_store
open_store = import_first("jobfn.database.open_store", "jobfn.database.jobs").open_store
Settlement = import_first("jobfn.database.records", "jobfn.database.model").Settlement
JobsTable = import_first("jobfn.database.vacuum_table", "jobfn.database.vacuum").JobsTable
Vacuumer = import_first("jobfn.worker.maintenance.vacuum", "jobfn.worker.vacuuming").Vacuumer
configure_logs = import_first("jobfn.telemetry.logs", "jobfn.logs").configure

CLAIM_BATCH, ADD_BATCH = 500, 4000
SAMPLES = 10
WORKER_ID = "churn-worker"
ADD_JOBS = """
    insert into app_jobs.jobs (task_identifier, payload)
    select 'noop', json_build_object('n', n) from generate_series(1, $1::int) n
"""
TABLE_STATS = """
    select pg_relation_size('app_jobs.jobs') + pg_indexes_size('app_jobs.jobs') as size,
        vacuum_count + autovacuum_count as vacuums
    from pg_stat_user_tables where relid = 'app_jobs.jobs'::regclass
"""


class Churn:
    """One run."""

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool
        self._handled = 0

    async def run(self, jobs: int, max_seconds: float) -> None:
        """Handle jobs until their number or the time is reached. Print the samples."""
        store = await open_store(self._pool, "app_jobs")
        started_at, busy_seconds, largest, samples = time.monotonic(), 0.0, 0, 0
        while self._handled < jobs and time.monotonic() - started_at < max_seconds:
            await self._pool.execute(ADD_JOBS, ADD_BATCH)
            batch_started_at = time.monotonic()
            while claimed := await store.claim(WORKER_ID, tasks=None, limit=CLAIM_BATCH, lease_seconds=30):
                settlements = [Settlement(WORKER_ID, job.id, job.attempt) for job in claimed]
                self._handled += len(await store.settle(settlements))
            busy_seconds += time.monotonic() - batch_started_at
            stats = dict(await self._pool.fetchrow(TABLE_STATS))
            largest = max(largest, stats["size"])
            while self._handled >= jobs * (samples + 1) / SAMPLES:
                sample = {"jobs": self._handled, "seconds": busy_seconds, "largest": largest, **stats}
                print(json.dumps(sample), flush=True)
                samples += 1

    async def vacuum(self) -> None:
        """Run the service's vacuum until cancelled."""
        table = JobsTable(self._pool, "app_jobs", dsn=os.environ["DATABASE_URL"])
        # The counter has another name in other source trees.
        (counter,) = (name for name in inspect.signature(Vacuumer).parameters if name.startswith("settle"))
        await Vacuumer(table, **{counter: lambda: self._handled}).run(asyncio.Event())


async def main(jobs: int, max_seconds: float, *, with_vacuum: bool) -> None:
    """Run it."""
    configure_logs()
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=2) as pool:
        churn = Churn(pool)
        vacuum = asyncio.create_task(churn.vacuum()) if with_vacuum else None
        await churn.run(jobs, max_seconds)
        if vacuum is not None:
            vacuum.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await vacuum


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2]), with_vacuum="--no-vacuum" not in sys.argv))
