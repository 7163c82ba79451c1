"""The interface of a job store: what workers and callback servers need from the database.

``native_store.py`` implements it for jobfn's schema, ``platform_store.py`` for the platform's, and ``open_store.py``
chooses one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import asyncpg

from jobfn.database.records import ExpiredJob, Heartbeat, Job, SettledJob, Settlement
from jobfn.database.step_store import StepStore

#: Called with the jobs whose settlements were committed together. It must not raise.
OnSettled = Callable[[Sequence[SettledJob]], None]


def ignore_settlement(_settled: Sequence[SettledJob]) -> None:
    """Do nothing: the default ``OnSettled``."""


class JobStore(Protocol):
    """Claims and settles jobs."""

    @property
    def steps(self) -> StepStore | None:
        """Stores the steps of durable functions; None: this schema cannot."""

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
        """Lock ready jobs, ordered by priority, due time and id.

        Args:
            worker_id: The worker that locks them.
            tasks: Only jobs of these tasks; None: of all tasks.
            limit: Maximum number of jobs.
            lease_seconds: After this time without a renewal, the locks expire; None: after four hours (contract).
            exclude_tasks: No jobs of these tasks.
            max_payload_bytes: Maximum size of the payloads together that are larger than ``LARGE_PAYLOAD_BYTES``.
                The first job may exceed it, unless it is 0 or less. None: no limit.
        """

    def joined(self, connection: asyncpg.Connection, on_settled: OnSettled) -> "JobStore":
        """Return this store on one connection, whose open transaction its statements join."""

    async def settle(self, settlements: Sequence[Settlement]) -> set[int]:
        """Commit the outcomes, and return the ids of the jobs that changed.

        A job changes only if the settlement's worker has locked it in the settlement's attempt.
        """

    async def renew(self, worker_id: str, jobs: Sequence[tuple[int, int]], *, lease_seconds: float) -> set[int]:
        """Renew the leases of jobs, given as id and attempt. Return the ids that this worker has locked."""

    async def heartbeat(self, heartbeat: Heartbeat, *, lease_seconds: float) -> bool:
        """Renew a job's lease and store its progress. Return whether the worker has locked the job."""

    async def cancelled(self, jobs: Sequence[tuple[int, int]]) -> set[int]:
        """Return the ids of those jobs, given as id and attempt, that were cancelled while they ran."""

    async def end_cancelled(self, worker_id: str, job_id: int, attempt: int | None) -> None:
        """Free the slots of limits and the named queue of a cancelled job, because its handler has ended.

        Until then, or until the end of its lease, no other job gets them.
        """

    async def expire(self) -> int:
        """End jobs that wait past their expiry, some hundreds at a time. Return how many."""

    async def has_lease(self, worker_id: str, job_id: int, attempt: int, *, row_tag: int | None = None) -> bool:
        """Return whether the worker has locked the job in this attempt, with a lease that has not ended.

        The job must have this ``Job.row_tag``, if it is given.
        """

    async def mark_accepted(self, worker_id: str, job_id: int, attempt: int) -> None:
        """Record that a function runs this attempt in the background, so that ``reclaim`` skips it while leased."""

    async def reap_expired(self) -> list[ExpiredJob]:
        """Unlock jobs whose lease expired in their last attempt, and return them. They have permanently failed."""

    async def reclaim(self, worker_id: str) -> list[ExpiredJob]:
        """Unlock the jobs that this worker had locked when it died, and return them. Their attempts count.

        Jobs that a function has accepted stay locked: their heartbeats renew the lease.
        """

    async def release(self, worker_id: str) -> None:
        """Unlock all jobs of this worker. Their attempts do not count."""

    async def seconds_until_next(self, *, since_seconds: float = 0.0) -> float | None:
        """Return the seconds until a delayed job is due; None if no job is delayed.

        Args:
            since_seconds: Time since the caller's last claim. If a job became due since then, the result is 0 or less.
        """

    async def paused(self, job_ids: Sequence[int]) -> set[int]:
        """Return those of these jobs that are paused."""

    async def pause_limits(self, worker_id: str, job_id: int, attempt: int, *, seconds: float) -> bool:
        """Pause the keys of a locked job, of limits that pause for a ``Retry-After``. Return whether there is one."""

    async def is_locked_without_lease(self, worker_id: str, job_id: int) -> bool | None:
        """Return whether the worker has locked the job without a lease; None if it has not locked it."""

    async def record_learned_attempts(self, limits: Mapping[str, int | None]) -> None:
        """Record the maximum number of attempts that tasks allow, for people; None: the task has no own limit."""

    async def callback_secret(self) -> str | None:
        """Return the secret with which workers and callback servers of this schema sign; None if it keeps none."""

    async def installation_id(self) -> str:
        """Return the identity of the jobs schema, which no other database has, nor this one after it was rebuilt."""
