"""Keeping the locks of running jobs alive, and burying the jobs of those who died.

A worker that dies stops renewing, and its jobs are free again when their leases end. Nobody has to notice.
"""

import asyncio
from collections.abc import Callable, Sequence

import asyncpg

from jobfn.database.connection import CONNECTION_LOST
from jobfn.database.records import Job, JobStore
from jobfn.telemetry import logs
from jobfn.worker.telemetry.settlement_log import log_unlocked

#: A lease is renewed so many times before it would end: two renewals may be missed.
RENEWALS_PER_LEASE = 3


class LeaseRenewer:
    """Renews what its worker holds.

    Args:
        store: Where the locks are.
        worker_id: Whose they are.
        lease_seconds: How long a lock is good, in seconds.
        held: What the worker holds now.
    """

    def __init__(
        self,
        store: JobStore,
        *,
        worker_id: str,
        lease_seconds: float,
        held: Callable[[], Sequence[Job]],
    ) -> None:
        self._store = store
        self._worker_id = worker_id
        self._lease_seconds = lease_seconds
        self._held = held
        self._log = logs.get_logger("jobfn.worker").bind(worker=worker_id)
        self._missed: dict[tuple[int, int], int] = {}

    async def run(self) -> None:
        """Renew until cancelled, whatever happens. A database that is away for less than two renewals costs nothing."""
        beat = 0
        while True:
            try:
                await self._renew()
                if beat % RENEWALS_PER_LEASE == 0:
                    await self._bury()
            except CONNECTION_LOST as error:
                self._log.warning("leases not renewed: no database", reason=str(error))
            except asyncpg.PostgresError as error:
                self._log.error("leases not renewed: trying again", exc_info=error)
            beat += 1
            await asyncio.sleep(self._lease_seconds / RENEWALS_PER_LEASE)

    async def _renew(self) -> None:
        held = self._held()
        if not held:
            return
        jobs = [(job.id, job.attempt) for job in held]
        kept = await self._store.renew(self._worker_id, jobs, lease_seconds=self._lease_seconds)
        self._missed = {job: self._missed.get(job, 0) + 1 for job in jobs if job[0] not in kept}
        for job in held:
            # One that was settled at this very moment is missed once: the news of it is on its way.
            if self._missed.get((job.id, job.attempt)) == 2:
                ids = job.ids(self._worker_id)
                self._log.warning("no longer held: settled elsewhere, or taken over after a lost lease", **ids)

    async def _bury(self) -> None:
        buried = await self._store.bury()
        await log_unlocked(self._log.error, "failed for good: its worker died in the last attempt", buried)
