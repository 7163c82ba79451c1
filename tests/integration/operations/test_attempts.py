"""The attempts of an ended job are those that ran, although the row uses all of them up."""

import pytest

from jobfn.cli.render_jobs import detail_lines, job_table
from jobfn.operations import Action, JobRow, Operations
from jobfn.operations.task_settings import DeclaredTask, sync
from jobfn.task_defaults import TaskDefaults
from support.jobs import WORKER, Jobs


async def settle(jobs: Jobs, job: int, outcome: str, error: str | None = None) -> None:
    """Settle a job that ``WORKER`` holds."""
    rows = await jobs.connection.fetch(
        "select * from app_jobs.settle_jobs($1, $2, $3, $4, $5, $6)",
        [WORKER],
        [job],
        [None],
        [outcome],
        [error],
        [None],
    )
    assert len(rows) == 1


async def details(operations: Operations, job: int) -> JobRow:
    detail = await operations.get_job(job)
    assert detail is not None
    assert detail.job is not None
    return detail.job


async def shown(operations: Operations, job: int) -> JobRow:
    """Return the job as the list has it, which is as its details have it."""
    [listed] = (await operations.list_jobs()).jobs
    detailed = await details(operations, job)
    assert (detailed.attempts, detailed.max_attempts) == (listed.attempts, listed.max_attempts)
    return listed


async def test_permanent_failure_shows_the_attempts_that_ran(operations: Operations, jobs: Jobs) -> None:
    job = await jobs.add("mail")
    await jobs.claim()
    await jobs.fail(job)
    await jobs.update("run_at = now()")
    await jobs.claim()
    await settle(jobs, job, "permanently_failed", "no such address")
    listed = await shown(operations, job)
    assert (listed.state, listed.attempts, listed.max_attempts) == ("failed", 2, 25)
    page = await operations.list_jobs()
    assert " 2/25 " in job_table(page, listed.created_at)[1]
    detail = await operations.get_job(job)
    assert detail is not None
    assert "    attempts    2 of 25" in detail_lines(detail, listed.created_at)


@pytest.mark.parametrize("is_running", [True, False])
async def test_cancelled_job_shows_the_attempts_that_ran(
    operations: Operations, jobs: Jobs, *, is_running: bool
) -> None:
    job = await jobs.add("mail")
    if is_running:
        await jobs.claim()
    await operations.apply(Action.CANCEL, [job], include_running=True)
    listed = await shown(operations, job)
    assert (listed.state, listed.attempts, listed.max_attempts) == ("cancelled", int(is_running), 25)


async def test_job_with_no_attempts_left_shows_all(operations: Operations, jobs: Jobs) -> None:
    job = await jobs.add("mail", max_attempts=1)
    await jobs.claim()
    await jobs.fail(job)
    listed = await shown(operations, job)
    assert (listed.state, listed.attempts, listed.max_attempts) == ("failed", 1, 1)


async def test_retried_job_counts_from_the_start(operations: Operations, jobs: Jobs) -> None:
    job = await jobs.add("mail")
    await jobs.claim()
    await settle(jobs, job, "permanently_failed", "x")
    await operations.apply(Action.RETRY, [job])
    assert (await shown(operations, job)).attempts == 0
    await jobs.claim()
    await settle(jobs, job, "permanently_failed", "x")
    assert (await shown(operations, job)).attempts == 1


async def test_without_history_the_row_decides(operations: Operations, jobs: Jobs) -> None:
    job = await jobs.add("mail")
    await jobs.claim()
    await settle(jobs, job, "permanently_failed", "x")
    await jobs.connection.execute("delete from app_jobs.job_runs")
    assert (await shown(operations, job)).attempts == 25


async def test_limit_of_the_task_is_shown_for_jobs_that_allow_more(operations: Operations, jobs: Jobs) -> None:
    """Jobs that were added before the sync keep 25 in their row, and the function ends them after the third attempt."""
    old, strict, other = await jobs.add("mail"), await jobs.add("mail", max_attempts=2), await jobs.add("pdf")
    mail = DeclaredTask("mail", "functions.py", TaskDefaults(max_attempts=3))
    await sync(jobs.connection, "app_jobs", [mail])
    new = await jobs.add("mail")
    assert {job: (await details(operations, job)).max_attempts for job in (old, strict, other, new)} == {
        old: 3,
        strict: 2,
        other: 25,
        new: 3,
    }
    page = await operations.list_jobs()
    assert [" 0/3 " in line for line in job_table(page, page.jobs[0].created_at)[1:5]] == [True, False, False, True]


async def test_job_that_ran_more_often_than_a_later_limit_shows_its_attempts(
    operations: Operations, jobs: Jobs
) -> None:
    job = await jobs.add("mail")
    await jobs.update("attempts = 5")
    await sync(jobs.connection, "app_jobs", [DeclaredTask("mail", "functions.py", TaskDefaults(max_attempts=3))])
    listed = await shown(operations, job)
    assert (listed.attempts, listed.max_attempts) == (5, 5)
