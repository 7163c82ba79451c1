"""``JobStore`` on jobfn's own schema: one statement for many jobs."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg

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


class NativeJobStore:
    """See ``model.JobStore``.

    Args:
        pool: Connections.
        schema: The jobs schema's name.
        on_ending: Told of each settlement that changed its job.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]", schema: str, *, on_ending: OnSettled = unheard) -> None:
        self._pool = pool
        self._on_ending = on_ending
        self._claim = query("claim_jobs", schema)
        self._settle = query("settle_jobs", schema)
        self._settle_and_keep = query("settle_jobs_with_results", schema)
        self._renew = query("renew_leases", schema)
        self._beat = query("heartbeat_job", schema)
        self._accepted = query("mark_accepted", schema)
        self._bury = query("reap_expired_jobs", schema)
        self._take_back = query("reclaim_jobs", schema)
        self._release = query("release_jobs", schema)
        self._next = query("next_run_at", schema)

    async def claim(
        self,
        worker_id: str,
        *,
        tasks: Sequence[str] | None,
        limit: int,
        lease_seconds: float | None = None,
        exclude_tasks: Sequence[str] = (),
    ) -> list[Job]:
        """See ``JobStore.claim``."""
        lease = None if lease_seconds is None else timedelta(seconds=lease_seconds)
        rows = await self._pool.fetch(self._claim, worker_id, tasks, JOB_EXPIRY, limit, lease, exclude_tasks)
        return [Job.of(row) for row in rows]

    async def settle(self, settlements: Sequence[Settlement]) -> set[int]:
        """See ``JobStore.settle``: one statement, one commit."""
        columns: list[list[Any]] = [
            [settlement.worker_id for settlement in settlements],
            [settlement.job_id for settlement in settlements],
            [settlement.attempt for settlement in settlements],
            [settlement.outcome.value for settlement in settlements],
            [None if settlement.error is None else sanitize_text(settlement.error) for settlement in settlements],
            [settlement.delay for settlement in settlements],
        ]
        kept = [settlement.kept for settlement in settlements]
        if not any(kept):
            rows = await self._pool.fetch(self._settle, *columns)
        else:
            columns += [
                [each.result if each is not None else None for each in kept],
                [each.problem if each is not None else None for each in kept],
                [each.keep_seconds if each is not None else None for each in kept],
            ]
            rows = await self._pool.fetch(self._settle_and_keep, *columns)
        by_id = {settlement.job_id: settlement for settlement in settlements}
        for row in rows:
            self._on_ending(SettledJob.of(by_id[row["id"]], row))
        return {row["id"] for row in rows}

    async def renew(self, worker_id: str, jobs: Sequence[tuple[int, int]], *, lease_seconds: float) -> set[int]:
        """See ``JobStore.renew``."""
        ids, attempts = [job for job, _ in jobs], [attempt for _, attempt in jobs]
        rows = await self._pool.fetch(self._renew, worker_id, ids, attempts, timedelta(seconds=lease_seconds))
        return {row["id"] for row in rows}

    async def beat(self, beat: Beat, *, lease_seconds: float) -> bool:
        """See ``JobStore.beat``."""
        note = None if beat.note is None else sanitize_text(beat.note)
        held: bool = await self._pool.fetchval(
            self._beat,
            beat.worker_id,
            beat.job_id,
            beat.attempt,
            timedelta(seconds=lease_seconds),
            beat.progress,
            note,
        )
        return held

    async def accepted(self, worker_id: str, job_id: int, attempt: int) -> None:
        """See ``JobStore.accepted``."""
        await self._pool.execute(self._accepted, worker_id, job_id, attempt)

    async def bury(self) -> list[ExpiredJob]:
        """See ``JobStore.bury``."""
        return [ExpiredJob.of(row) for row in await self._pool.fetch(self._bury, JOB_EXPIRY)]

    async def take_back(self, worker_id: str) -> list[ExpiredJob]:
        """See ``JobStore.take_back``."""
        return [ExpiredJob.of(row) for row in await self._pool.fetch(self._take_back, worker_id)]

    async def release(self, worker_id: str) -> None:
        """See ``JobStore.release``."""
        await self._pool.execute(self._release, worker_id)

    async def seconds_to_next(self, *, looked_seconds_ago: float = 0.0) -> float | None:
        """See ``JobStore.seconds_to_next``."""
        seconds: float | None = await self._pool.fetchval(self._next, timedelta(seconds=looked_seconds_ago))
        return seconds
