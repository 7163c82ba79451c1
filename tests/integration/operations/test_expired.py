"""Jobs whose lease ended while no worker claims are shown as orphaned."""

import asyncpg

from jobfn.operations import JobState, Operations
from support.commands import Command
from support.dashboard import site
from support.jobs import Jobs

LOCK = "locked_by = 'worker-0', locked_at = now() - interval '1 hour', accepted_attempt = 1"


async def expire(jobs: Jobs, *, attempts: int = 1) -> int:
    """Add a job that a function accepted, and whose worker stopped before the lease ended."""
    job = await jobs.add("long", max_attempts=3)
    expired = "lease_expires_at = now() - interval '5 minutes'"
    await jobs.update(f"{LOCK}, {expired}, attempts = $2 where id = $1", job, attempts)
    return job


async def test_list_and_details_show_the_job_as_expired(jobs: Jobs, invoke: Command, database: str) -> None:
    job = await expire(jobs)
    listed = await invoke("jobfn", "jobs", "list", DATABASE_URL=database)
    assert listed.output.splitlines()[1].split()[:4] == [str(job), "orphaned", "long", "1/3"]
    assert "lease of worker-0 ended 5m ago" in listed.output
    shown = await invoke("jobfn", "jobs", "show", str(job), DATABASE_URL=database)
    assert shown.output.splitlines()[0] == f"job {job}  long  orphaned"
    assert "attempt 1 on worker-0 expired: the next claim of a worker takes the job over" in shown.output


async def test_expired_job_is_ready_and_in_json_marked(operations: Operations, jobs: Jobs) -> None:
    job = await expire(jobs)
    (row,) = (await operations.list_jobs()).jobs
    assert (row.id, row.state, row.is_expired, row.locked_by) == (job, JobState.READY, True, "worker-0")
    detail = await operations.get_job(job)
    assert detail is not None
    assert (detail.timeline[-1].kind, detail.timeline[-1].attempt) == ("expired", 1)


async def test_job_that_expired_in_its_last_attempt_is_failed_and_marked(operations: Operations, jobs: Jobs) -> None:
    await expire(jobs, attempts=3)
    (row,) = (await operations.list_jobs()).jobs
    assert (row.state, row.is_expired) == (JobState.FAILED, True)


async def test_running_and_waiting_jobs_are_not_expired(operations: Operations, jobs: Jobs) -> None:
    await jobs.add("x")
    await jobs.claim()
    await jobs.add("x")
    page = await operations.list_jobs()
    assert [(job.state, job.is_expired) for job in page.jobs] == [(JobState.READY, False), (JobState.RUNNING, False)]


async def test_expired_job_of_the_platform_schema_is_marked(
    platform_operations: Operations, platform_pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    await platform_pool.execute(
        "insert into app_jobs.jobs (database_id, task_identifier, run_at, attempts, locked_by, locked_at) values "
        "(gen_random_uuid(), 'long', now() - interval '5 minutes', 1, 'worker-0', now() - interval '1 hour')"
    )
    (row,) = (await platform_operations.list_jobs()).jobs
    assert (row.state, row.is_expired, row.locked_by) == (JobState.READY, True, "worker-0")


async def test_dashboard_shows_the_job_as_expired(jobs: Jobs, database: str) -> None:
    job = await expire(jobs)
    async with site(database) as dashboard:
        for path in ("/jobs", f"/jobs/{job}"):
            page = (await dashboard.get(path)).text
            assert '<span class="state orphaned">orphaned</span>' in page, path
            assert '<span class="state ready">ready</span>' not in page
        assert "lease of worker-0 ended" in (await dashboard.get("/jobs")).text


async def test_claim_takes_the_expired_job_over(jobs: Jobs, operations: Operations) -> None:
    job = await expire(jobs)
    assert await jobs.claim_id("worker-1") == job
    (row,) = (await operations.list_jobs()).jobs
    assert (row.state, row.is_expired, row.locked_by, row.attempts) == (JobState.RUNNING, False, "worker-1", 2)
