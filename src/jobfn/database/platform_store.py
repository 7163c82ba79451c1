"""``JobStore`` on a schema that has only the contract's functions, and perhaps fewer columns.

There is no column for a lease. While a job is locked, nobody reads its ``run_at``, and a lock is never older than the
``run_at`` that made the job ready; so a locked job whose ``run_at`` lies after its ``locked_at`` is leased until then.
Locks of workers that know nothing of leases keep the contract's four hours.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg

from jobfn.database.connection import CONNECTION_LOST
from jobfn.database.records import (
    JOB_EXPIRY,
    Beat,
    ExpiredJob,
    Job,
    OnSettled,
    SettledJob,
    Settlement,
    sanitize_text,
    unheard,
)
from jobfn.database.statements import query

#: How long a job of a task that is to be left out is set aside when ``get_job`` hands it out all the same.
SKIP_DELAY = timedelta(seconds=1)


class PlatformJobStore:
    """See ``model.JobStore``.

    Args:
        pool: Connections.
        schema: The jobs schema's name.
        has_actor_id: Whether ``jobs`` has that column.
        has_entity_id: Whether ``jobs`` has that column.
        on_ending: Told of each settlement that changed its job.
    """

    def __init__(
        self,
        pool: "asyncpg.Pool[Any]",
        schema: str,
        *,
        has_actor_id: bool,
        has_entity_id: bool,
        on_ending: OnSettled = unheard,
    ) -> None:
        self._pool = pool
        self._on_ending = on_ending
        self._buried: list[ExpiredJob] = []
        self._claim = (
            query("get_job", schema)
            .replace("@actor_id@", "j.actor_id" if has_actor_id else "null::uuid")
            .replace("@entity_id@", "j.entity_id" if has_entity_id else "null::uuid")
        )
        self._free_expired = query("unlock_expired_platform_jobs", schema)
        self._lease = query("renew_platform_leases", schema)
        self._unlease = query("end_platform_leases", schema)
        self._give_back = query("release_platform_job", schema)
        self._is_held = query("lock_claimed_job", schema)
        self._complete = query("complete_job", schema)
        self._fail = query("fail_job", schema)
        self._after_failure = query("adjust_failed_job", schema)
        self._take_back = query("reclaim_platform_jobs", schema)
        self._release = query("release_jobs", schema)
        self._next = query("next_platform_run_at", schema)

    async def claim(
        self,
        worker_id: str,
        *,
        tasks: Sequence[str] | None,
        limit: int,
        lease_seconds: float | None = None,
        exclude_tasks: Sequence[str] = (),
    ) -> list[Job]:
        """See ``JobStore.claim``: ``get_job`` until it has no more, or the connection ends; what it has, it returns."""
        jobs: list[Job] = []
        try:
            async with self._pool.acquire() as connection:
                self._buried += [ExpiredJob.of(row) for row in await connection.fetch(self._free_expired)]
                while len(jobs) < limit:
                    row = await connection.fetchrow(self._claim, worker_id, tasks, JOB_EXPIRY)
                    if row is None:
                        break
                    job = Job.of(row)
                    if job.task in exclude_tasks:
                        await connection.execute(self._give_back, job.id, SKIP_DELAY)
                    else:
                        jobs.append(job)
                if jobs and lease_seconds is not None:
                    held = [job.id for job in jobs], [job.attempt for job in jobs]
                    await connection.execute(self._lease, worker_id, *held, timedelta(seconds=lease_seconds))
        except CONNECTION_LOST:
            if not jobs:
                raise
        return jobs

    async def settle(self, settlements: Sequence[Settlement]) -> set[int]:
        """See ``JobStore.settle``: a transaction for each, which first makes sure that the job is held.

        The platform's ``complete_job`` does not ask who holds the job; we do.
        """
        changed: set[int] = set()
        async with self._pool.acquire() as connection:
            for settlement in settlements:
                worker_id, job_id = settlement.worker_id, settlement.job_id
                async with connection.transaction():
                    held = await connection.fetchrow(self._is_held, worker_id, job_id, settlement.attempt)
                    if held is None:
                        continue
                    await connection.execute(self._unlease, worker_id, job_id)
                    if settlement.released:
                        await connection.execute(self._give_back, job_id, settlement.delay)
                    elif settlement.error is None:
                        await connection.execute(self._complete, worker_id, job_id)
                    else:
                        await connection.execute(self._fail, worker_id, job_id, sanitize_text(settlement.error))
                        if settlement.permanent or settlement.delay is not None:
                            await connection.execute(
                                self._after_failure, job_id, settlement.permanent, settlement.delay
                            )
                changed.add(job_id)
                self._on_ending(SettledJob.of(settlement, held))
        return changed

    async def renew(self, worker_id: str, jobs: Sequence[tuple[int, int]], *, lease_seconds: float) -> set[int]:
        """See ``JobStore.renew``."""
        ids, attempts = [job for job, _ in jobs], [attempt for _, attempt in jobs]
        rows = await self._pool.fetch(self._lease, worker_id, ids, attempts, timedelta(seconds=lease_seconds))
        return {row["id"] for row in rows}

    async def beat(self, beat: Beat, *, lease_seconds: float) -> bool:
        """See ``JobStore.beat``: there is nowhere to note the progress."""
        return bool(await self.renew(beat.worker_id, [(beat.job_id, beat.attempt)], lease_seconds=lease_seconds))

    async def accepted(self, worker_id: str, job_id: int, attempt: int) -> None:
        """See ``JobStore.accepted``: there is nowhere to note it."""

    async def bury(self) -> list[ExpiredJob]:
        """See ``JobStore.bury``: every claim does it, and this tells of it."""
        buried, self._buried = self._buried, []
        return buried

    async def take_back(self, worker_id: str) -> list[ExpiredJob]:
        """See ``JobStore.take_back``."""
        return [ExpiredJob.of(row) for row in await self._pool.fetch(self._take_back, worker_id)]

    async def release(self, worker_id: str) -> None:
        """See ``JobStore.release``."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(self._unlease, worker_id, None)
            await connection.execute(self._release, worker_id)

    async def seconds_to_next(self, *, looked_seconds_ago: float = 0.0) -> float | None:
        """See ``JobStore.seconds_to_next``."""
        seconds: float | None = await self._pool.fetchval(self._next, timedelta(seconds=looked_seconds_ago))
        return seconds
