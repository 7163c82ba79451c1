"""Store the steps of durable functions in jobfn's schema: one statement for the steps of many jobs."""

import functools
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import asyncpg

from jobfn.database.records import Settlement, sanitize_text
from jobfn.database.statements import query
from jobfn.wire.steps import PLANNED_STEPS_BODY_BYTES, StepPage, StepRecord


class HeldJob(NamedTuple):
    """A job that a worker holds in an attempt."""

    worker_id: str
    job_id: int
    attempt: int


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
        steps = [step for _, step in entries]
        rows = await self._pool.fetch(
            self._query("record_steps"),
            *claim_columns([job for job, _ in entries]),
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
        )
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
        rows = await self._pool.fetch(
            self._query("load_steps"),
            *claim_columns([job for job, _ in jobs]),
            [after for _, after in jobs],
            PLANNED_STEPS_BODY_BYTES,
        )
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


def claim_columns(claims: Sequence[HeldJob] | Sequence[Settlement]) -> list[Sequence[object]]:
    """Return the workers, the jobs and the attempts of claims, each as a column."""
    return [
        [claim.worker_id for claim in claims],
        [claim.job_id for claim in claims],
        [claim.attempt for claim in claims],
    ]
