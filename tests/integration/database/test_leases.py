"""Locks that are good for seconds and renewed, and ends beyond 'done' and 'failed': the same on every schema."""

import math
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from jobfn.database.records import ExpiredJob, Heartbeat, Settlement
from support.jobs import TENANT, WORKER, Stage

LEASE = 30.0


async def test_a_lease_that_is_over_frees_the_job_and_its_queue(stage: Stage) -> None:
    """Half-way through nobody else gets it; afterwards anybody does, as its next attempt."""
    job = await stage.add(queue="q")
    await stage.claim(lease_seconds=LEASE)
    await stage.pass_time(LEASE / 2)
    assert await stage.claim("another", limit=5) == []
    await stage.pass_time(LEASE)
    (taken,) = await stage.claim("another", limit=5, lease_seconds=LEASE)
    assert (taken.id, taken.attempt) == (job, 2)
    assert await stage.store.settle([Settlement(WORKER, job, 1)]) == set()
    assert await stage.store.settle([Settlement("another", job, 2)]) == {job}


async def test_a_renewed_lease_holds_on(stage: Stage) -> None:
    """Renewed in time, again and again, a job stays its worker's for as long as it takes."""
    jobs = [await stage.add(queue="q"), await stage.add()]
    await stage.claim(limit=5, lease_seconds=LEASE)
    for _ in range(3):
        await stage.pass_time(LEASE - 1)
        renewed = await stage.store.renew(WORKER, [(job, 1) for job in jobs], lease_seconds=LEASE)
        assert renewed == set(jobs)
        assert await stage.claim("another", limit=5) == []
    assert await stage.store.settle([Settlement(WORKER, job, 1) for job in jobs]) == set(jobs)


async def test_a_worker_that_died_is_told_apart_from_itself(stage: Stage) -> None:
    """Back under its id it frees what it held, queues too, and is told of each job which attempt is lost.

    Those attempts count, and their reports come too late.
    """
    queued, free, last = await stage.add(queue="q"), await stage.add(), await stage.add(max_attempts=1)
    theirs = await stage.add("theirs")
    await stage.claim("another", tasks=["theirs"], lease_seconds=LEASE)
    assert len(await stage.claim(limit=5, lease_seconds=LEASE)) == 3
    taken = await stage.store.reclaim(WORKER)
    assert {job.id for job in taken} == {queued, free, last}
    assert {job[1:] for job in taken} == {("x", 1, WORKER, TENANT)}
    assert await stage.store.reclaim(WORKER) == []
    again = await stage.claim(limit=5, lease_seconds=LEASE)
    assert {(job.id, job.attempt) for job in again} == {(queued, 2), (free, 2)}
    assert await stage.store.settle([Settlement(WORKER, job, 1) for job in (queued, free, last)]) == set()
    assert await stage.store.settle([Settlement(WORKER, job, 2) for job in (queued, free)]) == {queued, free}
    assert await stage.store.settle([Settlement("another", theirs, 1)]) == {theirs}
    row = await stage.row(last)
    assert row is not None
    assert (row["locked_by"], row["attempts"]) == (None, 1)
    assert row["last_error"] == f"the worker {WORKER} died, or lost its lease, in the last attempt"


async def test_only_what_is_held_so_is_renewed(stage: Stage) -> None:
    """Not another's job, not another attempt, not one that waits or has ended."""
    mine, theirs, waiting, done = [await stage.add(task) for task in ("mine", "theirs", "waiting", "done")]
    for worker, task in ((WORKER, "mine"), ("another", "theirs"), (WORKER, "done")):
        await stage.claim(worker, tasks=[task], lease_seconds=LEASE)
    await stage.store.settle([Settlement(WORKER, done, 1)])
    asked = [(mine, 1), (theirs, 1), (waiting, 0), (done, 1)]
    assert await stage.store.renew(WORKER, asked, lease_seconds=LEASE) == {mine}
    assert await stage.store.renew(WORKER, [(mine, 2)], lease_seconds=LEASE) == set()
    assert await stage.store.renew(WORKER, [], lease_seconds=LEASE) == set()


