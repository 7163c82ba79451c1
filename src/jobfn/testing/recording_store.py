"""A ``JobStore`` that records settlements, detects when no job is due, and uses a test's clock.

``jobs.run_at`` and ``job_steps.wake_at`` have the test's time while a job is not locked, and the real time otherwise.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast

import asyncpg

from jobfn.database.records import Job, Settlement
from jobfn.database.step_store import HeldJob, StepStore
from jobfn.database.store import JobStore
from jobfn.testing.clock import JobsClock
from jobfn.testing.database import SCHEMA
from jobfn.testing.recording_steps import CRASH_ERROR, Crashes, RecordingSteps

#: The time at which the first wait of these kinds ends, of the jobs that are parked for one.
_NEXT_WAKE: Final = f"""
    select min(j.run_at)
    from {SCHEMA}.jobs j
    where j.locked_at is null
        and j.parked_attempt = j.attempts
        and not j.exhausted
        and j.run_at > $1
        and exists (
            select from {SCHEMA}.job_steps s
            where s.job_id = j.id and s.state = 'waiting' and s.wake_at = j.run_at and s.kind = any ($2)
        )
"""  # noqa: S608  - a constant
_END_LEASE: Final = f"""
    with job as (update {SCHEMA}.jobs set lease_expires_at = '-infinity' where id = $1)
    update {SCHEMA}.queue_locks set lease_expires_at = '-infinity' where job_id = $1
"""  # noqa: S608  - a constant


@dataclass(frozen=True)
class Record:
    """A settlement that changed its job, or a delivery that crashed."""

    job: Job
    settlement: Settlement
    is_last: bool
    retry_at: datetime | None
    waiting_for: tuple[str, ...] = ()
    is_lost: bool = False


class RecordingStore:
    """A ``JobStore`` in front of another one.

    Attributes:
        records: The settlements, in order.
        idle: Set while no job is claimed or due.
        wake_event: Wakes the worker's claim loop.
        steps: Stores the steps of durable functions.
    """

    def __init__(
        self, store: JobStore, pool: "asyncpg.Pool[Any]", clock: JobsClock, crashes: Crashes, *, max_claims: int
    ) -> None:
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
        self.steps = RecordingSteps(cast("StepStore", store.steps), clock, crashes, self._on_crash)

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
                await self._move_waits(-self._clock.offset(), [job.id for job in jobs])
            self._claims_left -= len(jobs)
            self._claimed.update({job.id: job for job in jobs})
            if not jobs and not self._claimed and generation == self._generation:
                self.idle.set()
            return jobs

    async def settle(self, settlements: Sequence[Settlement]) -> set[int]:
        """See ``JobStore.settle``. Moves the retry to the test's clock. Ignores deliveries that have crashed."""
        settlements = [each for each in settlements if (each.job_id, each.attempt) not in self.steps.crashed]
        async with self._lock:
            changed = await self._store.settle(settlements)
            offset = self._clock.offset()
            rows = await self._pool.fetch(
                f"update {SCHEMA}.jobs set run_at = run_at + $1::interval"  # noqa: S608  - a constant
                " where id = any ($2) and locked_at is null"
                " returning id, nullif(run_at, 'infinity') as run_at, exhausted",
                offset,
                list(changed),
            )
            await self._move_waits(offset, changed)
            row_by_id = {row["id"]: row for row in rows}
            for settlement in settlements:
                job = self._claimed.pop(settlement.job_id, None) if settlement.job_id in changed else None
                if job is not None:
                    row = row_by_id.get(job.id)
                    is_last = row is None or row["exhausted"]
                    retry_at = row["run_at"] if row is not None and not is_last else None
                    waiting_for = await self._waiting_for(settlement)
                    self.records.append(Record(job, settlement, is_last, retry_at, waiting_for))
            self.wake()
            return changed

    async def skip_waits(self, kinds: Sequence[str]) -> bool:
        """Move the clock to the end of the next wait of these kinds. Return whether there is one."""
        wakes_at = await self._pool.fetchval(_NEXT_WAKE, self._clock.now(), kinds)
        if wakes_at is None:
            return False
        self._clock.advance(seconds=max((wakes_at - self._clock.now()).total_seconds(), 0.0))
        return True

    async def _on_crash(self, crashed: HeldJob) -> None:
        """End the lease of a job whose delivery has crashed, so that it is claimed again."""
        async with self._lock:
            await self._pool.execute(_END_LEASE, crashed.job_id)
            await self._move_waits(self._clock.offset(), [crashed.job_id])
            job = self._claimed.pop(crashed.job_id)
            settlement = Settlement(crashed.worker_id, crashed.job_id, crashed.attempt, error=CRASH_ERROR)
            is_last = any(reaped.id == job.id for reaped in await self._store.reap_expired())
            self.records.append(Record(job, settlement, is_last, retry_at=None, is_lost=True))
            self.wake()

    async def _move_waits(self, offset: timedelta, job_ids: Collection[int]) -> None:
        await self._pool.execute(
            f"update {SCHEMA}.job_steps set wake_at = wake_at + $1::interval"  # noqa: S608  - a constant
            " where job_id = any ($2) and state = 'waiting'",
            offset,
            list(job_ids),
        )

    async def _waiting_for(self, settlement: Settlement) -> tuple[str, ...]:
        if settlement.waiting_for is None:
            return ()
        names = await self._pool.fetch(
            f"select name from {SCHEMA}.job_steps"  # noqa: S608  - a constant
            " where job_id = $1 and state = 'waiting' and wait_group = any ($2) order by position",
            settlement.job_id,
            list(settlement.waiting_for),
        )
        return tuple(row["name"] for row in names)

    def __getattr__(self, name: str) -> Any:
        """Forward all other methods."""
        return getattr(self._store, name)
