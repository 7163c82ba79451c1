"""Store the steps of durable functions in jobfn's schema: one statement for the steps of many jobs."""

import functools
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import asyncpg

from jobfn.database.records import Settlement, sanitize_text
from jobfn.database.statements import query
from jobfn.wire.steps import PLANNED_STEPS_BODY_BYTES, StepPage, StepRecord


class HeldJob(NamedTuple):
    """A job that a worker holds in an attempt. It must have this ``Job.row_tag``; None: any."""

    worker_id: str
    job_id: int
    attempt: int
    row_tag: int | None = None


class StepStore:
    """Records and loads steps.

    Args:
        pool: Connections.
        schema: The jobs schema, jobfn's.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]", schema: str) -> None:
        self._pool: Any = pool
        self._query = functools.partial(query, schema=schema)

    async def record(
        self, entries: Sequence[tuple[HeldJob, StepRecord]], *, lease_seconds: float
    ) -> dict[int, dict[int, StepRecord]]:
        """Record steps, and renew the leases of their jobs.

        Returns:
            By job and position, the steps as they are recorded. Jobs that their workers do not hold are missing.
        """
        steps, jobs = [step for _, step in entries], [job for job, _ in entries]
        columns = [
            *claim_columns(jobs),
            timedelta(seconds=lease_seconds),
            [step.position for step in steps],
            [step.name for step in steps],
            [step.kind for step in steps],
            [step.state for step in steps],
            [step.group for step in steps],
            [None if step.result is None else sanitize_json(step.result) for step in steps],
            [None if step.error is None else sanitize_text(step.error) for step in steps],
            [step.seconds for step in steps],
            [None if step.spec is None else sanitize_json(json.dumps(step.spec)) for step in steps],
        ]
        rows = await self._pool.fetch(*held_query(self._query, "record_steps", jobs, columns))
        kinds = {(job.job_id, step.position): step.kind for job, step in entries}
        recorded: dict[int, dict[int, StepRecord]] = {}
        for row in rows:
            position = row["step_position"]
            recorded.setdefault(row["job_id"], {})[position] = StepRecord(
                position, row["name"], kinds[row["job_id"], position], row["state"], result=row["result"]
            )
        return recorded

    async def load(self, jobs: Sequence[tuple[HeldJob, int]]) -> dict[int, StepPage]:
        """Return what has been recorded of each job after a position; jobs that are not held are missing."""
        held = [job for job, _ in jobs]
        columns = [*claim_columns(held), [after for _, after in jobs], PLANNED_STEPS_BODY_BYTES]
        rows = await self._pool.fetch(*held_query(self._query, "load_steps", held, columns))
        pages: dict[int, StepPage] = {}
        records: list[StepRecord] = []
        for row in rows:
            if row["step_position"] is None:  # the last row of a job
                pages[row["job_id"]] = StepPage(records, row["has_more"])
                records = []
            else:
                records.append(
                    StepRecord(
                        row["step_position"],
                        row["name"],
                        row["kind"],
                        row["state"],
                        row["wait_group"],
                        row["result"],
                        row["error"],
                    )
                )
        return pages


def sanitize_json(text: str) -> str:
    r"""Return JSON text without ``\u0000``, which PostgreSQL stores in json but cannot turn into text."""
    return text.replace("\\u0000", "\\ufffd") if "\\u0000" in text else text


def held_query(
    query_of: Callable[[str], str],
    name: str,
    claims: Sequence[HeldJob] | Sequence[Settlement],
    columns: Sequence[object],
) -> tuple[Any, ...]:
    """Return a query whose second column has the jobs of claims, and its columns.

    Jobs that have another ``row_tag`` than their claims say count as not held. Only reports name it: a worker knows the
    jobs that it has claimed.
    """
    tags = [claim.row_tag for claim in claims]
    if not any(tags):
        return query_of(name), *columns
    return _tagged(query_of(name), query_of("same_jobs"), len(columns) + 1), *columns, tags


@functools.cache
def _tagged(statement: str, same_jobs: str, position: int) -> str:
    same_jobs = same_jobs.replace("$2", "$tags").replace("$1", "$2").replace("$tags", f"${position}")
    return statement.replace("$2", f"({same_jobs})")


def claim_columns(claims: Sequence[HeldJob] | Sequence[Settlement]) -> list[Sequence[object]]:
    """Return the workers, the jobs and the attempts of claims, each as a column."""
    return [
        [claim.worker_id for claim in claims],
        [claim.job_id for claim in claims],
        [claim.attempt for claim in claims],
    ]
