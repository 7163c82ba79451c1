"""Renew the leases of in-flight jobs, and reap jobs whose worker died during their last attempt.

A worker that dies stops renewing, so that its jobs are free again when their leases expire.
"""

import asyncio
from collections.abc import Callable, Sequence

from jobfn.database.connection import DATABASE_ERRORS, FailureLog
from jobfn.database.records import Job
from jobfn.database.store import JobStore
from jobfn.telemetry import logs
from jobfn.worker.telemetry.settlement_log import log_unlocked

#: Renewals per lease: a lease survives two missed ones.
RENEWALS_PER_LEASE = 3
#: Maximum number of missed renewals before a claim waits for one. The rest of the lease is for the claim itself.
MAX_MISSED_RENEWALS = 1


class LeaseRenewer:
    """Renews the leases of one worker.

    Args:
        store: The jobs.
        worker_id: The worker.
        lease_seconds: Duration of a lease.
        leased_jobs: Returns the jobs whose leases to renew.
        on_not_held: Called with a job that the worker does not hold any more. Returns whether that is unexpected.
        on_lost: Called if there are such jobs: they may have been cancelled.
        clock: Returns a monotonic time in seconds.
    """

    def __init__(
        self,
        store: JobStore,
        *,
        worker_id: str,
        lease_seconds: float,
        leased_jobs: Callable[[], Sequence[Job]],
        on_not_held: Callable[[Job], bool],
        on_lost: Callable[[], None] = lambda: None,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._worker_id = worker_id
        self._lease_seconds = lease_seconds
        self._leased_jobs = leased_jobs
        self._on_not_held = on_not_held
        self._on_lost = on_lost
        self._clock = clock
        self._renewed_at = clock()
        self._log = logs.get_logger("jobfn.worker").bind(worker=worker_id)
        self._misses: dict[tuple[int, int], int] = {}

    async def run(self) -> None:
        """Renew until cancelled. Errors are logged and retried; leases outlast two missed renewals."""
        failures = FailureLog("leases not renewed")
        tick = 0
        while True:
            try:
                await self._renew()
                if tick % RENEWALS_PER_LEASE == 0:
                    await self._reap_expired()
            except DATABASE_ERRORS as error:
                failures.record(error)
            else:
                failures.clear()
            tick += 1
            await asyncio.sleep(self._lease_seconds / RENEWALS_PER_LEASE)

    async def catch_up(self) -> None:
        """Renew now if renewals were missed, so that the next claim does not return this worker's own jobs.

        The database refused the renewals, this process was suspended, or the machine is busy.
        """
        max_age_seconds = self._lease_seconds * (1 + MAX_MISSED_RENEWALS) / RENEWALS_PER_LEASE
        if self._clock() - self._renewed_at > max_age_seconds:
            await self._renew()

    async def _renew(self) -> None:
        started_at = self._clock()
        leased = self._leased_jobs()
        renewed: set[int] = set()
        if leased:
            keys = [(job.id, job.attempt) for job in leased]
            renewed = await self._store.renew(self._worker_id, keys, lease_seconds=self._lease_seconds)
        self._renewed_at = started_at
        lost = [job for job in leased if job.id not in renewed and self._on_not_held(job)]
        if lost:
            self._on_lost()
        misses, self._misses = self._misses, {}
        for job in lost:
            key = job.id, job.attempt
            self._misses[key] = misses.get(key, 0) + 1
            # One miss is normal: the job was settled a moment ago, and its report is about to arrive here.
            if self._misses[key] == 2:
                ids = job.ids(self._worker_id)
                self._log.warning("lease lost: the job was settled elsewhere or claimed by another worker", **ids)

    async def _reap_expired(self) -> None:
        await self._store.expire()
        reaped = await self._store.reap_expired()
        await log_unlocked(self._log.error, "job permanently failed: its worker died in the last attempt", reaped)
