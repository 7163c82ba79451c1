"""A ``JobStore`` that records settlements, detects when no job is due, and uses a test's clock."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from jobfn.database.records import Job, Settlement
from jobfn.database.store import JobStore
from jobfn.testing.clock import JobsClock
from jobfn.testing.database import SCHEMA


@dataclass(frozen=True)
class Record:
    """A settlement that changed its job."""

    job: Job
    settlement: Settlement
    is_last: bool
    retry_at: datetime | None


class RecordingStore:
    """A ``JobStore`` in front of another one.

    Attributes:
        records: The settlements, in order.
        idle: Set while no job is claimed or due.
        wake_event: Wakes the worker's claim loop.
    """

    def __init__(self, store: JobStore, pool: "asyncpg.Pool[Any]", clock: JobsClock, *, max_claims: int) -> None:
        self._store = store
        self._pool = pool
        self._clock = clock
        self._claims_left = max_claims
        self._claimed: dict[int, Job] = {}
        self._generation = 0
        #: A claim between a settlement and the move of its retry to the test's clock would run the retry at once.
        self._lock = asyncio.Lock()
        self.records: list[Record] = []
        self.idle = asyncio.Event()
        self.wake_event = asyncio.Event()

    @property
    def claimed_jobs(self) -> list[Job]:
        """The jobs that are claimed and not settled."""
        return list(self._claimed.values())

    @property
    def is_exhausted(self) -> bool:
        """Whether ``max_claims`` was reached."""
        return self._claims_left <= 0

    def wake(self) -> None:
        """Wake the worker. ``idle`` is set only by a claim that starts after this call."""
        self._generation += 1
        self.idle.clear()
        self.wake_event.set()

    async def claim(
        self,
        worker_id: str,
        *,
        tasks: Sequence[str] | None,
        limit: int,
        lease_seconds: float | None = None,
        exclude_tasks: Sequence[str] = (),
        max_payload_bytes: int | None = None,
    ) -> list[Job]:
        """See ``JobStore.claim``. First makes jobs due that are due by the test's clock."""
        async with self._lock:
            generation = self._generation
            await self._pool.execute(
                f"update {SCHEMA}.jobs set run_at = run_at - $1::interval"  # noqa: S608  - a constant
                " where locked_at is null and run_at > now() and run_at <= $2",
                self._clock.offset(),
                self._clock.now(),
            )
            jobs: list[Job] = []
            if not self.is_exhausted:
                jobs = await self._store.claim(
                    worker_id,
                    tasks=tasks,
                    limit=min(limit, self._claims_left),
                    lease_seconds=lease_seconds,
                    exclude_tasks=exclude_tasks,
                    max_payload_bytes=max_payload_bytes,
                )
            self._claims_left -= len(jobs)
            self._claimed.update({job.id: job for job in jobs})
            if not jobs and not self._claimed and generation == self._generation:
                self.idle.set()
            return jobs

    async def settle(self, settlements: Sequence[Settlement]) -> set[int]:
        """See ``JobStore.settle``. Moves the retry to the test's clock."""
        async with self._lock:
            changed = await self._store.settle(settlements)
            rows = await self._pool.fetch(
                f"update {SCHEMA}.jobs set run_at = run_at + $1::interval"  # noqa: S608  - a constant
                " where id = any ($2) and locked_at is null returning id, run_at, exhausted",
                self._clock.offset(),
                list(changed),
            )
            row_by_id = {row["id"]: row for row in rows}
            for settlement in settlements:
                job = self._claimed.pop(settlement.job_id, None) if settlement.job_id in changed else None
                if job is not None:
                    row = row_by_id.get(job.id)
                    is_last = row is None or row["exhausted"]
                    retry_at = row["run_at"] if row is not None and not is_last else None
                    self.records.append(Record(job, settlement, is_last, retry_at))
            self.wake()
            return changed

    def __getattr__(self, name: str) -> Any:
        """Forward all other methods."""
        return getattr(self._store, name)
