"""Group the last errors of jobs by task and text, so that an operator sees causes instead of single failures.

Numbers, ids and quoted values are replaced, and only the first line counts: errors that differ in these are one group.
"""

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from jobfn.errors import ConfigurationError
from jobfn.operations.queries import filter_parameters
from jobfn.operations.records import JobFilter, JobState
from jobfn.operations.statements import Database

#: Maximum number of jobs that are grouped, the newest ones: a second of work for PostgreSQL.
MAX_GROUPED_JOBS = 100_000
_STATES = (None, JobState.READY, JobState.DELAYED, JobState.PARKED, JobState.RUNNING, JobState.FAILED)


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Jobs of one task whose last errors are the same, except for numbers, ids and quoted values.

    Attributes:
        id: For ``JobFilter.error_group``. It is the same for all tasks.
        error: The error with ``<n>``, ``<id>`` and ``<value>``.
        failed: Number of permanently failed jobs.
        retrying: Number of jobs that have attempts left.
        first_at: When the first of these jobs failed for the last time.
        last_at: When the latest of these jobs failed.
    """

    id: str
    task: str
    error: str
    failed: int
    retrying: int
    first_at: datetime
    last_at: datetime

    @classmethod
    def from_row(cls, row: "asyncpg.Record") -> "ErrorGroup":
        """Read a row of ``error_groups``."""
        return cls(
            row["id"],
            row["task_identifier"],
            row["error"],
            row["failed"],
            row["retrying"],
            row["first_at"],
            row["last_at"],
        )

    @property
    def count(self) -> int:
        """Number of jobs."""
        return self.failed + self.retrying


@dataclass(frozen=True, slots=True)
class ErrorGroups:
    """The largest groups.

    Attributes:
        groups: The groups, those with the most jobs first.
        jobs: Number of jobs with an error in all groups.
        is_partial: Whether older jobs were not read, because there are more than ``MAX_GROUPED_JOBS``.
    """

    groups: tuple[ErrorGroup, ...]
    jobs: int = 0
    is_partial: bool = False


async def list_error_groups(database: Database, job_filter: JobFilter, *, limit: int) -> ErrorGroups:
    """See ``Operations.error_groups``."""
    if job_filter.state not in _STATES:
        raise ConfigurationError(f"{job_filter.state} jobs have no errors to group: choose another state")
    values = filter_parameters(database, job_filter, None)
    rows = await database.fetch("error_groups", *values, MAX_GROUPED_JOBS, limit)
    jobs = rows[0]["jobs"] if rows else 0
    return ErrorGroups(tuple(ErrorGroup.from_row(row) for row in rows), jobs, jobs >= MAX_GROUPED_JOBS)
