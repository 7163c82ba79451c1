"""Filters of actions on many jobs, their preview, and their stop."""

import json
import uuid
from typing import Any

import asyncpg
import pytest

from jobfn.errors import ConfigurationError
from jobfn.operations import Action, JobFilter, JobState, Operations
from jobfn.operations.actions import BATCH_SIZE
from jobfn.operations.queries import filter_parameters
from jobfn.operations.statements import Database, SchemaCapabilities
from support.jobs import TENANT, Jobs


async def add_failed(jobs: Jobs, *, days_ago: int) -> int:
    job = await jobs.add("x")
    await jobs.connection.execute("select app_jobs.permanently_fail_jobs($1, 'boom')", [job])
    await jobs.connection.execute(
        "update app_jobs.jobs set updated_at = now() - $2 * interval '1 day' where id = $1", job, days_ago
    )
    return job


async def matching(operations: Operations, job_filter: JobFilter) -> set[int]:
    return {job.id for job in (await operations.list_jobs(job_filter)).jobs}


async def test_filter_by_the_time_of_the_failure(operations: Operations, jobs: Jobs) -> None:
    old, new = await add_failed(jobs, days_ago=3), await add_failed(jobs, days_ago=1)
    waiting = await jobs.add("x")
    await jobs.connection.execute("update app_jobs.jobs set updated_at = '2020-01-01' where id = $1", waiting)
    two_days = 2 * 86_400.0
    assert await matching(operations, JobFilter(failed_before_seconds=two_days)) == {old}
    assert await matching(operations, JobFilter(failed_after_seconds=two_days)) == {new}
    result = await operations.apply_to_matching(Action.REMOVE, JobFilter(failed_before_seconds=two_days))
    assert result.ids == (old,)
    with pytest.raises(ConfigurationError, match="negative"):
        await operations.list_jobs(JobFilter(failed_before_seconds=-1))


PAYLOADS = {
    "number": {"customer": 42},
    "text": {"customer": "42"},
    "nested": {"order": {"customer": [7, 42]}},
    "true": {"customer": True},
    "null": {"customer": None},
    "zero": {"customer": 42, "note": "\0"},
    "list": [42],
}


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        (("customer", "42"), {"number", "text"}),
        (("order.customer.1", "42"), {"nested"}),
        (("customer", "true"), {"true"}),
        (("customer", "null"), set()),
        (("0", "42"), {"list"}),
        (("no such", "42"), set()),
        (("a\0b", "\ud800"), set()),
    ],
)
async def test_filter_by_a_field_of_the_payload(
    operations: Operations, jobs: Jobs, payload: tuple[str, str], found: set[str]
) -> None:
    """A document with U+0000, which PostgreSQL cannot read, matches nothing, and nothing fails."""
    names = {await jobs.add("x", content): name for name, content in PAYLOADS.items()}
    assert json.dumps(PAYLOADS["zero"]) == r'{"customer": 42, "note": "\u0000"}'
    assert {names[job] for job in await matching(operations, JobFilter(payload=payload))} == found
    assert await operations.count_matching(JobFilter(payload=payload)) == len(found)


async def test_filters_and_actions_on_the_platforms_schema(
    platform_operations: Operations, platform_pool: "asyncpg.Pool[Any]"
) -> None:
    add = "select (app_jobs.add_job($1, 'x', $2)).id"
    jobs = [await platform_pool.fetchval(add, uuid.UUID(TENANT), f'{{"n": {number}}}') for number in range(4)]
    await platform_pool.execute("select app_jobs.permanently_fail_jobs($1, 'boom')", jobs[:3])
    await platform_pool.execute("alter table app_jobs.jobs disable trigger user")
    await platform_pool.execute("update app_jobs.jobs set updated_at = '2020-01-01' where id = $1", jobs[0])
    old = JobFilter(failed_before_seconds=3600)
    assert await matching(platform_operations, old) == {jobs[0]}
    assert await matching(platform_operations, JobFilter(payload=("n", "3"))) == {jobs[3]}
    assert (await platform_operations.preview(Action.RETRY, jobs)).ids == tuple(jobs[:3])
    assert (await platform_operations.apply_to_matching(Action.RETRY, old)).ids == (jobs[0],)
    removed = await platform_operations.apply_to_matching(Action.REMOVE, JobFilter(payload=("n", "1")))
    assert removed.ids == (jobs[1],)


async def test_stop_ends_the_action_after_a_transaction(operations: Operations, jobs: Jobs) -> None:
    await jobs.connection.execute(
        "insert into app_jobs.jobs (task_identifier, attempts, max_attempts)"
        " select 'x', 1, 1 from generate_series(1, $1)",
        2 * BATCH_SIZE + 1,
    )
    batches: list[int] = []
    result = await operations.apply_to_matching(
        Action.RETRY, JobFilter(task="x"), on_progress=batches.append, should_stop=lambda: len(batches) == 2
    )
    assert (result.done, result.is_stopped) == (2 * BATCH_SIZE, True)
    assert await operations.count_targets(Action.RETRY, JobFilter(task="x"), limit=10) == 1


async def test_batch_reads_no_job_of_another_batch(pool: "asyncpg.Pool[Any]", jobs: Jobs) -> None:
    """A plan that sorts reads all remaining jobs for each batch: 20 s instead of 3 s for 100,000 jobs."""
    await jobs.connection.execute(
        "insert into app_jobs.jobs (task_identifier, attempts, max_attempts, last_error)"
        " select 'x', 1, 1, 'timeout' from generate_series(1, 5000)"
    )
    database = Database(pool, "app_jobs", SchemaCapabilities(is_platform=False))
    values = filter_parameters(database, JobFilter(task="x", error="timeout", state=JobState.FAILED), 4000)
    async with database.transaction(next_batch=True) as connection:
        [[text]] = await connection.fetch(
            f"explain (analyze, format json) {database.statement('matching_ids')}", *values, 500
        )
    limit = json.loads(text)[0]["Plan"]
    [scan] = limit["Plans"]
    assert (limit["Actual Rows"], scan["Node Type"], scan["Actual Rows"]) == (500, "Index Scan", 500)


@pytest.mark.parametrize("action", sorted({*Action} - {Action.RUN_AGAIN}))
async def test_preview_says_what_the_action_does(operations: Operations, jobs: Jobs, action: Action) -> None:
    failed = await add_failed(jobs, days_ago=0)
    running = await jobs.add("x")
    assert await jobs.claim_id() == running
    ready, delayed = await jobs.add("x"), await jobs.add("x")
    await jobs.connection.execute("update app_jobs.jobs set run_at = now() + interval '1 day' where id = $1", delayed)
    ids = [failed, running, ready, delayed, 10**6, 0]
    before = await jobs.connection.fetch("select * from app_jobs.jobs order by id")
    preview = await operations.preview(action, ids)
    assert await jobs.connection.fetch("select * from app_jobs.jobs order by id") == before
    assert preview == await operations.apply(action, ids)


async def test_preview_of_a_cancellation_can_include_running_jobs(operations: Operations, jobs: Jobs) -> None:
    job = await jobs.add("x")
    await jobs.claim()
    assert (await operations.preview(Action.CANCEL, [job])).done == 0
    assert (await operations.preview(Action.CANCEL, [job], include_running=True)).done == 1