async def test_a_worker_without_leases_keeps_its_four_hours(stage: Stage) -> None:
    """Workers of both kinds share a schema: the lock of one that renews nothing is not taken for a lease."""
    await stage.add()
    await stage.claim("node-worker")
    await stage.pass_time(3 * 3600)
    assert await stage.claim(lease_seconds=LEASE) == []
    await stage.pass_time(2 * 3600)
    assert len(await stage.claim(lease_seconds=LEASE)) == 1


async def test_who_dies_in_the_last_attempt_leaves_a_failed_job(stage: Stage) -> None:
    """Nobody gets the job again, its queue goes on, last_error says what happened, and the worker is told, once."""
    job, following = await stage.add(queue="q", max_attempts=1), await stage.add(queue="q")
    await stage.claim(lease_seconds=LEASE)
    assert await stage.store.reap_expired() == []
    await stage.pass_time(LEASE + 1)
    buried = await stage.store.reap_expired()
    assert [claimed.id for claimed in await stage.claim("another", limit=5)] == [following]
    assert [*buried, *await stage.store.reap_expired()] == [ExpiredJob(job, "x", 1, WORKER, TENANT)]
    assert await stage.store.reap_expired() == []
    row = await stage.row(job)
    assert row is not None
    assert (row["attempts"], row["locked_at"], row["locked_by"]) == (1, None, None)
    assert f"the worker {WORKER} died" in row["last_error"]


@pytest.mark.parametrize("lease_seconds", [None, LEASE])
async def test_a_leased_job_fails_like_any_other(stage: Stage, lease_seconds: float | None) -> None:
    """However the lease is kept, the retry is reckoned from now."""
    job = await stage.add()
    await stage.claim(lease_seconds=lease_seconds)
    assert await stage.store.seconds_until_next() is None
    await stage.store.settle([Settlement(WORKER, job, 1, "boom")])
    assert await stage.store.seconds_until_next() == pytest.approx(math.e, abs=0.5)


async def test_a_released_lease_leaves_no_trace(stage: Stage) -> None:
    """The job is ready at once, as before the claim."""
    job = await stage.add()
    await stage.claim(lease_seconds=LEASE)
    await stage.store.release(WORKER)
    assert await stage.store.seconds_until_next() is None
    assert [(claimed.id, claimed.attempt) for claimed in await stage.claim("another")] == [(job, 1)]


@pytest.mark.parametrize("lease_seconds", [None, LEASE])
async def test_failed_for_good_a_job_is_not_tried_again(stage: Stage, lease_seconds: float | None) -> None:
    """A permanent failure uses up the attempts and stays, with its error."""
    job = await stage.add(queue="q")
    await stage.claim(lease_seconds=lease_seconds)
    assert await stage.store.settle([Settlement(WORKER, job, 1, "never", permanent=True)]) == {job}
    row = await stage.row(job)
    assert row is not None
    assert (row["attempts"], row["max_attempts"], row["last_error"], row["locked_by"]) == (25, 25, "never", None)
    assert await stage.store.seconds_until_next() is None
    assert await stage.claim(limit=5) == []


@pytest.mark.parametrize("lease_seconds", [None, LEASE])
@pytest.mark.parametrize("delay", [0.0, 120.0, 1e12])
async def test_a_failure_may_say_when_to_try_again(stage: Stage, delay: float, lease_seconds: float | None) -> None:
    """Its delay counts instead of the contract's backoff, up to a hundred years."""
    job = await stage.add()
    await stage.claim(lease_seconds=lease_seconds)
    await stage.store.settle([Settlement(WORKER, job, 1, "later", delay_seconds=delay)])
    row = await stage.row(job)
    assert row is not None
    expected = datetime.now(UTC) + timedelta(seconds=min(delay, 100 * 366 * 86400))
    assert abs(row["run_at"] - expected) < timedelta(days=80 if delay > 1e9 else 0, seconds=5)


