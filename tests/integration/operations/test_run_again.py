"""Completed jobs that are stored with their payloads are shown, and run again."""

from typing import Any

import asyncpg
import pytest

from jobfn.errors import ConfigurationError
from jobfn.operations import Action, FinalState, JobFilter, JobState, Operations, RunOutcome, open_operations
from jobfn.operations.actions import BATCH_SIZE
from jobfn.operations.completed_jobs import NOT_STORED
from support.jobs import TENANT, WORKER, Jobs


async def complete(jobs: Jobs, task: str = "x", payload: object = None, **options: object) -> int:
    job = await jobs.add(task, payload, **options)
    assert await jobs.claim_id() == job
    await jobs.complete(job)
    return job


@pytest.fixture(autouse=True)
async def stores_completed_jobs(jobs: Jobs) -> None:
    await jobs.connection.execute("select app_jobs.set_completed_payload_retention(1)")


async def test_completed_job_is_shown_with_its_payload(operations: Operations, jobs: Jobs) -> None:
    job = await complete(jobs, payload={"n": 1})
    detail = await operations.get_job(job)
    assert detail is not None
    assert (detail.state, detail.payload, len(detail.runs)) == (JobState.COMPLETED, '{"n": 1}', 1)


async def test_completed_job_is_shown_without_history(operations: Operations, jobs: Jobs) -> None:
    await jobs.connection.execute("select app_jobs.set_history_retention(0)")
    detail = await operations.get_job(await complete(jobs, payload={"n": 1}))
    assert detail is not None
    assert (detail.task, detail.payload, detail.runs) == ("x", '{"n": 1}', ())
    assert [event.text for event in detail.timeline] == ["enqueued", "completed"]
    assert await operations.get_job(10**6) is None


async def test_stored_job_without_history_has_completed_when_it_is_followed(
    pool: "asyncpg.Pool[Any]", jobs: Jobs
) -> None:
    await jobs.connection.execute("select app_jobs.set_history_retention(0)")
    job = await complete(jobs)
    final = await (await open_operations(pool, "app_jobs")).follow(job)
    assert final == FinalState(job, JobState.COMPLETED, RunOutcome.COMPLETED, None)


async def test_jobs_run_again_in_the_order_of_their_ids(operations: Operations, jobs: Jobs) -> None:
    first, second = await complete(jobs, payload={"n": 1}), await complete(jobs, payload={"n": 2})
    result = await operations.apply(Action.RUN_AGAIN, [second, first])
    assert (result.done, result.ids, result.skipped) == (2, (second, first), ())
    payloads = [(await jobs.row(job))["payload"] for job in result.new_ids]
    assert payloads == ['{"n": 2}', '{"n": 1}']


async def test_jobs_that_have_not_completed_or_are_not_stored_are_skipped(operations: Operations, jobs: Jobs) -> None:
    running = await jobs.add("x")
    await jobs.claim()
    failed, ready = await jobs.add("x"), await jobs.add("x")
    await jobs.connection.execute("select app_jobs.permanently_fail_jobs($1)", [failed])
    ids = [running, failed, ready, 10**6]
    result = await operations.apply(Action.RUN_AGAIN, ids)
    assert [skip.reason for skip in result.skipped] == [
        "it has not completed: it is running",
        "it has permanently failed: retry it",
        "it has not completed: it is ready",
        NOT_STORED,
    ]
    assert await operations.preview(Action.RUN_AGAIN, ids) == result


@pytest.mark.parametrize(
    ("job_filter", "found"),
    [
        (JobFilter(task="x"), {"x", "payload", "queue"}),
        (JobFilter(state=JobState.COMPLETED), {"x", "payload", "queue", "tenant"}),
        (JobFilter(queue="q"), {"queue"}),
        (JobFilter(tenant=TENANT), {"tenant"}),
        (JobFilter(payload=("n", "1")), {"payload"}),
        (JobFilter(worker=WORKER, queue="q"), {"queue"}),
        (JobFilter(worker="another"), set()),
        (JobFilter(search="te"), {"tenant"}),
        (JobFilter(task="x", older_than_seconds=3600), set()),
        (JobFilter(task="x", error="boom"), set()),
        (JobFilter(task="x", failed_after_seconds=60), set()),
    ],
)
async def test_filter_selects_stored_completed_jobs(
    operations: Operations, jobs: Jobs, job_filter: JobFilter, found: set[str]
) -> None:
    names = {await complete(jobs): "x", await complete(jobs, payload={"n": 1}): "payload"}
    names[await complete(jobs, queue_name="q")] = "queue"
    await jobs.connection.execute(f"set jwt.claims.database_id = '{TENANT}'")
    names[await complete(jobs, "tenant")] = "tenant"
    waiting = await jobs.add("x", {"n": 1})
    assert await operations.count_targets(Action.RUN_AGAIN, job_filter, limit=100) == len(found)
    result = await operations.apply_to_matching(Action.RUN_AGAIN, job_filter)
    assert {names[job] for job in result.ids} == found
    assert await jobs.count() == 1 + len(found)
    assert waiting not in result.ids


async def test_completed_jobs_are_listed_by_their_payload(operations: Operations, jobs: Jobs) -> None:
    await complete(jobs)
    job = await complete(jobs, payload={"n": 1})
    page = await operations.list_jobs(JobFilter(state=JobState.COMPLETED, payload=("n", "1")))
    assert [row.id for row in page.jobs] == [job]


async def test_many_jobs_run_again_in_batches(operations: Operations, jobs: Jobs) -> None:
    await jobs.connection.execute(
        "insert into app_jobs.completed_jobs (id, task_identifier, payload, priority, max_attempts, created_at,"
        " completed_at) select n, 'x', '{}', 0, 1, now(), now() from generate_series(1, $1) n",
        BATCH_SIZE + 1,
    )
    batches: list[int] = []
    result = await operations.apply_to_matching(Action.RUN_AGAIN, JobFilter(task="x"), on_progress=batches.append)
    assert (result.done, batches) == (BATCH_SIZE + 1, [BATCH_SIZE, 1])
    assert await jobs.count() == BATCH_SIZE + 1


async def test_other_states_and_the_platforms_schema_are_rejected(
    operations: Operations, platform_operations: Operations
) -> None:
    with pytest.raises(ConfigurationError, match="only completed jobs can run again"):
        await operations.apply_to_matching(Action.RUN_AGAIN, JobFilter(state=JobState.FAILED))
    with pytest.raises(ConfigurationError, match="the platform's own and stores no completed jobs"):
        await platform_operations.apply(Action.RUN_AGAIN, [1])
    assert await platform_operations.get_job(10**6) is None
