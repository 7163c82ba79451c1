"""What operators see of jobs: values, without I/O. ``figures.py`` has the numbers, ``actions.py`` what can be done."""

from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

import asyncpg


class JobState(StrEnum):
    """Where a job stands. A completed job's row is deleted, so that one is known from history alone."""

    READY = "ready"
    DELAYED = "delayed"
    RUNNING = "running"
    FAILED = "failed"
    COMPLETED = "completed"

    @classmethod
    def of(cls, row: "asyncpg.Record") -> "JobState":
        """The state of a row that says ``is_held``, ``exhausted`` and ``is_delayed``."""
        if row["is_held"]:
            return cls.RUNNING
        if row["exhausted"]:
            return cls.FAILED
        return cls.DELAYED if row["is_delayed"] else cls.READY


class RunOutcome(StrEnum):
    """What became of an attempt: ``job_runs.outcome``.

    ``FAILED`` is tried again, ``FAILED_FOR_GOOD`` was the last attempt. ``RELEASED`` was given back without counting,
    ``LOST`` had a worker that died or lost its lease. ``CANCELLED`` and ``REMOVED`` are somebody's doing.
    """

    COMPLETED = "completed"
    FAILED = "failed"
    FAILED_FOR_GOOD = "failed_for_good"
    RELEASED = "released"
    LOST = "lost"
    CANCELLED = "cancelled"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs. Every field that is given must fit; None: any.

    Attributes:
        task: The task identifier.
        queue: The named queue.
        state: Where they stand.
        error: A part of the last error, in whatever case.
        search: A number: this id, or the beginning of a key. Any other text: the beginning of a key or of a task, or a
            part of the last error, that in whatever case. Of completed jobs: the id, or the beginning of the task.
        tenant: ``database_id``, a UUID.
        worker: Who holds them now; of completed ones: who ran them.
        older_than_seconds: Enqueued at least so long ago.
        newer_than_seconds: Enqueued at most so long ago.
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

    @property
    def is_empty(self) -> bool:
        """Whether every job fits."""
        return all(getattr(self, part.name) is None for part in fields(self))


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job, without its payload. Columns as in the contract's ``jobs``, section 3.

    Attributes:
        id: ``jobs.id``.
        task: The task identifier.
        state: Where it stands.
        created_at: When it was enqueued.
        queue: The named queue.
        key: The job key.
        priority: Lower runs first.
        attempts: How many have begun.
        max_attempts: How many there may be; 0 where only history knows the job.
        run_at: Not before.
        updated_at: When the row last changed.
        last_error: Why the last attempt failed.
        locked_at: Since when a worker has held it.
        locked_by: Which.
        lease_expires_at: Until when that lock is good unless it is renewed.
        progress: How far it says it is, 0 to 1.
        progress_note: What it says it is at.
        database_id: The tenant.
        actor_id: Who caused it.
        entity_id: What it is about.
        ended_at: When it was completed.
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
    run_at: datetime | None = None
    updated_at: datetime | None = None
    last_error: str | None = None
    locked_at: datetime | None = None
    locked_by: str | None = None
    lease_expires_at: datetime | None = None
    progress: float | None = None
    progress_note: str | None = None
    database_id: str | None = None
    actor_id: str | None = None
    entity_id: str | None = None
    ended_at: datetime | None = None

    @classmethod
    def of(cls, row: "asyncpg.Record") -> "JobRow":
        """The job in a row of ``list_jobs.sql`` or ``show_job.sql``."""
        state = JobState.of(row)
        is_running = state is JobState.RUNNING
        return cls(
            id=row["id"],
            task=row["task_identifier"],
            state=state,
            created_at=row["created_at"],
            queue=row["queue_name"],
            key=row["key"],
            priority=row["priority"],
            attempts=row["attempts"],
            max_attempts=row["max_attempts"],
            run_at=row["run_at"],
            updated_at=row["updated_at"],
            last_error=row["last_error"],
            locked_at=row["locked_at"] if is_running else None,
            locked_by=row["locked_by"] if is_running else None,
            lease_expires_at=row["lease_expires_at"] if is_running else None,
            progress=None if row["progress"] is None else round(row["progress"], 6),  # 0.52 as told, not as a real is
            progress_note=row["progress_note"],
            database_id=_text(row["database_id"]),
            actor_id=_text(row["actor_id"]),
            entity_id=_text(row["entity_id"]),
        )

    @classmethod
    def of_run(cls, run: "Run") -> "JobRow":
        """What history knows of a job that was completed."""
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
    """Some jobs, newest first.

    Attributes:
        jobs: They.
        next: The ``after`` of the page that follows; None: this was the last.
    """

    jobs: tuple[JobRow, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one attempt: a row of ``job_runs``.

    Attributes:
        job_id: ``jobs.id``.
        attempt: Its number, 1 for the first.
        task: The task identifier.
        queue: The named queue.
        database_id: The tenant.
        worker: Who held it; None: nobody.
        enqueued_at: When the job was added.
        due_at: Since when this attempt could begin.
        started_at: When it was claimed; None: it was not running.
        ended_at: When it ended.
        outcome: How.
        error: Why.
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

    @classmethod
    def of(cls, row: "asyncpg.Record") -> "Run":
        """The attempt in a row of ``job_runs``."""
        return cls(
            job_id=row["job_id"],
            attempt=row["attempt"],
            task=row["task_identifier"],
            queue=row["queue_name"],
            database_id=_text(row["database_id"]),
            worker=row["worker"],
            enqueued_at=row["enqueued_at"],
            due_at=row["due_at"],
            started_at=row["started_at"],
            ended_at=row["ended_at"],
            outcome=RunOutcome(row["outcome"]),
            error=row["error"],
        )

    @property
    def seconds(self) -> float | None:
        """How long it took; None: it was not running."""
        return None if self.started_at is None else (self.ended_at - self.started_at).total_seconds()

    @property
    def queue_seconds(self) -> float | None:
        """How long it waited after it could begin; None: it was not running."""
        if self.started_at is None:
            return None
        return max((self.started_at - max(self.due_at, self.enqueued_at)).total_seconds(), 0.0)


@dataclass(frozen=True, slots=True)
class Event:
    """A point in a job's life.

    Attributes:
        at: When.
        kind: ``enqueued``, ``started``, ``ended``, ``running`` or ``due``.
        text: What happened, in words.
        attempt: Of which attempt.
        outcome: Of an end.
        error: Of an end.
    """

    at: datetime
    kind: str
    text: str
    attempt: int | None = None
    outcome: RunOutcome | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class JobDetail:
    """All that is known of a job.

    Attributes:
        id: ``jobs.id``.
        task: The task identifier.
        job: Its row; None: it is gone, and known from history.
        payload: JSON text, as stored; None: gone with the row.
        runs: Its attempts that ended, oldest first; without history, none.
        timeline: Its life, oldest first.
    """

    id: int
    task: str
    job: JobRow | None
    payload: str | None
    runs: tuple[Run, ...]
    timeline: tuple[Event, ...] = field(default=())

    @property
    def state(self) -> JobState:
        """Where it stands."""
        return JobState.COMPLETED if self.job is None else self.job.state


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