@pytest.mark.parametrize("lease_seconds", [None, LEASE])
async def test_given_back_a_job_is_as_before_the_claim(stage: Stage, lease_seconds: float | None) -> None:
    """Attempt and queue are given back; with a delay it is not ready before that."""
    job = await stage.add(queue="q")
    for delay in (None, 60.0):
        (claimed,) = await stage.claim(lease_seconds=lease_seconds)
        assert claimed.attempt == 1
        settlement = Settlement(WORKER, job, 1, released=True, delay_seconds=delay)
        assert await stage.store.settle([settlement]) == {job}
        row = await stage.row(job)
        assert row is not None
        assert (row["attempts"], row["last_error"], row["locked_by"]) == (0, None, None)
    assert await stage.claim() == []
    assert await stage.store.seconds_until_next() == pytest.approx(60, abs=5)
    following = await stage.add(queue="q")
    assert [claimed.id for claimed in await stage.claim()] == [following]


async def test_some_tasks_can_be_left_out(stage: Stage) -> None:
    """What a worker cannot take just now stays for others, and costs no attempt."""
    left, taken = await stage.add("full"), await stage.add("free")
    assert [job.id for job in await stage.claim(limit=5, exclude_tasks=["full", "other"])] == [taken]
    row = await stage.row(left)
    assert row is not None
    assert (row["attempts"], row["locked_by"]) == (0, None)


async def test_a_beat_prolongs_and_is_refused_to_others(stage: Stage) -> None:
    """A running job's sign of life counts as a renewal, where worker and attempt are right."""
    job = await stage.add()
    await stage.claim(lease_seconds=LEASE)
    await stage.pass_time(LEASE - 1)
    assert await stage.store.heartbeat(Heartbeat(WORKER, job, 1, 0.5, "half-way"), lease_seconds=LEASE)
    await stage.pass_time(LEASE - 1)
    assert await stage.claim("another") == []
    assert not await stage.store.heartbeat(Heartbeat("another", job, 1), lease_seconds=LEASE)
    assert not await stage.store.heartbeat(Heartbeat(WORKER, job, 2), lease_seconds=LEASE)


@pytest.mark.parametrize("kind", ["batches"], indirect=True)
async def test_progress_stands_with_the_job(stage: Stage) -> None:
    """On our schema: what a heartbeat says, until the next one says otherwise, and anew in the next attempt."""
    job = await stage.add()
    await stage.claim(lease_seconds=LEASE)
    for heartbeat, progress, note in (
        (Heartbeat(WORKER, job, 1, 0.25, "one of\0 four"), 0.25, "one of four"),
        (Heartbeat(WORKER, job, 1, 0.5), 0.5, "one of four"),
        (Heartbeat(WORKER, job, 1, message="still there"), 0.5, "still there"),
        (Heartbeat(WORKER, job, 1), 0.5, "still there"),
    ):
        assert await stage.store.heartbeat(heartbeat, lease_seconds=LEASE)
        row = await stage.row(job)
        assert row is not None
        assert (row["progress"], row["progress_message"]) == (progress, note)
    await stage.store.release(WORKER)
    await stage.claim()
    row = await stage.row(job)
    assert row is not None
    assert (row["progress"], row["progress_message"]) == (None, None)


@pytest.mark.parametrize("kind", ["batches"], indirect=True)
@pytest.mark.parametrize(("max_attempts", "goes_on"), [(25, False), (1, True)])
async def test_a_schedules_leased_job_is_running_however_long_it_takes(
    stage: Stage,
    max_attempts: int,
    goes_on: bool,  # noqa: FBT001
) -> None:
    """ALREADY_SCHEDULED while the lease is good, an hour or not; after it only if the job has attempts left."""
    schedule = await stage.connection.fetchval(
        "select (app_jobs.add_scheduled_job('x', '0 9 * * *', max_attempts := $1)).id", max_attempts
    )
    run = "select (app_jobs.run_scheduled_job($1)).id"
    job = await stage.connection.fetchval(run, schedule)
    await stage.claim(lease_seconds=LEASE)
    await stage.pass_time(5 * 3600)
    await stage.store.renew(WORKER, [(job, 1)], lease_seconds=LEASE)
    with pytest.raises(asyncpg.RaiseError, match="ALREADY_SCHEDULED"):
        await stage.connection.fetchval(run, schedule)
    await stage.pass_time(LEASE + 1)
    if goes_on:
        assert await stage.connection.fetchval(run, schedule) != job
    else:
        with pytest.raises(asyncpg.RaiseError, match="ALREADY_SCHEDULED"):
            await stage.connection.fetchval(run, schedule)
