"""Leases, retries, releases and progress: the same for every store on every schema."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from jobfn.database.records import ExpiredJob, Heartbeat, Settlement
from support.jobs import TENANT, WORKER, StoreHarness

LEASE = 30.0
EXPIRED_ERROR = f"the worker {WORKER} died, or lost its lease, in the last attempt"
#: Seconds until the retry after the first attempt.
FIRST_BACKOFF_SECONDS = 2.718


async def test_expired_lease_unlocks_the_job_and_its_queue(harness: StoreHarness) -> None:
    job = await harness.add(queue="q")
    await harness.claim(lease_seconds=LEASE)
    await harness.pass_time(LEASE / 2)
    assert await harness.claim("another") == []
    await harness.pass_time(LEASE)
    (claimed,) = await harness.claim("another", lease_seconds=LEASE)
    assert (claimed.id, claimed.attempt) == (job, 2)
    assert await harness.store.settle([Settlement(WORKER, job, 1)]) == set()
    assert await harness.store.settle([Settlement("another", job, 2)]) == {job}


async def test_renewed_leases_do_not_expire(harness: StoreHarness) -> None:
    jobs = [await harness.add(queue="q"), await harness.add()]
    await harness.claim(lease_seconds=LEASE)
    for _ in range(3):
        await harness.pass_time(LEASE - 1)
        assert await harness.store.renew(WORKER, [(job, 1) for job in jobs], lease_seconds=LEASE) == set(jobs)
        assert await harness.claim("another") == []
    assert await harness.store.settle([Settlement(WORKER, job, 1) for job in jobs]) == set(jobs)


async def test_only_jobs_locked_by_the_worker_in_that_attempt_are_renewed(harness: StoreHarness) -> None:
    own, others, waiting, done = [await harness.add(task) for task in ("own", "others", "waiting", "done")]
    for worker, task in ((WORKER, "own"), ("another", "others"), (WORKER, "done")):
        await harness.claim(worker, tasks=[task], lease_seconds=LEASE)
    await harness.store.settle([Settlement(WORKER, done, 1)])
    jobs = [(own, 1), (others, 1), (waiting, 0), (done, 1)]
    assert await harness.store.renew(WORKER, jobs, lease_seconds=LEASE) == {own}
    assert await harness.store.renew(WORKER, [(own, 2)], lease_seconds=LEASE) == set()
    assert await harness.store.renew(WORKER, [], lease_seconds=LEASE) == set()


async def test_attempt_has_its_lease_until_that_ends(harness: StoreHarness) -> None:
    job = await harness.add()
    await harness.claim(lease_seconds=LEASE)
    assert await harness.store.has_lease(WORKER, job, 1)
    assert not await harness.store.has_lease("another", job, 1)
    assert not await harness.store.has_lease(WORKER, job, 2)
    await harness.pass_time(LEASE - 1)
    await harness.store.renew(WORKER, [(job, 1)], lease_seconds=LEASE)
    await harness.pass_time(LEASE - 1)
    assert await harness.store.has_lease(WORKER, job, 1)
    await harness.pass_time(2)
    assert not await harness.store.has_lease(WORKER, job, 1)


async def test_lock_without_a_lease_expires_after_four_hours(harness: StoreHarness) -> None:
    await harness.add()
    await harness.claim("node-worker")
    await harness.pass_time(3 * 3600)
    assert await harness.claim(lease_seconds=LEASE) == []
    await harness.pass_time(2 * 3600)
    assert len(await harness.claim(lease_seconds=LEASE)) == 1


async def test_restarted_worker_reclaims_the_jobs_of_its_predecessor(harness: StoreHarness) -> None:
    queued, free, last = await harness.add(queue="q"), await harness.add(), await harness.add(max_attempts=1)
    other = await harness.add("other")
    await harness.claim("another", tasks=["other"], lease_seconds=LEASE)
    assert len(await harness.claim(lease_seconds=LEASE)) == 3
    reclaimed = await harness.store.reclaim(WORKER)
    assert sorted(reclaimed) == [ExpiredJob(job, "x", 1, WORKER, TENANT) for job in (queued, free, last)]
    assert await harness.store.reclaim(WORKER) == []
    claimed = await harness.claim(lease_seconds=LEASE)
    assert {(job.id, job.attempt) for job in claimed} == {(queued, 2), (free, 2)}
    assert await harness.store.settle([Settlement(WORKER, job, 1) for job in (queued, free, last)]) == set()
    assert await harness.store.settle([Settlement(WORKER, job, 2) for job in (queued, free)]) == {queued, free}
    assert await harness.store.settle([Settlement("another", other, 1)]) == {other}
    assert await harness.values(last, "locked_by", "attempts", "last_error") == (None, 1, EXPIRED_ERROR)


async def test_job_whose_lease_expires_in_its_last_attempt_is_reaped(harness: StoreHarness) -> None:
    job, following = await harness.add(queue="q", max_attempts=1), await harness.add(queue="q")
    await harness.claim(lease_seconds=LEASE)
    assert await harness.store.reap_expired() == []
    await harness.pass_time(LEASE + 1)
    reaped = await harness.store.reap_expired()
    assert await harness.claim_ids("another") == [following]
    assert [*reaped, *await harness.store.reap_expired()] == [ExpiredJob(job, "x", 1, WORKER, TENANT)]
    assert await harness.store.reap_expired() == []
    columns = ("attempts", "locked_at", "locked_by", "last_error")
    assert await harness.values(job, *columns) == (1, None, None, EXPIRED_ERROR)


@pytest.mark.parametrize("lease_seconds", [None, LEASE])
async def test_failed_job_is_retried_after_a_backoff(harness: StoreHarness, lease_seconds: float | None) -> None:
    job = await harness.add()
    await harness.claim(lease_seconds=lease_seconds)
    assert await harness.store.seconds_until_next() is None
    await harness.store.settle([Settlement(WORKER, job, 1, "boom")])
    assert await harness.store.seconds_until_next() == pytest.approx(FIRST_BACKOFF_SECONDS, abs=0.5)


@pytest.mark.parametrize("lease_seconds", [None, LEASE])
async def test_permanently_failed_job_is_not_retried(harness: StoreHarness, lease_seconds: float | None) -> None:
    job = await harness.add(queue="q")
    await harness.claim(lease_seconds=lease_seconds)
    assert await harness.store.settle([Settlement(WORKER, job, 1, "never", permanent=True)]) == {job}
    columns = ("attempts", "max_attempts", "last_error", "locked_by")
    assert await harness.values(job, *columns) == (25, 25, "never", None)
    assert await harness.store.seconds_until_next() is None
    assert await harness.claim() == []


@pytest.mark.parametrize("lease_seconds", [None, LEASE])
@pytest.mark.parametrize(
    ("delay", "expected"), [(0.0, timedelta(0)), (120.0, timedelta(minutes=2)), (1e12, timedelta(days=36_525))]
)
async def test_failure_with_a_delay_is_retried_after_it(
    harness: StoreHarness, delay: float, expected: timedelta, lease_seconds: float | None
) -> None:
    job = await harness.add()
    await harness.claim(lease_seconds=lease_seconds)
    await harness.store.settle([Settlement(WORKER, job, 1, "later", delay_seconds=delay)])
    row = await harness.row(job)
    assert abs(row["run_at"] - datetime.now(UTC) - expected) < timedelta(seconds=5)


@pytest.mark.parametrize("lease_seconds", [None, LEASE])
async def test_released_job_keeps_its_attempt_and_waits_for_its_delay(
    harness: StoreHarness, lease_seconds: float | None
) -> None:
    job = await harness.add(queue="q")
    for delay in (None, 60.0):
        (claimed,) = await harness.claim(lease_seconds=lease_seconds)
        assert claimed.attempt == 1
        settlement = Settlement(WORKER, job, 1, released=True, delay_seconds=delay)
        assert await harness.store.settle([settlement]) == {job}
        assert await harness.values(job, "attempts", "last_error", "locked_by") == (0, None, None)
    assert await harness.claim() == []
    assert await harness.store.seconds_until_next() == pytest.approx(60, abs=5)
    following = await harness.add(queue="q")
    assert await harness.claim_ids() == [following]


@pytest.mark.parametrize("lease_seconds", [None, LEASE])
async def test_release_unlocks_all_jobs_of_the_worker(harness: StoreHarness, lease_seconds: float | None) -> None:
    own, other = await harness.add("own"), await harness.add("other")
    await harness.claim(tasks=["own"], lease_seconds=lease_seconds)
    await harness.claim("another", tasks=["other"], lease_seconds=lease_seconds)
    await harness.store.release(WORKER)
    assert await harness.values(own, "attempts", "locked_by") == (0, None)
    assert await harness.values(other, "attempts", "locked_by") == (1, "another")
    assert await harness.store.seconds_until_next() is None
    assert [(job.id, job.attempt) for job in await harness.claim("third-worker")] == [(own, 1)]


async def test_jobs_of_excluded_tasks_stay_unlocked(harness: StoreHarness) -> None:
    excluded, included = await harness.add("excluded"), await harness.add("included")
    assert [job.id for job in await harness.claim(exclude_tasks=["excluded", "other"])] == [included]
    assert await harness.values(excluded, "attempts", "locked_by") == (0, None)


async def test_heartbeat_renews_the_lease_of_its_worker_and_attempt(harness: StoreHarness) -> None:
    job = await harness.add()
    await harness.claim(lease_seconds=LEASE)
    await harness.pass_time(LEASE - 1)
    assert await harness.store.heartbeat(Heartbeat(WORKER, job, 1, 0.5, "half-way"), lease_seconds=LEASE)
    await harness.pass_time(LEASE - 1)
    assert await harness.claim("another") == []
    assert not await harness.store.heartbeat(Heartbeat("another", job, 1), lease_seconds=LEASE)
    assert not await harness.store.heartbeat(Heartbeat(WORKER, job, 2), lease_seconds=LEASE)


@pytest.mark.parametrize("kind", ["native"], indirect=True)
async def test_progress_is_stored_until_the_next_attempt(harness: StoreHarness) -> None:
    job = await harness.add()
    await harness.claim(lease_seconds=LEASE)
    for heartbeat, expected in (
        (Heartbeat(WORKER, job, 1, 0.25, "one of\0 four"), (0.25, "one of four")),
        (Heartbeat(WORKER, job, 1, 0.5), (0.5, "one of four")),
        (Heartbeat(WORKER, job, 1, message="still there"), (0.5, "still there")),
        (Heartbeat(WORKER, job, 1), (0.5, "still there")),
    ):
        assert await harness.store.heartbeat(heartbeat, lease_seconds=LEASE)
        assert await harness.values(job, "progress", "progress_message") == expected
    await harness.store.release(WORKER)
    await harness.claim()
    assert await harness.values(job, "progress", "progress_message") == (None, None)


@pytest.mark.parametrize("kind", ["native"], indirect=True)
@pytest.mark.parametrize(("max_attempts", "runs"), [(25, False), (1, True)])
async def test_leased_job_of_a_schedule_counts_as_running_until_its_last_attempt_expires(
    harness: StoreHarness, max_attempts: int, *, runs: bool
) -> None:
    schedule = await harness.connection.fetchval(
        "select (app_jobs.add_scheduled_job('x', '0 9 * * *', max_attempts := $1)).id", max_attempts
    )
    run = "select (app_jobs.run_scheduled_job($1)).id"
    job = await harness.connection.fetchval(run, schedule)
    await harness.claim(lease_seconds=LEASE)
    await harness.pass_time(5 * 3600)
    await harness.store.renew(WORKER, [(job, 1)], lease_seconds=LEASE)
    with pytest.raises(asyncpg.RaiseError, match="ALREADY_SCHEDULED"):
        await harness.connection.fetchval(run, schedule)
    await harness.pass_time(LEASE + 1)
    if runs:
        assert await harness.connection.fetchval(run, schedule) != job
    else:
        with pytest.raises(asyncpg.RaiseError, match="ALREADY_SCHEDULED"):
            await harness.connection.fetchval(run, schedule)


async def test_claim_of_another_row_changes_nothing(harness: StoreHarness) -> None:
    job = await harness.add()
    (claimed,) = await harness.claim(lease_seconds=30.0)
    tag = claimed.row_tag
    assert tag is not None
    other, store = tag ^ 1, harness.store
    assert not await store.has_lease(WORKER, job, 1, row_tag=other)
    assert not await store.heartbeat(Heartbeat(WORKER, job, 1, row_tag=other), lease_seconds=30.0)
    for settlement in (
        Settlement(WORKER, job, 1),
        Settlement(WORKER, job, 1, error="no", permanent=True),
        Settlement(WORKER, job, 1, error="no", permanent=True, traceback="line 1"),
        Settlement(WORKER, job, 1, error="later", snooze_max_age_seconds=60.0),
    ):
        assert await store.settle([settlement._replace(row_tag=other)]) == set()
    assert await store.has_lease(WORKER, job, 1, row_tag=tag)
    assert await store.heartbeat(Heartbeat(WORKER, job, 1, row_tag=tag), lease_seconds=30.0)
    assert await store.settle([Settlement(WORKER, job, 1, row_tag=tag)]) == {job}
