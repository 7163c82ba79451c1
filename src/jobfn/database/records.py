"""What is said about jobs between the database and its users: values, and what a store of jobs can do.

``batch_store.py`` and ``single_store.py`` are the two stores; ``jobs.py`` opens the one that fits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol

import asyncpg

from jobfn.wire import StoredResult
from jobfn.wire.trace_context import TraceContext

#: A lock older than this counts as forgotten (contract, section 3).
JOB_EXPIRY = timedelta(hours=4)
#: Of an error message this much is kept.
MAX_ERROR_CHARACTERS = 10_000

_CENTURY_SECONDS = 100 * 365.25 * 86_400


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job, as a worker delivers it.

    Attributes:
        id: ``jobs.id``.
        task: The task identifier.
        payload: JSON text, as stored.
        attempt: Which attempt this is, 1 for the first.
        queue: The named queue it holds, if any.
        database_id: The tenant, if any.
        actor_id: Who caused it, if known.
        entity_id: What it is about, if known.
        trace: Which trace it is a part of, if any.
        waited_seconds: How long it had been due when it was claimed.
    """

    id: int
    task: str
    payload: str
    attempt: int
    queue: str | None = None
    database_id: str | None = None
    actor_id: str | None = None
    entity_id: str | None = None
    trace: TraceContext | None = None
    waited_seconds: float = field(default=0.0, compare=False)

    @classmethod
    def of(cls, row: "asyncpg.Record") -> "Job":
        """The job in a row of ``claim_jobs`` or ``get_job``."""
        return cls(
            id=row["id"],
            task=row["task_identifier"],
            payload=row["payload"],
            attempt=row["attempts"],
            queue=row["queue_name"],
            database_id=str_or_none(row["database_id"]),
            actor_id=str_or_none(row["actor_id"]),
            entity_id=str_or_none(row["entity_id"]),
            trace=TraceContext.parse(row["traceparent"], row["tracestate"]),
            waited_seconds=max(row["waited_seconds"] or 0.0, 0.0),
        )

    def ids(self, worker_id: str) -> dict[str, str | int | None]:
        """Its ids, as they go into logs and spans; all five, also where it has no tenant."""
        return {
            "task": self.task,
            "job": self.id,
            "attempt": self.attempt,
            "worker": worker_id,
            "tenant": self.database_id,
        }


class Outcome(StrEnum):
    """What becomes of a job: each is one action of ``settle_jobs``."""

    COMPLETED = "completed"
    FAILED = "failed"
    PERMANENTLY_FAILED = "permanently_failed"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a delivery ended, on its way into the database.

    Attributes:
        worker_id: Who must hold the job for this to count.
        job_id: ``jobs.id``.
        attempt: In which attempt it must be held; None: in any.
        error: Why it failed; None completes it, unless it is given back.
        permanent: A failure that is not to be tried again.
        delay_seconds: When it is to run again, from now; None: after the contract's backoff.
        released: Not an end at all: unlocked as if it had not been claimed.
        reported: Whether the function itself said so, and not its response.
        kept: What its handler returned, where that is to be kept.
    """

    worker_id: str
    job_id: int
    attempt: int | None = None
    error: str | None = None
    permanent: bool = False
    delay_seconds: float | None = None
    released: bool = False
    reported: bool = False
    kept: StoredResult | None = None

    @property
    def outcome(self) -> Outcome:
        """What becomes of the job."""
        if self.released:
            return Outcome.RELEASED
        if self.error is None:
            return Outcome.COMPLETED
        return Outcome.PERMANENTLY_FAILED if self.permanent else Outcome.FAILED

    @property
    def delay(self) -> timedelta | None:
        """``delay_seconds`` as PostgreSQL takes it, at most a hundred years."""
        return None if self.delay_seconds is None else timedelta(seconds=min(self.delay_seconds, _CENTURY_SECONDS))


class SettledJob(NamedTuple):
    """A settlement that changed its job.

    Attributes:
        settlement: Which.
        task: The job's task identifier.
        attempt: The attempt that ended.
        database_id: The job's tenant, if any.
    """

    settlement: Settlement
    task: str
    attempt: int
    database_id: str | None

    @classmethod
    def of(cls, settlement: Settlement, row: "asyncpg.Record") -> "SettledJob":
        """The ending in a row of ``settle_jobs`` or ``lock_claimed_job``."""
        return cls(
            settlement, row["task_identifier"], settlement.attempt or row["attempts"], str_or_none(row["database_id"])
        )

    def ids(self) -> dict[str, str | int | None]:
        """The ids of what ended, as they go into logs."""
        settlement = self.settlement
        return {
            "task": self.task,
            "job": settlement.job_id,
            "attempt": self.attempt,
            "worker": settlement.worker_id,
            "tenant": self.database_id,
        }


class ExpiredJob(NamedTuple):
    """A job whose lock was taken from a worker that died, as it was held.

    Attributes:
        id: ``jobs.id``.
        task: Its task identifier.
        attempt: The attempt that nobody will end.
        worker: Who held it.
        database_id: Its tenant, if any.
    """

    id: int
    task: str
    attempt: int
    worker: str
    database_id: str | None

    @classmethod
    def of(cls, row: "asyncpg.Record") -> "ExpiredJob":
        """The job in a row of ``reclaim_jobs``, ``reclaim_platform_jobs`` or ``reap_expired_jobs``."""
        return cls(
            row["id"], row["task_identifier"], row["attempts"], row["locked_by"], str_or_none(row["database_id"])
        )

    def ids(self) -> dict[str, str | int | None]:
        """Its ids, as they go into logs."""
        return {
            "task": self.task,
            "job": self.id,
            "attempt": self.attempt,
            "worker": self.worker,
            "tenant": self.database_id,
        }


#: Told of each ending when it is committed; it must not raise.
OnSettled = Callable[[SettledJob], None]


def unheard(_ending: SettledJob) -> None:
    """An ``OnSettled`` for who does not ask."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life of a running job.

    Attributes:
        worker_id: Who must hold it.
        job_id: ``jobs.id``.
        attempt: In which attempt.
        progress: How far it is, 0 to 1; None: not said.
        note: What it is at; None: not said.
    """

    worker_id: str
    job_id: int
    attempt: int
    progress: float | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to enqueue; every field as in the contract's ``add_job``.

    Attributes:
        task: The task identifier, 1 to 126 characters.
        payload: JSON text.
        key: At most one waiting job has it.
        queue: Jobs of one queue run one at a time.
        run_at: Not before; None: now.
        max_attempts: Default 25.
        priority: Lower runs first.
        database_id: The tenant; None: that of the session.
    """

    task: str
    payload: str = "{}"
    key: str | None = None
    queue: str | None = None
    run_at: datetime | None = None
    max_attempts: int = 25
    priority: int = 0
    database_id: str | None = None


