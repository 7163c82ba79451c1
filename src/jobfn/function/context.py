"""``JobContext``: what a handler may know about the delivery it works on."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from jobfn.wire import JobHeaders

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


@dataclass(slots=True)
class JobContext:
    """One delivery, as its handler sees it. Built by the app; in a unit test, build one by hand.

    Attributes:
        task: The task identifier.
        job_id: ``jobs.id``; None when called by hand.
        worker_id: The worker that holds the job; None when called by hand.
        database_id: The tenant, where the job has one.
        actor_id: Who caused the job, where known.
        entity_id: What the job is about, where known.
        attempt: Which attempt this is, 1 for the first, where the worker says so (jobfn's does).
        env: The process's environment variables.
    """

    task: str
    job_id: int | None = None
    worker_id: str | None = None
    database_id: UUID | None = None
    actor_id: UUID | None = None
    entity_id: UUID | None = None
    attempt: int | None = None
    env: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    _log: "FilteringBoundLogger | None" = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, task: str, headers: JobHeaders) -> "JobContext":
        """The context of a delivery of ``task`` with these headers (contract, section 1)."""
        return cls(
            task=task,
            job_id=headers.job_id,
            worker_id=headers.worker_id,
            database_id=headers.database_id,
            actor_id=headers.actor_id,
            entity_id=headers.entity_id,
            attempt=headers.attempt,
        )

    @property
    def log(self) -> "FilteringBoundLogger":
        """A structured logger that already carries the job's ids: ``ctx.log.info("charging", invoice=1)``."""
        if self._log is None:
            from jobfn import logs  # noqa: PLC0415  - structlog is loaded by who logs

            self._log = logs.get_logger("jobfn.task").bind(**self.ids())
        return self._log

    def ids(self) -> dict[str, str | int]:
        """The ids that are known, as they go into logs."""
        known: dict[str, str | int | UUID | None] = {
            "task": self.task,
            "job": self.job_id,
            "attempt": self.attempt,
            "worker": self.worker_id,
            "tenant": self.database_id,
        }
        return {
            name: str(value) if isinstance(value, UUID) else value for name, value in known.items() if value is not None
        }
