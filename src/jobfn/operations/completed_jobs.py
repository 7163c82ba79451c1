"""Run completed jobs again, while they are stored with their payloads (``JOBS_COMPLETED_PAYLOAD_DAYS``)."""

from collections.abc import Sequence

from jobfn.operations.queries import completed_parameters
from jobfn.operations.records import JobFilter
from jobfn.operations.statements import Database

#: Why a job that is neither stored nor in the table cannot run again.
NOT_STORED = "it is not stored: set JOBS_COMPLETED_PAYLOAD_DAYS, which stores the jobs that complete from then on"


def require_stored(database: Database) -> None:
    """Check that the schema can store completed jobs.

    Raises:
        ConfigurationError: It is the platform's schema.
    """
    database.require_native("stores no completed jobs: add the job again")


async def count_matching(database: Database, job_filter: JobFilter, *, limit: int) -> int:
    """Count the stored completed jobs that match, up to ``limit``."""
    if job_filter.excludes_completed:
        return 0
    rows = await database.fetch("count_completed", *completed_parameters(job_filter, None), limit)
    return int(rows[0]["count"])


async def matching_ids(database: Database, job_filter: JobFilter, below: int | None, limit: int) -> list[int]:
    """Return the ids of the stored completed jobs that match, the highest first."""
    if job_filter.excludes_completed:
        return []
    rows = await database.fetch(
        "matching_completed_ids", *completed_parameters(job_filter, below), limit, next_batch=True
    )
    return [row["id"] for row in rows]


async def stored_ids(database: Database, job_ids: Sequence[int]) -> set[int]:
    """Return those of the jobs that are stored."""
    return {row["id"] for row in await database.fetch("stored_ids", list(job_ids))}