class JobStore(Protocol):
    """What a worker and a callback server need of the database."""

    async def claim(
        self,
        worker_id: str,
        *,
        tasks: Sequence[str] | None,
        limit: int,
        lease_seconds: float | None = None,
        exclude_tasks: Sequence[str] = (),
    ) -> list[Job]:
        """Lock ready jobs, most urgent first.

        Args:
            worker_id: For whom.
            tasks: Of these tasks; None takes any.
            limit: So many at most.
            lease_seconds: How long the locks are good without being renewed; None: the contract's four hours.
            exclude_tasks: Not of these tasks.
        """

    async def settle(self, settlements: Sequence[Settlement]) -> set[int]:
        """Commit these outcomes. Returns the ids that changed: a job that is not held so stays as it is."""

    async def renew(self, worker_id: str, jobs: Sequence[tuple[int, int]], *, lease_seconds: float) -> set[int]:
        """Prolong the locks of these jobs, each given with its attempt. Returns those that are held so."""

    async def beat(self, beat: Beat, *, lease_seconds: float) -> bool:
        """Prolong one job's lock and note its progress. Returns whether it is held so."""

    async def accepted(self, worker_id: str, job_id: int, attempt: int) -> None:
        """Note that a function runs this attempt by itself: ``take_back`` leaves it alone while its lease is good."""

    async def bury(self) -> list[ExpiredJob]:
        """Unlock jobs whose holder died in their last attempt: they have failed for good. Returns which."""

    async def take_back(self, worker_id: str) -> list[ExpiredJob]:
        """Unlock all that this worker held when it died, the attempts counted: as when leases end. Returns which.

        Jobs that a function has accepted are left to their signs of life.
        """

    async def release(self, worker_id: str) -> None:
        """Unlock all that this worker holds, giving the attempts back."""

    async def seconds_to_next(self, *, looked_seconds_ago: float = 0.0) -> float | None:
        """Seconds until the next delayed job is due; None when there is none.

        Args:
            looked_seconds_ago: When ready jobs were looked for. A job that became due since then is due now (0 or
                less): whoever asks has not seen it.
        """


def sanitize_text(message: str) -> str:
    """A message as PostgreSQL can hold it: no NUL, no lone surrogates, at most ``MAX_ERROR_CHARACTERS``."""
    return message.replace("\0", "").encode("utf-8", "replace").decode("utf-8")[:MAX_ERROR_CHARACTERS]


def str_or_none(value: object) -> str | None:
    """A UUID as the driver gives it, as logs and headers have it."""
    return None if value is None else str(value)
