"""``JobStore`` on the platform's schema, which has only the contract's functions, and perhaps fewer columns.

There is no column for a lease, so ``run_at`` holds its end. Nothing reads ``run_at`` of a locked job, and a lock is
never older than the ``run_at`` at which the job became ready: if ``run_at`` is after ``locked_at``, the job is leased
until ``run_at``. Locks of workers without leases expire after the contract's four hours.
"""

import copy
import functools
import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Self

import asyncpg

from jobfn.database.connection import DATABASE_ERRORS
from jobfn.database.platform_snooze import next_snooze
from jobfn.database.records import (
    JOB_EXPIRY,
    ExpiredJob,
    Heartbeat,
    Job,
    Outcome,
    SettledJob,
    Settlement,
    sanitize_text,
)
from jobfn.database.single_connection import SingleConnection
from jobfn.database.statements import query
from jobfn.database.store import OnSettled, ignore_settlement

#: Delay of a job that ``get_job`` returned although its task is excluded: ``get_job`` cannot skip it.
SKIP_DELAY = timedelta(seconds=1)
#: Maximum number of such jobs in a claim. The delay sorts them behind the others, so that the next claim goes on there.
MAX_SKIPPED = 100


class PlatformJobStore:
    """See ``JobStore``.

    Args:
        pool: Connections.
        schema: The jobs schema.
        has_actor_id: Whether ``jobs`` has the column ``actor_id``.
        has_entity_id: Whether ``jobs`` has the column ``entity_id``.
        has_organization_id: Whether ``jobs`` has the column ``organization_id``.
        on_settled: Called with the jobs that were settled together.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        schema: str,
        *,
        has_actor_id: bool,
        has_entity_id: bool,
        has_organization_id: bool,
        on_settled: OnSettled = ignore_settlement,
    ) -> None:
        self._pool: Any = pool
        self._query = functools.partial(query, schema=schema)
        self._on_settled = on_settled
        self._reaped: list[ExpiredJob] = []
        self.steps = None
        self._get_job = (
            self._query("get_job")
            .replace("@actor_id@", "j.actor_id" if has_actor_id else "null::uuid")
            .replace("@entity_id@", "j.entity_id" if has_entity_id else "null::uuid")
            .replace("@organization_id@", "j.organization_id" if has_organization_id else "null::uuid")
        )

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
        """See ``JobStore.claim``. The last job may exceed ``max_payload_bytes``.

        If the connection is lost after some jobs were claimed, they are returned.
        """
        jobs: list[Job] = []
        skipped = large_bytes = 0
        max_bytes = math.inf if max_payload_bytes is None else max_payload_bytes
        try:
            async with self._pool.acquire() as connection:
                expired = await connection.fetch(self._query("unlock_expired_platform_jobs"), JOB_EXPIRY)
                self._reaped += [ExpiredJob.from_row(row) for row in expired]
                while len(jobs) < limit and skipped < MAX_SKIPPED and large_bytes < max_bytes:
                    row = await connection.fetchrow(self._get_job, worker_id, tasks, JOB_EXPIRY)
                    if row is None:
                        break
                    job = Job.from_row(row)
                    if job.task in exclude_tasks:
                        await connection.execute(self._query("release_platform_job"), job.id, SKIP_DELAY)
                        skipped += 1
                    else:
                        jobs.append(job)
                        large_bytes += job.large_payload_size
            if jobs and lease_seconds is not None:
                claimed = [(job.id, job.attempt) for job in jobs]
                await self.renew(worker_id, claimed, lease_seconds=lease_seconds)
        except DATABASE_ERRORS:
            if not jobs:
                raise
        return jobs

    def joined(self, connection: asyncpg.Connection, on_settled: OnSettled) -> Self:
        """See ``JobStore.joined``."""
        store = copy.copy(self)
        store._pool = SingleConnection(connection)  # noqa: SLF001  - a copy of this store
        store._on_settled = on_settled  # noqa: SLF001
        return store

    async def settle(self, settlements: Sequence[Settlement]) -> set[int]:
        """See ``JobStore.settle``: one transaction for each settlement.

        It first checks that the worker has locked the job, because the platform's ``complete_job`` does not.
        """
        changed: set[int] = set()
        async with self._pool.acquire() as connection:
            for settlement in settlements:
                async with connection.transaction():
                    row = await connection.fetchrow(
                        self._query("lock_claimed_job"),
                        *(settlement.worker_id, settlement.job_id, settlement.attempt, settlement.row_tag),
                    )
                    if row is None:
                        continue
                    settlement = await self._settle_locked(connection, settlement, row)  # noqa: PLW2901  - as it ended
                changed.add(settlement.job_id)
                self._on_settled([SettledJob.from_row(settlement, row)])
        return changed

    async def _settle_locked(
        self, connection: asyncpg.Connection, settlement: Settlement, row: asyncpg.Record
    ) -> Settlement:
        """Settle a job whose row is locked, and return the settlement as it ended: a snooze may be one too many."""
        worker_id, job_id = settlement.worker_id, settlement.job_id
        if settlement.outcome is Outcome.SNOOZED:
            snooze = next_snooze(
                row["last_error"], settlement.error or "", now=row["now"], max_age=settlement.snooze_max_age
            )
            # add_job of the platform sets the attempts to the maximum if another job takes the key.
            has_lost_key = settlement.attempt is not None and row["attempts"] > settlement.attempt
            settlement = settlement._replace(error=snooze.last_error, permanent=snooze.is_over or has_lost_key)
        await connection.execute(self._query("end_platform_leases"), worker_id, job_id)
        if settlement.released:
            await connection.execute(self._query("release_platform_job"), job_id, settlement.delay)
        elif settlement.error is None:
            await connection.execute(self._query("complete_job"), worker_id, job_id)
        else:
            await connection.execute(self._query("fail_job"), worker_id, job_id, sanitize_text(settlement.error))
            if settlement.outcome is Outcome.SNOOZED:
                await connection.execute(self._query("snooze_platform_job"), job_id, settlement.delay)
            elif settlement.permanent or settlement.delay is not None:
                await connection.execute(
                    self._query("adjust_failed_job"), job_id, settlement.permanent, settlement.delay
                )
        return settlement

    async def renew(self, worker_id: str, jobs: Sequence[tuple[int, int]], *, lease_seconds: float) -> set[int]:
        """See ``JobStore.renew``."""
        return await self._renew(worker_id, [(*job, None) for job in jobs], lease_seconds=lease_seconds)

    async def _renew(
        self, worker_id: str, jobs: Sequence[tuple[int, int, int | None]], *, lease_seconds: float
    ) -> set[int]:
        """Do the same for jobs that are given as id, attempt and tag of the row."""
        ids, attempts, row_tags = ([job[position] for job in jobs] for position in range(3))
        lease = timedelta(seconds=lease_seconds)
        rows = await self._pool.fetch(self._query("renew_platform_leases"), worker_id, ids, attempts, row_tags, lease)
        return {row["id"] for row in rows}

    async def heartbeat(self, heartbeat: Heartbeat, *, lease_seconds: float) -> bool:
        """See ``JobStore.heartbeat``. This schema cannot store the progress."""
        job = heartbeat.job_id, heartbeat.attempt, heartbeat.row_tag
        return bool(await self._renew(heartbeat.worker_id, [job], lease_seconds=lease_seconds))

    async def cancelled(self, jobs: Sequence[tuple[int, int]]) -> set[int]:
        """See ``JobStore.cancelled``. This schema does not store the attempt."""
        ids = [job_id for job_id, _ in jobs]
        return {row["id"] for row in await self._pool.fetch(self._query("cancelled_platform_jobs"), ids)}

    async def expire(self) -> int:
        """See ``JobStore.expire``. In this schema, jobs do not expire."""
        return 0

    async def has_lease(self, worker_id: str, job_id: int, attempt: int, *, row_tag: int | None = None) -> bool:
        """See ``JobStore.has_lease``."""
        has_lease: bool = await self._pool.fetchval(
            self._query("has_platform_lease"), worker_id, job_id, attempt, row_tag
        )
        return has_lease

    async def mark_accepted(self, worker_id: str, job_id: int, attempt: int) -> None:
        """Do nothing: this schema cannot store it."""

    async def reap_expired(self) -> list[ExpiredJob]:
        """See ``JobStore.reap_expired``. Claims unlock the jobs; this returns those since the last call."""
        reaped, self._reaped = self._reaped, []
        return reaped

    async def reclaim(self, worker_id: str) -> list[ExpiredJob]:
        """See ``JobStore.reclaim``."""
        rows = await self._pool.fetch(self._query("reclaim_platform_jobs"), worker_id)
        return [ExpiredJob.from_row(row) for row in rows]

    async def release(self, worker_id: str) -> None:
        """See ``JobStore.release``."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(self._query("end_platform_leases"), worker_id, None)
            await connection.execute(self._query("release_jobs"), worker_id)

    async def seconds_until_next(self, *, since_seconds: float = 0.0) -> float | None:
        """See ``JobStore.seconds_until_next``."""
        seconds: float | None = await self._pool.fetchval(
            self._query("next_platform_run_at"), timedelta(seconds=since_seconds)
        )
        return seconds

    async def paused(self, job_ids: Sequence[int]) -> set[int]:  # noqa: ARG002
        """See ``JobStore.paused``: this schema has no pauses."""
        return set()

    async def end_cancelled(self, worker_id: str, job_id: int, attempt: int | None) -> None:
        """See ``JobStore.end_cancelled``: this schema frees a queue at once."""

    async def pause_limits(self, worker_id: str, job_id: int, attempt: int, *, seconds: float) -> bool:  # noqa: ARG002
        """See ``JobStore.pause_limits``: this schema has no limits."""
        return False

    async def is_locked_without_lease(self, worker_id: str, job_id: int) -> bool | None:  # noqa: ARG002
        """See ``JobStore.is_locked_without_lease``. In this schema the locks of all workers look alike."""
        return None

    async def record_learned_attempts(self, limits: Mapping[str, int | None]) -> None:
        """See ``JobStore.record_learned_attempts``. This schema has no place for it."""

    async def callback_secret(self) -> None:
        """See ``JobStore.callback_secret``. This schema is never changed, and keeps none."""

    async def installation_id(self) -> str:
        """See ``JobStore.installation_id``."""
        return str(await self._pool.fetchval(self._query("platform_installation_id")))
