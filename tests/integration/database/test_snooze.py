"""Snoozes: attempts that do not count, on every kind of schema."""

from datetime import timedelta

import asyncpg
import pytest

from jobfn.database.native_store import NativeJobStore
from jobfn.database.records import SettledJob, Settlement
from support.jobs import WORKER, Jobs, StoreHarness

WEEK = 7 * 86_400.0


@pytest.fixture(params=["native", "platform", "newest platform"])
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of schema."""
    return str(request.param)


def snooze(job: int, attempt: int | None = 1, *, delay: float = 0.0, max_age: float = WEEK) -> Settlement:
    return Settlement(WORKER, job, attempt, "not yet", delay_seconds=delay, snooze_max_age_seconds=max_age)


async def test_snoozed_job_can_be_claimed_more_often_than_its_attempts(harness: StoreHarness) -> None:
    job = await harness.add(max_attempts=2)
    for number in range(1, 5):
        (claimed,) = await harness.claim()
        assert claimed.attempt - claimed.snoozes == 1
        assert await harness.store.settle([snooze(job, claimed.attempt)]) == {job}
        error, locked_by = await harness.values(job, "last_error", "locked_by")
        assert (str(error).partition(" (")[0], locked_by) == ("not yet", None)
        if not harness.is_platform:
            assert await harness.values(job, "snoozes", "attempts", "max_attempts") == (number, number, number + 2)
    for _ in range(2):  # its two attempts
        (claimed,) = await harness.claim()
        await harness.store.settle([Settlement(WORKER, job, claimed.attempt, "boom", delay_seconds=0.0)])
    assert await harness.claim() == []
    assert await harness.values(job, "last_error") == ("boom",)


async def test_last_attempt_can_be_snoozed(harness: StoreHarness) -> None:
    job = await harness.add(max_attempts=1)
    await harness.claim()
    await harness.store.settle([snooze(job)])
    assert await harness.claim_ids() == [job]


async def test_snooze_delays_the_job_and_frees_its_queue(harness: StoreHarness) -> None:
    job, other = await harness.add(queue="q"), await harness.add(queue="q")
    await harness.claim()
    await harness.store.settle([snooze(job, delay=300.0)])
    assert await harness.store.seconds_until_next() == pytest.approx(300, abs=10)
    assert await harness.claim_ids() == [other]


async def test_batch_with_snoozes_settles_every_job(harness: StoreHarness) -> None:
    done, failed, snoozed = [await harness.add() for _ in range(3)]
    await harness.claim()
    settlements = [Settlement(WORKER, done, 1), snooze(snoozed), Settlement(WORKER, failed, 1, "boom")]
    assert await harness.store.settle([*settlements, snooze(424242)]) == {done, failed, snoozed}
    assert not await harness.exists(done)
    assert await harness.values(failed, "attempts", "last_error") == (1, "boom")
    assert await harness.claim_ids() == [snoozed]


@pytest.mark.parametrize(("worker", "attempt"), [("another", 1), (WORKER, 2)])
async def test_snooze_by_another_worker_or_attempt_changes_nothing(
    harness: StoreHarness, worker: str, attempt: int
) -> None:
    job = await harness.add()
    await harness.claim()
    before = await harness.row(job)
    assert await harness.store.settle([snooze(job, attempt)._replace(worker_id=worker)]) == set()
    assert await harness.row(job) == before


async def test_job_that_lost_its_key_is_not_snoozed(harness: StoreHarness) -> None:
    job = await harness.add(key="k")
    (claimed,) = await harness.claim()
    waiting = await harness.add(key="k")
    assert await harness.store.settle([snooze(job, claimed.attempt)]) == {job}
    assert await harness.claim_ids() == [waiting]


async def test_snoozed_job_fails_permanently_after_its_maximum_age(harness: StoreHarness) -> None:
    job = await harness.add()
    await harness.claim()
    await harness.store.settle([snooze(job)])
    if harness.is_platform:
        error = "not yet (snoozed 1 time since 2020-01-31T09:00:00+00:00)"
        await harness.update("last_error = $1", error)
    else:
        error = "not yet (snoozed 1 times since 2020-01-31 09:00:00 UTC, longer than its maximum age of 604800 seconds)"
        await harness.update("snoozing_since = '2020-01-31 09:00Z'")
    (claimed,) = await harness.claim()
    assert await harness.store.settle([snooze(job, claimed.attempt)]) == {job}
    assert await harness.claim() == []
    assert await harness.values(job, "last_error", "locked_by") == (error, None)
    attempts, max_attempts = await harness.values(job, "attempts", "max_attempts")
    assert attempts == max_attempts


async def test_snooze_is_reported_to_the_observer_as_it_ended(database: str, jobs: Jobs) -> None:
    settled: list[SettledJob] = []
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool:
        store = NativeJobStore(pool, "app_jobs", on_settled=settled.extend)
        first, old = await jobs.add("x"), await jobs.add("x")
        await store.claim(WORKER, tasks=None, limit=2)
        await jobs.connection.execute("update app_jobs.jobs set snoozing_since = '2020-01-31' where id = $1", old)
        await store.settle([snooze(first), snooze(old)])
    assert [(each.settlement.job_id, each.settlement.outcome, each.attempt) for each in settled] == [
        (first, "snoozed", 1),
        (old, "permanently_failed", 1),
    ]
    rows = await jobs.connection.fetch("select job_id, attempt, outcome from app_jobs.job_runs order by 1")
    assert [tuple(row) for row in rows] == [(first, 1, "snoozed"), (old, 1, "permanently_failed")]


async def snoozed_job(jobs: Jobs, *, times: int, **options: object) -> int:
    """Return a job that was snoozed, and is due."""
    job = await jobs.add("x", **options)
    for attempt in range(1, times + 1):
        await jobs.claim()
        await jobs.connection.execute(
            "select app_jobs.snooze_jobs(array[$1], array[$2::bigint], array[$3::int], '{later}', '{0}', '{1 day}')",
            WORKER,
            job,
            attempt,
        )
    return job


async def test_backoff_of_the_contract_does_not_count_snoozes(jobs: Jobs) -> None:
    job = await snoozed_job(jobs, times=12)
    await jobs.claim()
    await jobs.fail(job)
    delay = await jobs.connection.fetchval("select run_at - now() from app_jobs.jobs")
    assert timedelta(seconds=2) < delay < timedelta(seconds=3), "exp(1) seconds, not exp(10)"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("select app_jobs.reschedule_jobs('{1}', attempts := 0)", (0, 5, None, None)),
        ("select app_jobs.reschedule_jobs('{1}', attempts := 0, max_attempts := 9)", (0, 9, None, None)),
        ("select app_jobs.permanently_fail_jobs('{1}'); select app_jobs.retry_jobs('{1}')", (0, 5, None, None)),
        ("select app_jobs.add_job('x', job_key := 'k', max_attempts := 4)", (0, 4, None, None)),
        ("select app_jobs.add_jobs('x', array['{}']::json[], array['k'], max_attempts := 4)", (0, 4, None, None)),
    ],
)
async def test_job_that_begins_anew_has_no_snoozes(
    jobs: Jobs, statement: str, expected: tuple[int, int, None, None]
) -> None:
    job = await snoozed_job(jobs, times=3, job_key="k", max_attempts=5)
    await jobs.connection.execute(statement)
    assert await jobs.values(job, "attempts", "max_attempts", "snoozes", "snoozing_since") == expected


async def test_rescheduled_job_keeps_its_snoozes(jobs: Jobs) -> None:
    job = await snoozed_job(jobs, times=3, max_attempts=5)
    await jobs.connection.execute("select app_jobs.reschedule_jobs('{1}', run_at := now(), priority := 3)")
    assert await jobs.values(job, "attempts", "max_attempts", "snoozes", "priority") == (3, 8, 3, 3)


async def test_late_report_of_a_snoozed_attempt_does_not_settle_the_next_one(jobs: Jobs) -> None:
    job = await snoozed_job(jobs, times=1)
    claimed = await jobs.claim()
    assert claimed is not None
    assert claimed["attempts"] == 2
    late = "select app_jobs.settle_jobs($1, $2, '{1}', '{completed}', '{null}', '{null}')"
    assert await jobs.connection.fetch(late, [WORKER], [job]) == []
    assert await jobs.exists(job)
