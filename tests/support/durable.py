"""Durable jobs with recorded steps, without a worker."""

from collections.abc import Sequence
from typing import Any

from jobfn.database.step_store import HeldJob, StepStore
from jobfn.wire.steps import StepKind, StepRecord
from support.jobs import WORKER, Jobs


def step(position: int, name: str, result: str | None = "null", **fields: Any) -> StepRecord:
    """Return the record of a step that has run."""
    return StepRecord(position, name, "step", result=result, **fields)


def wait(position: int, name: str, kind: StepKind, group: int | None = None, **spec: Any) -> StepRecord:
    """Return the record of a sleep, wait or call."""
    return StepRecord(position, name, kind, "waiting", group, spec=spec)


def call(position: int, task: str, group: int | None = None) -> StepRecord:
    """Return the record of a call of a child job, without a payload."""
    return wait(position, f"call:{task}", "call", group, task=task, payload={})


async def record(jobs: Jobs, job_id: int, *records: StepRecord) -> None:
    """Record steps of a job that ``WORKER`` has locked."""
    connection: Any = jobs.connection  # has the method of a pool that the store calls
    store = StepStore(connection, "app_jobs")
    held = HeldJob(WORKER, job_id, (await jobs.row(job_id))["attempts"])
    assert await store.record([(held, each) for each in records], lease_seconds=60)


async def start(jobs: Jobs, task: str, *records: StepRecord, **options: object) -> int:
    """Add a job, claim it, and record steps. Returns its id."""
    job_id = await jobs.add(task, **options)
    assert await jobs.claim_id(tasks=[task]) == job_id
    if records:
        await record(jobs, job_id, *records)
    return job_id


async def park(jobs: Jobs, job_id: int, groups: Sequence[int]) -> None:
    """Park a job that ``WORKER`` has locked."""
    parked = await jobs.connection.fetch(
        "select * from app_jobs.park_jobs(array[$1], array[$2::bigint], array[null::int], array[$3::json])",
        WORKER,
        job_id,
        f"[{', '.join(map(str, groups))}]",
    )
    assert [row["id"] for row in parked] == [job_id]


async def parked(jobs: Jobs, task: str, *records: StepRecord, **options: object) -> int:
    """Add a job that is parked until one of the waits among its steps ends. Returns its id."""
    job_id = await start(jobs, task, *records, **options)
    waiting = [each for each in records if each.state == "waiting" and each.kind != "then"]
    await park(jobs, job_id, sorted({each.group or each.position for each in waiting}))
    return job_id
