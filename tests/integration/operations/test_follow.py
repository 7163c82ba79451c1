"""Waiting for a job's end: each end is told from the others, with what happened on the way."""

import asyncio
from typing import Any

import asyncpg
import pytest

from jobfn.errors import ConfigurationError
from jobfn.operations import Action, FinalState, JobRow, JobState, Operations, RunOutcome
from support.jobs import WORKER, Jobs

POLL = 0.01


async def test_a_job_that_completes(operations: Operations, jobs: Jobs) -> None:
    """Its states on the way are told, each once, and its end says in which attempt."""
    job = await jobs.add("x")
    seen: asyncio.Queue[JobRow] = asyncio.Queue()
    following = asyncio.create_task(operations.follow(job, poll_interval_seconds=POLL, changed=seen.put_nowait))
    assert (await seen.get()).state is JobState.READY
    await jobs.claim()
    running = await seen.get()
    assert (running.state, running.attempts) == (JobState.RUNNING, 1)
    await jobs.connection.execute("select app_jobs.note_progress($1, $2, 1, '1 minute', 0.52, 'half')", WORKER, job)
    assert (await seen.get()).progress == 0.52
    await jobs.connection.execute("select app_jobs.complete_job($1, $2)", WORKER, job)
    assert await following == FinalState(job, JobState.COMPLETED, RunOutcome.COMPLETED, 1)
    assert seen.empty()


async def test_a_job_that_fails_for_good(operations: Operations, jobs: Jobs) -> None:
    """With the reason."""
    job = await jobs.add("x", max_attempts=1)
    await jobs.claim()
    await jobs.connection.execute("select app_jobs.fail_job($1, $2, 'boom')", WORKER, job)
    end = await operations.follow(job, poll_interval_seconds=POLL)
    assert end == FinalState(job, JobState.FAILED, RunOutcome.FAILED_FOR_GOOD, 1, "boom")


@pytest.mark.parametrize(
    ("action", "outcome"), [(Action.CANCEL, RunOutcome.CANCELLED), (Action.REMOVE, RunOutcome.REMOVED)]
)
async def test_a_job_that_somebody_ends(
    operations: Operations, jobs: Jobs, action: Action, outcome: RunOutcome
) -> None:
    """Cancelled and removed are no success."""
    job = await jobs.add("x")
    await operations.act(action, [job])
    end = await operations.follow(job, poll_interval_seconds=POLL)
    assert (end.state, end.outcome) == (JobState.FAILED, outcome)


async def test_no_such_job(operations: Operations) -> None:
    """Where there is a history to ask, a job that is nowhere never was."""
    with pytest.raises(ConfigurationError, match="there is no job 99"):
        await operations.follow(99)


async def test_without_history_it_is_gone(on_platform: Operations, platform_pool: "asyncpg.Pool[Any]") -> None:
    """On the platform's own schema nobody can say more; a failure is told all the same."""
    add = "select (app_jobs.add_job(gen_random_uuid(), 'x', max_attempts := 1)).id"
    job = await platform_pool.fetchval(add)
    await platform_pool.execute("select app_jobs.get_job($1)", WORKER)
    following = asyncio.create_task(on_platform.follow(job, poll_interval_seconds=POLL))
    await platform_pool.execute("select app_jobs.complete_job($1, $2)", WORKER, job)
    assert await following == FinalState(job, JobState.COMPLETED, None, None)
    job = await platform_pool.fetchval(add)
    await platform_pool.execute("select app_jobs.get_job($1)", WORKER)
    await platform_pool.execute("select app_jobs.fail_job($1, $2, 'boom')", WORKER, job)
    end = await on_platform.follow(job, poll_interval_seconds=POLL)
    assert (end.state, end.error) == (JobState.FAILED, "boom")
