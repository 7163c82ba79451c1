"""Jobs and their attempts, as operators see them."""

from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

import asyncpg

from jobfn.operations.durable_records import DurableRun
from jobfn.operations.wait_reasons import WaitReason


class JobState(StrEnum):
    """State of a job. The row of a completed job is deleted: only the history has it."""

    READY = "ready"
    DELAYED = "delayed"
    PARKED = "parked"
    RUNNING = "running"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    COMPLETED = "completed"

    @classmethod
    def from_row(cls, row: "asyncpg.Record") -> "JobState":
        """Derive it from the columns ``is_running``, ``exhausted``, ``ended_as``, ``is_parked`` and ``is_delayed``."""
        if row["is_running"]:
            return cls.RUNNING
        if row["exhausted"]:
            return cls(row["ended_as"] or cls.FAILED)
        if row["is_parked"]:
            return cls.PARKED
        return cls.DELAYED if row["is_delayed"] else cls.READY


class RunOutcome(StrEnum):
    """Outcome of an attempt: ``job_runs.outcome``.

    ``FAILED`` is retried, ``PERMANENTLY_FAILED`` is not. ``RELEASED``, ``SNOOZED`` and ``PARKED`` do not count.
    ``LOST``: the worker died or its lease expired. ``CANCELLED`` and ``REMOVED``: an operator did it.
    ``EXPIRED``: not started before its expiry.
    """

    COMPLETED = "completed"
    FAILED = "failed"
    PERMANENTLY_FAILED = "permanently_failed"
    RELEASED = "released"
    SNOOZED = "snoozed"
    PARKED = "parked"
    LOST = "lost"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REMOVED = "removed"


#: Hint at a failure without a traceback.
NO_TRACEBACK = (
    "no traceback: a function sends those of exceptions to callers with its invoke secret (JOBFN_INVOKE_SECRET), or on "
    "its machine if it has none; with JOBFN_TRACEBACKS=true to all"
)


class JobOrder(StrEnum):
    """Order of a list of jobs.

    ``NEWEST``: by id, the newest first. ``UPDATED``: by the last change, the latest first; of failed jobs that is when
    they failed.
    """

    NEWEST = "newest"
    UPDATED = "updated"


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Filter for jobs: every field that is set must match.

    Attributes:
        error: A substring of the last error, ignoring case.
        search: A number matches this id or the start of a key. Any other text matches the start of a key or task, or a
            substring of the last error (ignoring case). For completed jobs: the id or the start of the task.
        tenant: ``database_id``, a UUID.
        worker: The worker that holds the job; for completed jobs, the worker that ran it.
        older_than_seconds: Minimum age since the job was enqueued.
        newer_than_seconds: Maximum age since the job was enqueued.
        failed_before_seconds: Minimum time since the job failed permanently.
        failed_after_seconds: Maximum time since the job failed permanently.
        payload: A field of the payload and its value as text: ``("customer_id", "42")``, ``("customer.id", "42")``.
            Of completed jobs, only those whose payload is stored match.
        error_group: The ``ErrorGroup.id`` of the last error. Add the task for one group of a task.
    """

    task: str | None = None
    queue: str | None = None
    state: JobState | None = None
    error: str | None = None
    search: str | None = None
    tenant: str | None = None
    worker: str | None = None
    older_than_seconds: float | None = None
    newer_than_seconds: float | None = None
    failed_before_seconds: float | None = None
    failed_after_seconds: float | None = None
    payload: tuple[str, str] | None = None
    error_group: str | None = None

    @property
    def excludes_completed(self) -> bool:
        """Whether no completed job can match, because it has no error."""
        conditions = (self.error, self.error_group, self.failed_before_seconds, self.failed_after_seconds)
        return any(value is not None for value in conditions)

    @property
    def is_empty(self) -> bool:
        """Whether the filter matches every job."""
        return all(getattr(self, field.name) is None for field in fields(self))


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job without its payload: the columns of ``jobs`` (contract, section 3).

    Attributes:
        attempts: Attempts started so far, without those that do not count.
        max_attempts: Maximum number of attempts, of the job or its task; 0 if only the history has the job.
        snoozes: Number of attempts that do not count: snoozes (``RetryLater``), and of durable functions parks, too.
        parks: How many of them were parks; None if the history does not have all of them any more.
        locked_by: The worker that holds the job, whose lock has expired, or that completed it.
        lease_expires_at: When the lock expires unless the worker renews it.
        is_expired: Whether the job is still locked after its lease has ended. The next claim takes it over, or fails it
            permanently after its last attempt. Until then the state is ``READY`` or ``FAILED``.
        progress: Last reported progress, 0 to 1.
        database_id: The tenant.
        ended_at: When the job completed.
        expires_at: The job is not started after this time.
    """

    id: int
    task: str
    state: JobState
    created_at: datetime
    queue: str | None = None
    key: str | None = None
    priority: int = 0
    attempts: int = 0
    max_attempts: int = 0
    snoozes: int = 0
    parks: int | None = 0
    run_at: datetime | None = None
    updated_at: datetime | None = None
    last_error: str | None = None
    locked_at: datetime | None = None
    locked_by: str | None = None
    lease_expires_at: datetime | None = None
    progress: float | None = None
    progress_message: str | None = None
    database_id: str | None = None
    actor_id: str | None = None
    entity_id: str | None = None
    ended_at: datetime | None = None
    is_expired: bool = False
    expires_at: datetime | None = None

    @property
    def state_label(self) -> str:
        """The state as people see it."""
        return "orphaned" if self.is_expired else self.state.value

    @property
    def uncounted_label(self) -> str:
        """The attempts that do not count, as people see them; empty if there are none."""
        if self.parks is None:
            return f"{self.snoozes:,} not counted"
        if not self.parks:
            return f"snoozed {self.snoozes:,}" if self.snoozes else ""
        others = self.snoozes - self.parks
        return f"parked {_times(self.parks)}" + (f", {others:,} more not counted" if others else "")

    @classmethod
    def from_row(cls, row: "asyncpg.Record") -> "JobRow":
        """Read a row of ``list_jobs`` or ``show_job``."""
        state = JobState.from_row(row)
        is_locked = row["locked_at"] is not None
        return cls(
            id=row["id"],
            task=row["task_identifier"],
            state=state,
            created_at=row["created_at"],
            queue=row["queue_name"],
            key=row["key"],
            priority=row["priority"],
            attempts=row["attempts"],
            max_attempts=row["max_attempts"]
            and max(row["max_attempts"], row["attempts"]),  # a limit set later is lower
            snoozes=row["snoozes"],
            parks=row["parks"],
            run_at=row["run_at"],
            updated_at=row["updated_at"],
            last_error=row["last_error"],
            locked_at=row["locked_at"],
            locked_by=row["locked_by"] if is_locked else None,
            lease_expires_at=row["lease_expires_at"] if is_locked else None,
            is_expired=is_locked and state is not JobState.RUNNING,
            expires_at=row.get("expires_at"),
            progress=None
            if row["progress"] is None
            else round(row["progress"], 6),  # a PostgreSQL real: 0.52 is inexact
            progress_message=row["progress_message"],
            database_id=_str_or_none(row["database_id"]),
            actor_id=_str_or_none(row["actor_id"]),
            entity_id=_str_or_none(row["entity_id"]),
        )

    @classmethod
    def from_run(cls, run: "Run") -> "JobRow":
        """Build a completed job from its last attempt."""
        return cls(
            id=run.job_id,
            task=run.task,
            state=JobState.COMPLETED,
            created_at=run.enqueued_at,
            queue=run.queue,
            attempts=run.attempt,
            locked_by=run.worker,
            database_id=run.database_id,
            ended_at=run.ended_at,
        )


