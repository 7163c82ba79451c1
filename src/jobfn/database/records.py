"""Records that travel between the database and its callers: jobs, settlements, heartbeats."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

import asyncpg

from jobfn.wire import StoredResult
from jobfn.wire.trace_context import TraceContext

#: Age at which a lock without a lease expires (contract, section 3).
JOB_EXPIRY = timedelta(hours=4)
#: Size above which claims count a payload (``jobs.payload_bytes``).
LARGE_PAYLOAD_BYTES = 16 * 1024
#: Maximum length of a stored error message.
MAX_ERROR_CHARACTERS = 10_000
#: Maximum delay of a retry: a hundred years.
MAX_DELAY_SECONDS = 100 * 365.25 * 86_400

#: The ids of a job as they appear in logs and spans.
Ids = dict[str, str | int | None]


def _ids(task: str, job_id: int, attempt: int, worker_id: str, database_id: str | None) -> Ids:
    return {"task": task, "job": job_id, "attempt": attempt, "worker": worker_id, "tenant": database_id}


class GraphNode(NamedTuple):
    """The node of a flow graph that a job runs.

    Attributes:
        execution_id: The execution of the graph, a UUID.
        name: The node's name.
        is_last_attempt: Whether the job has no attempts left after this one.
    """

    execution_id: str
    name: str
    is_last_attempt: bool = False


class Job(NamedTuple):
    """A claimed job.

    Attributes:
        id: ``jobs.id``.
        task: The task identifier.
        payload: JSON text, as stored.
        attempt: Number of the attempt; the first is 1.
        max_attempts: Number of the last attempt.
        queue: The named queue, if any.
        database_id: The tenant, if any.
        actor_id: The user who enqueued it, if known.
        entity_id: The entity that it is about, if known.
        trace: The trace context that it was enqueued with, if any.
        waited_seconds: Time between its due time and the claim.
        organization_id: The organization that the entity belongs to, if known.
        snoozes: How many of the attempts before this one were snoozes.
        node: The node of a flow graph that it runs, if any (``graph_store.py``).
        is_awaited: Whether other jobs wait for its end and its result.
        created_at: When it was added, in seconds since the epoch. A database that lost transactions in a failover may
            assign an id again, but not with the same time.
        priority: ``jobs.priority``; lower is more urgent.
    """

    id: int
    task: str
    payload: str
    attempt: int
    max_attempts: int = 25
    queue: str | None = None
    database_id: str | None = None
    actor_id: str | None = None
    entity_id: str | None = None
    trace: TraceContext | None = None
    waited_seconds: float = 0.0
    organization_id: str | None = None
    snoozes: int = 0
    node: GraphNode | None = None
    is_awaited: bool = False
    created_at: float | None = None
    priority: int = 0

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> "Job":
        """Return the job in a row of the query ``claim_jobs`` or ``get_job``."""
        # By position: with names, it takes twice as long.
        return cls(
            row["id"],
            row["task_identifier"],
            row["payload"],
            row["attempts"],
            row["max_attempts"],
            row["queue_name"],
            str_or_none(row["database_id"]),
            str_or_none(row["actor_id"]),
            str_or_none(row["entity_id"]),
            None if row["traceparent"] is None else TraceContext.parse(row["traceparent"], row["tracestate"]),
            max(row["waited_seconds"] or 0.0, 0.0),
            str_or_none(row["organization_id"]),
            row["snoozes"] or 0,
            None,
            row.get("is_awaited") or False,
            row["created_at"],
            row["priority"],
        )

    @property
    def row_tag(self) -> int | None:
        """Tells the rows apart that had this id one after the other, in callback tokens: the function ``same_jobs``."""
        return None if self.created_at is None else round(self.created_at * 1e6) & 0xFFFFFFFF

    @property
    def large_payload_size(self) -> int:
        """Size of the payload in characters; 0 if it is not larger than ``LARGE_PAYLOAD_BYTES``."""
        size = len(self.payload)
        return size if size > LARGE_PAYLOAD_BYTES else 0

    def ids(self, worker_id: str) -> Ids:
        """Return the job's ids, for logs and spans."""
        ids = _ids(self.task, self.id, self.attempt, worker_id, self.database_id)
        if self.organization_id is not None:
            ids["organization"] = self.organization_id
        if self.node is not None:
            ids |= {"execution": self.node.execution_id, "node": self.node.name}
        return ids


class Outcome(StrEnum):
    """Result of an attempt: the actions of ``settle_jobs``."""

    COMPLETED = "completed"
    FAILED = "failed"
    PERMANENTLY_FAILED = "permanently_failed"
    RELEASED = "released"
    SNOOZED = "snoozed"
    PARKED = "parked"


