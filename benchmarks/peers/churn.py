"""jobfn's store without HTTP and handlers: add, claim and settle jobs in batches, next to the service's vacuum.

``JOBS`` jobs or ``SECONDS`` seconds. Prints lines of JSON, at each tenth of the jobs and at the end: handled jobs, size
of table and indexes, largest size so far.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from typing import Any

import asyncpg
import uvloop

from benchmarks.statements import ADD_JOBS, TABLE_SIZE
from jobfn.database.open_store import open_store
from jobfn.database.records import Settlement
from jobfn.database.vacuum_table import JobsTable
from jobfn.telemetry import logs
from jobfn.worker.maintenance.vacuum import Vacuumer

CLAIM_BATCH, ADD_BATCH = 500, 4000
WORKER_ID = "churn-worker"


class Churn:
    """One run."""

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool
        self._handled = 0
        self._largest = 0

    async def run(self, jobs: int, max_seconds: float) -> None:
        """Handle jobs until their number or the time is reached. Print the samples."""
        store = await open_store(self._pool, "app_jobs")
        deadline, next_sample = time.monotonic() + max_seconds, jobs / 10
        while self._handled < jobs and time.monotonic() < deadline:
            await self._pool.execute(ADD_JOBS, ADD_BATCH)
            while claimed := await store.claim(WORKER_ID, tasks=None, limit=CLAIM_BATCH, lease_seconds=30):
                settlements = [Settlement(WORKER_ID, job.id, job.attempt) for job in claimed]
                self._handled += len(await store.settle(settlements))
            size = await self._pool.fetchval(TABLE_SIZE)
            self._largest = max(self._largest, size)
            if self._handled >= next_sample:
                next_sample += jobs / 10
                self._print(size)
        self._print(size)

    def _print(self, size: int) -> None:
        print(json.dumps({"jobs": self._handled, "size": size, "largest": self._largest}), flush=True)

    async def vacuum(self) -> None:
        """Run the service's vacuum until cancelled."""
        table = JobsTable(self._pool, "app_jobs", dsn=os.environ["DATABASE_URL"])
        await Vacuumer(table, settlements=lambda: self._handled).run(asyncio.Event())


async def main(jobs: int, max_seconds: float) -> None:
    """Run it."""
    logs.configure()
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=2) as pool:
        churn = Churn(pool)
        vacuum = asyncio.create_task(churn.vacuum())
        await churn.run(jobs, max_seconds)
        vacuum.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await vacuum


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2])))
