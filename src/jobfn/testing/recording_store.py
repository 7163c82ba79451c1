"""A store of jobs that writes down what happens to them, says when nothing is left, and keeps a test's clock."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import asyncpg

from jobfn.database.records import Beat, ExpiredJob, Job, JobStore, Settlement
from jobfn.testing.clock import JobsClock
from jobfn.testing.database import SCHEMA


@dataclass(frozen=True)
class Ended:
    """A delivery's end, as ``drain_jobs`` tells it.

    Attributes:
        job_id: ``jobs.id``.
        task: The task identifier.
        payload: What the job held.
        attempt: Which attempt this was.
        outcome: ``completed``; ``failed``, to be tried again; ``failed_for_good``, by its own word or after the last
            attempt; ``given_back``: the function was too busy.
        error: Why it failed.
        result: What the handler returned; of a background task, None.
        retry_at: When it is tried again, by the test's clock.
    """

    job_id: int
    task: str
    payload: Any
    attempt: int
    outcome: Literal["completed", "failed", "failed_for_good", "given_back"]
    error: str | None = None
    result: Any = None
    retry_at: datetime | None = None


@dataclass(frozen=True)
class Noted:
    """A settlement that counted, and its job.

    Attributes:
        job: As it was claimed.
        settlement: How it ended.
        is_last: Whether it is not tried again.
        retry_at: When it is.
    """

    job: Job
    settlement: Settlement
    is_last: bool
    retry_at: datetime | None


class WatchedStore:
    """A ``JobStore`` before another one.

    Args:
        store: Where jobs are.
        pool: Connections to the same database.
        clock: What time it is.
        limit: So many deliveries at most; more are none of one test's.

    Attributes:
        noted: What was settled, in order.
        idle: Set while nothing is held and nothing is due.
        wake: Set by whoever should look for jobs again: the worker's bell.
    """

    def __init__(self, store: JobStore, pool: "asyncpg.Pool[Any]", clock: JobsClock, *, limit: int) -> None:
        self._store = store
        self._pool = pool
        self._clock = clock
        self._left = limit
        self._held: dict[int, Job] = {}
        self._asked = 0
        self.noted: list[Noted] = []
        self.idle = asyncio.Event()
        self.wake = asyncio.Event()

    @property
    def held(self) -> list[Job]:
        """What is being worked on."""
        return list(self._held.values())

    @property
    def is_exhausted(self) -> bool:
        """Whether the limit was reached."""
        return self._left <= 0

    def ask(self) -> None:
        """Have the worker look, and ``idle`` wait for a look that begins from now on."""
        self._asked += 1
        self.idle.clear()
        self.wake.set()

    async def claim(
        self,
        worker_id: str,
        *,
        tasks: Sequence[str] | None,
        limit: int,
        lease_seconds: float | None = None,
        exclude_tasks: Sequence[str] = (),
    ) -> list[Job]:
        """See ``JobStore.claim``. What is due by the test's clock is made due first."""
        asked = self._asked
        await self._pool.execute(
            f"update {SCHEMA}.jobs set run_at = run_at - $1::interval"  # noqa: S608  - a constant
            " where locked_at is null and run_at > now() and run_at <= $2",
            self._ahead(),
            self._clock.now(),
        )
        jobs = (
            await self._store.claim(
                worker_id,
                tasks=tasks,
                limit=min(limit, max(self._left, 0)),
                lease_seconds=lease_seconds,
                exclude_tasks=exclude_tasks,
            )
            if self._left > 0
            else []
        )
        self._left -= len(jobs)
        self._held.update({job.id: job for job in jobs})
        if not jobs and not self._held and asked == self._asked:
            self.idle.set()
        return jobs

    async def settle(self, settlements: Sequence[Settlement]) -> set[int]:
        """See ``JobStore.settle``. What is tried again is later by the test's clock."""
        changed = await self._store.settle(settlements)
        rows = await self._pool.fetch(
            f"update {SCHEMA}.jobs set run_at = run_at + $1::interval"  # noqa: S608  - a constant
            " where id = any ($2) and locked_at is null returning id, run_at, exhausted",
            self._ahead(),
            list(changed),
        )
        left = {row["id"]: row for row in rows}
        for settlement in settlements:
            job = self._held.pop(settlement.job_id, None) if settlement.job_id in changed else None
            if job is not None:
                row = left.get(job.id)
                is_last = row is None or row["exhausted"]
                retry_at = row["run_at"] if row is not None and not is_last else None
                self.noted.append(Noted(job, settlement, is_last, retry_at))
        self.ask()
        return changed

    async def renew(self, worker_id: str, jobs: Sequence[tuple[int, int]], *, lease_seconds: float) -> set[int]:
        """See ``JobStore.renew``."""
        return await self._store.renew(worker_id, jobs, lease_seconds=lease_seconds)

    async def beat(self, beat: Beat, *, lease_seconds: float) -> bool:
        """See ``JobStore.beat``."""
        return await self._store.beat(beat, lease_seconds=lease_seconds)

    async def accepted(self, worker_id: str, job_id: int, attempt: int) -> None:
        """See ``JobStore.accepted``."""
        await self._store.accepted(worker_id, job_id, attempt)

    async def bury(self) -> list[ExpiredJob]:
        """See ``JobStore.bury``."""
        return await self._store.bury()

    async def take_back(self, worker_id: str) -> list[ExpiredJob]:
        """See ``JobStore.take_back``."""
        return await self._store.take_back(worker_id)

    async def release(self, worker_id: str) -> None:
        """See ``JobStore.release``."""
        await self._store.release(worker_id)

    async def seconds_to_next(self, *, looked_seconds_ago: float = 0.0) -> float | None:
        """See ``JobStore.seconds_to_next``."""
        return await self._store.seconds_to_next(looked_seconds_ago=looked_seconds_ago)

    def _ahead(self) -> timedelta:
        """How far the test's clock is ahead."""
        return self._clock.ahead()
