"""Jobs with an expiry: not started after it, and ended as expired."""

from datetime import timedelta

import asyncpg
import pytest

from support.jobs import WORKER, Jobs

HOUR = timedelta(hours=1)


async def expire_at(jobs: Jobs, job: int, after: timedelta) -> None:
    """Set the expiry of a job, relative to now; in the past, as if time had passed."""
    await jobs.connection.execute("update app_jobs.jobs set expires_at = now() + $2 where id = $1", job, after)


@pytest.mark.parametrize("queue", [None, "a queue"])
async def test_expired_job_is_not_claimed_and_ends_as_expired(jobs: Jobs, queue: str | None) -> None:
    late = await jobs.add("late", queue_name=queue)
    in_time = await jobs.add("in_time", queue_name=queue)
    await expire_at(jobs, late, -HOUR)
    await expire_at(jobs, in_time, HOUR)
    assert await jobs.claim_id() == in_time
    row = await jobs.row(late)
    assert (row["ended_as"], row["exhausted"], row["attempts"], row["locked_by"]) == ("expired", True, 25, None)
    assert row["last_error"].startswith("expired: it was not started before ")
    runs = await jobs.connection.fetch("select job_id, outcome, attempt, worker from app_jobs.job_runs")
    assert [tuple(run) for run in runs] == [(late, "expired", 0, None)]


async def test_workers_of_some_queues_expire_jobs_too(jobs: Jobs) -> None:
    late = await jobs.add("late", queue_name="slow")
    await expire_at(jobs, late, -HOUR)
    claim = "select id from app_jobs.claim_jobs_of_queues($1, array['slow'], null, '4 hours', 1)"
    assert await jobs.connection.fetchval(claim, WORKER) is None
    assert await jobs.values(late, "ended_as") == ("expired",)


async def test_retry_after_the_expiry_is_not_started(jobs: Jobs) -> None:
    job = await jobs.add("x")
    await expire_at(jobs, job, HOUR)
    assert await jobs.claim_id() == job
    await expire_at(jobs, job, -HOUR)  # it expires while it runs, which does not disturb it
    assert await jobs.claim_id() is None
    assert await jobs.values(job, "ended_as", "locked_by") == (None, WORKER)
    await jobs.fail(job)
    await jobs.update("run_at = now()")
    assert await jobs.claim_id() is None
    assert await jobs.values(job, "ended_as") == ("expired",)


async def test_running_job_completes_after_its_expiry(jobs: Jobs) -> None:
    job = await jobs.add("x")
    assert await jobs.claim_id() == job
    await expire_at(jobs, job, -HOUR)
    assert await jobs.complete(job) == job
    assert not await jobs.exists(job)


async def test_job_of_a_dead_worker_is_not_taken_over_after_its_expiry(jobs: Jobs) -> None:
    job = await jobs.add("x")
    assert await jobs.claim_id("worker-dead") == job
    await expire_at(jobs, job, -HOUR)
    await jobs.update("lease_expires_at = now() - interval '1 second'")
    assert await jobs.claim_id() is None
    assert await jobs.values(job, "ended_as", "fenced_attempt") == ("expired", 1)


async def test_claims_expire_a_flood_in_batches_and_start_none_of_it(jobs: Jobs) -> None:
    await jobs.connection.execute(
        "select app_jobs.set_default_expiry(now() - interval '1 second'); "
        "select app_jobs.add_job('late') from generate_series(1, 1200); "
        "select app_jobs.set_default_expiry(null); select app_jobs.add_job('in_time')"
    )
    claims = [await jobs.claim_id() for _ in range(3)]
    assert claims == [None, None, 1201]
    assert await jobs.connection.fetchval("select count(*) from app_jobs.jobs where ended_as = 'expired'") == 1200


async def test_retry_by_hand_runs_an_expired_job(jobs: Jobs) -> None:
    job = await jobs.add("x")
    await expire_at(jobs, job, -HOUR)
    assert await jobs.connection.fetchval("select count(*) from app_jobs.expire_jobs()") == 1
    assert await jobs.connection.fetchval("select app_jobs.retry_jobs(array[$1::bigint])", job) == job
    assert await jobs.values(job, "ended_as", "expires_at") == (None, None)
    assert await jobs.claim_id() == job


async def test_retry_by_hand_keeps_an_expiry_that_has_not_passed(jobs: Jobs) -> None:
    job = await jobs.add("x")
    await expire_at(jobs, job, HOUR)
    await jobs.connection.execute("select app_jobs.cancel_jobs(array[$1::bigint], 'stop', false)", job)
    assert await jobs.values(job, "ended_as") == ("cancelled",)
    await jobs.connection.execute("select app_jobs.retry_jobs(array[$1::bigint])", job)
    ended_as, expires_at = await jobs.values(job, "ended_as", "expires_at")
    assert ended_as is None
    assert expires_at is not None


async def test_default_expiry_is_of_one_transaction(connection: asyncpg.Connection, jobs: Jobs) -> None:
    async with connection.transaction():
        await connection.execute("select app_jobs.set_default_expiry('2030-01-01T00:00Z')")
        first = await jobs.add("x")
    second = await jobs.add("x")
    times = await connection.fetch(
        "select expires_at::text from app_jobs.jobs where id in ($1, $2) order by id", first, second
    )
    assert [row["expires_at"] and row["expires_at"][:10] for row in times] == ["2030-01-01", None]


async def test_operator_sets_the_expiry_of_jobs_that_have_not_ended(jobs: Jobs) -> None:
    waiting, ended = await jobs.add("x"), await jobs.add("x")
    await jobs.connection.execute("select app_jobs.cancel_jobs(array[$1::bigint], 'stop', false)", ended)
    rows = await jobs.connection.fetch(
        "select app_jobs.set_expiry(array[$1, $2]::bigint[], now() + interval '1 hour') as id", waiting, ended
    )
    assert [row["id"] for row in rows] == [waiting]