@dataclass(frozen=True, slots=True)
class JobPage:
    """A page of jobs. ``next`` is the cursor of the next page (``after``), None on the last page."""

    jobs: tuple[JobRow, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """An attempt that ended: a row of ``job_runs``.

    Attributes:
        worker: The worker that held the job; None if no worker did.
        due_at: When this attempt became due.
        started_at: When the job was claimed; None if it was not running.
        traceback: Of a failed attempt: the lines of code that failed, if the function has sent them.
    """

    job_id: int
    attempt: int
    task: str
    queue: str | None
    database_id: str | None
    worker: str | None
    enqueued_at: datetime
    due_at: datetime
    started_at: datetime | None
    ended_at: datetime
    outcome: RunOutcome
    error: str | None
    traceback: str | None = None

    @classmethod
    def from_row(cls, row: "asyncpg.Record") -> "Run":
        """Read a row of ``job_runs``."""
        return cls(
            job_id=row["job_id"],
            attempt=row["attempt"],
            task=row["task_identifier"],
            queue=row["queue_name"],
            database_id=_str_or_none(row["database_id"]),
            worker=row["worker"],
            enqueued_at=row["enqueued_at"],
            due_at=row["due_at"],
            started_at=row["started_at"],
            ended_at=row["ended_at"],
            outcome=RunOutcome(row["outcome"]),
            error=row["error"],
            traceback=row.get("traceback"),
        )

    @property
    def duration_seconds(self) -> float | None:
        """Duration in seconds; None if the job was not running."""
        return None if self.started_at is None else (self.ended_at - self.started_at).total_seconds()

    @property
    def queue_latency_seconds(self) -> float | None:
        """Seconds between due and claimed; None if the job was not running."""
        if self.started_at is None:
            return None
        return max((self.started_at - max(self.due_at, self.enqueued_at)).total_seconds(), 0.0)


@dataclass(frozen=True, slots=True)
class Event:
    """An entry of a job's timeline.

    Attributes:
        kind: ``enqueued``, ``started``, ``ended``, ``running``, ``expired`` or ``due``.
    """

    at: datetime
    kind: str
    text: str
    attempt: int | None = None
    outcome: RunOutcome | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class JobDetail:
    """Everything known about a job.

    Attributes:
        job: The row; None if it was deleted and only the history has the job.
        payload: The stored JSON text; None if the row was deleted, and the completed job is not stored.
        runs: The attempts that ended, oldest first; empty without history.
        run: What it has recorded, if it is a durable function.
        parent_id: The job that called it and waits for it, if any.
        wait: Why it does not run; None if it runs or has ended.
    """

    id: int
    task: str
    job: JobRow | None
    payload: str | None
    runs: tuple[Run, ...]
    timeline: tuple[Event, ...] = ()
    run: DurableRun | None = None
    parent_id: int | None = None
    wait: WaitReason | None = None

    @property
    def has_no_traceback(self) -> bool:
        """Whether the last attempt failed in a function, which has sent no traceback."""
        failed = {RunOutcome.FAILED, RunOutcome.PERMANENTLY_FAILED}
        return bool(self.runs) and self.runs[-1].outcome in failed and self.runs[-1].traceback is None

    @property
    def state(self) -> JobState:
        """State of the job."""
        return JobState.COMPLETED if self.job is None else self.job.state

    @property
    def state_label(self) -> str:
        """The state as people see it."""
        return self.state.value if self.job is None else self.job.state_label


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number:,} times"


def _str_or_none(value: Any) -> str | None:
    return None if value is None else str(value)