class Settlement(NamedTuple):
    """The result of a delivery, to be committed.

    Attributes:
        worker_id: The worker that must have locked the job.
        job_id: ``jobs.id``.
        attempt: The attempt in which it must have locked the job; None: any.
        error: Why the job failed; None completes it, unless it is released.
        permanent: Whether a failed job is not retried.
        delay_seconds: Delay of the retry; None: the contract's backoff.
        released: Whether the job is unlocked without counting the attempt.
        result: The handler's return value, if it is to be stored.
        node: The node of a flow graph that the job runs, if any.
        output: The output of the node, as JSON text.
        snooze_max_age_seconds: A failed attempt does not count, unless the job's first snooze is longer ago. None: it
            counts.
        waiting_for: Park the job until one of these groups of steps has ended (``wire/steps.py``).
        traceback: Of a failed attempt: the lines of code that failed.
        row_tag: The job must have this ``Job.row_tag``; None: any.
    """

    worker_id: str
    job_id: int
    attempt: int | None = None
    error: str | None = None
    permanent: bool = False
    delay_seconds: float | None = None
    released: bool = False
    result: StoredResult | None = None
    node: GraphNode | None = None
    output: str | None = None
    snooze_max_age_seconds: float | None = None
    waiting_for: tuple[int, ...] | None = None
    traceback: str | None = None
    row_tag: int | None = None

    @property
    def outcome(self) -> Outcome:
        """The action that this settlement takes."""
        if self.released:
            return Outcome.RELEASED
        if self.waiting_for is not None:
            return Outcome.PARKED
        if self.error is None:
            return Outcome.COMPLETED
        if self.permanent:
            return Outcome.PERMANENTLY_FAILED
        return Outcome.FAILED if self.snooze_max_age_seconds is None else Outcome.SNOOZED

    @property
    def snooze_max_age(self) -> timedelta:
        """``snooze_max_age_seconds``, at most ``MAX_DELAY_SECONDS``."""
        return timedelta(seconds=min(self.snooze_max_age_seconds or 0.0, MAX_DELAY_SECONDS))

    @property
    def delay(self) -> timedelta | None:
        """``delay_seconds``, at most ``MAX_DELAY_SECONDS``."""
        return None if self.delay_seconds is None else timedelta(seconds=min(self.delay_seconds, MAX_DELAY_SECONDS))


class SettledJob(NamedTuple):
    """A settlement that changed its job.

    Attributes:
        settlement: The settlement.
        task: The job's task identifier.
        attempt: The attempt that ended.
        database_id: The job's tenant, if any.
    """

    settlement: Settlement
    task: str
    attempt: int
    database_id: str | None

    @classmethod
    def from_row(cls, settlement: Settlement, row: asyncpg.Record) -> "SettledJob":
        """Return the job in a row of the query ``settle_jobs`` or ``lock_claimed_job``."""
        attempt = settlement.attempt or row["attempts"]
        return cls(settlement, row["task_identifier"], attempt, str_or_none(row["database_id"]))

    def ids(self) -> Ids:
        """Return the job's ids, for logs."""
        return _ids(self.task, self.settlement.job_id, self.attempt, self.settlement.worker_id, self.database_id)


class ExpiredJob(NamedTuple):
    """A job that was unlocked because its worker died or lost the lease.

    Attributes:
        id: ``jobs.id``.
        task: The task identifier.
        attempt: The attempt that was lost.
        worker_id: The worker that had locked it.
        database_id: The tenant, if any.
    """

    id: int
    task: str
    attempt: int
    worker_id: str
    database_id: str | None

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> "ExpiredJob":
        """Return the job in a row of a query that unlocks jobs: it has the job as it was locked."""
        return cls(
            row["id"], row["task_identifier"], row["attempts"], row["locked_by"], str_or_none(row["database_id"])
        )

    def ids(self) -> Ids:
        """Return the job's ids, for logs."""
        return _ids(self.task, self.id, self.attempt, self.worker_id, self.database_id)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign that a running job is alive.

    Attributes:
        worker_id: The worker that must have locked the job.
        job_id: ``jobs.id``.
        attempt: The attempt in which it must have locked the job.
        progress: Fraction of the work that is done, 0 to 1; None: unchanged.
        message: What the job is doing; None: unchanged.
        row_tag: The job must have this ``Job.row_tag``; None: any.
    """

    worker_id: str
    job_id: int
    attempt: int
    progress: float | None = None
    message: str | None = None
    row_tag: int | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to enqueue, with the arguments of the contract's ``add_job``.

    Attributes:
        task: The task identifier, 1 to 126 characters.
        payload: JSON text.
        key: Job key: a waiting job with the same key is replaced.
        queue: Named queue: its jobs run one at a time.
        run_at: Earliest time to run; None: now.
        max_attempts: Maximum number of attempts; None: of the task's settings, else 25.
        priority: Lower runs first; None: of the task's settings, else 0.
        database_id: The tenant; None: the session's.
        entity_id: The record that it is about.
        organization_id: The organization that the entity belongs to.
        entity_type: What the entity is.
        expires_at: The job is not started after this time; None: at any time.
    """

    task: str
    payload: str = "{}"
    key: str | None = None
    queue: str | None = None
    run_at: datetime | None = None
    max_attempts: int | None = None
    priority: int | None = None
    database_id: str | None = None
    entity_id: str | None = None
    organization_id: str | None = None
    entity_type: str | None = None
    expires_at: datetime | None = None


def sanitize_text(text: str) -> str:
    """Return a text that PostgreSQL can store: without NUL and lone surrogates, at most ``MAX_ERROR_CHARACTERS``."""
    return storable(text)[:MAX_ERROR_CHARACTERS]


def storable(text: str) -> str:
    """Return a text without NUL and lone surrogates."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def str_or_none(value: object) -> str | None:
    """Return a UUID of the driver as a string."""
    return None if value is None else str(value)
