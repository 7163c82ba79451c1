"""How jobs are completed, failed and released, by their workers and by an operator."""

from datetime import UTC, datetime

import asyncpg
import pytest

from support.jobs import WORKER, Jobs, settle_jobs


async def all_rows(jobs: Jobs) -> list[asyncpg.Record]:
    """Return the rows of all jobs and queues."""
    return [
        *await jobs.connection.fetch("select * from app_jobs.jobs order by id"),
        *await jobs.connection.fetch("select * from app_jobs.job_queues order by queue_name"),
    ]


async def test_completed_job_is_deleted_and_unlocks_its_queue(jobs: Jobs) -> None:
    job, following = await jobs.add("x", queue_name="q"), await jobs.add("x", queue_name="q")
    claimed = await jobs.claim()
    completed = await jobs.connection.fetchrow("select * from app_jobs.complete_job($1, $2)", WORKER, job)
    assert completed == claimed
    assert not await jobs.exists(job)
    assert await jobs.queue("q") == (1, None)
    assert await jobs.claim_id() == following


#: The contract's ``exp(least(attempts, 10))`` seconds, by attempt.
BACKOFF_SECONDS = [
    (1, 2.718282),
    (2, 7.389056),
    (5, 148.413159),
    (9, 8103.083928),
    (10, 22026.465795),
    (11, 22026.465795),
    (24, 22026.465795),
]


@pytest.mark.parametrize("run_at", ["now() - interval '1 day'", "now() + interval '1 hour'"])
@pytest.mark.parametrize(("attempt", "seconds"), BACKOFF_SECONDS)
async def test_failed_job_is_retried_after_a_backoff(jobs: Jobs, attempt: int, seconds: float, run_at: str) -> None:
    job = await jobs.add("x", queue_name="q")
    await jobs.update("attempts = $1", attempt - 1)
    await jobs.claim()
    async with jobs.connection.transaction():  # so that now() stays the same
        await jobs.update(f"run_at = {run_at}")
        base = await jobs.connection.fetchval("select greatest(now(), run_at) from app_jobs.jobs")
        failed = await jobs.connection.fetchrow("select * from app_jobs.fail_job($1, $2, 'boom')", WORKER, job)
    assert tuple(failed) == tuple(await jobs.row(job))[: len(failed)]
    assert (failed["run_at"] - base).total_seconds() == pytest.approx(seconds, abs=1e-5)
    columns = ("attempts", "last_error", "locked_at", "locked_by")
    assert await jobs.values(job, *columns) == (attempt, "boom", None, None)
    assert await jobs.queue("q") == (1, None)


async def test_job_without_attempts_left_stays_until_it_is_rescheduled(jobs: Jobs) -> None:
    job = await jobs.add("x", max_attempts=2)
    for error in ("first", "second"):
        await jobs.update("run_at = now()")
        assert await jobs.claim_id() == job
        await jobs.fail(job, error)
    await jobs.update("run_at = now()")
    assert await jobs.claim() is None
    assert await jobs.values(job, "attempts", "last_error", "locked_by") == (2, "second", None)
    await jobs.connection.execute("select app_jobs.reschedule_jobs($1, attempts := 0)", [job])
    assert await jobs.claim_id() == job


async def test_failure_without_a_message_is_an_unknown_error(jobs: Jobs) -> None:
    job = await jobs.add("x")
    await jobs.claim()
    await jobs.fail(job, None)
    assert await jobs.values(job, "last_error") == ("UNKNOWN_ERROR",)


@pytest.mark.parametrize("worker", ["another-worker", WORKER.upper(), "", None])
@pytest.mark.parametrize("call", ["complete_job($1, $2)", "fail_job($1, $2, 'boom')"])
async def test_another_worker_changes_nothing(jobs: Jobs, call: str, worker: str | None) -> None:
    claimed = await jobs.add("x", queue_name="q")
    await jobs.claim()
    waiting = await jobs.add("x")
    before = await all_rows(jobs)
    for job in (claimed, waiting, 424242, None):
        row = await jobs.connection.fetchrow(f"select * from app_jobs.{call}", worker, job)
        assert set(row.values()) == {None}
    await jobs.connection.execute("select app_jobs.release_jobs($1)", worker)
    assert await all_rows(jobs) == before


@pytest.mark.parametrize("call", ["complete_job($1, $2)", "fail_job($1, $2, 'boom')"])
async def test_second_report_of_a_job_changes_nothing(jobs: Jobs, call: str) -> None:
    job = await jobs.add("x", queue_name="q")
    await jobs.claim()
    await jobs.connection.execute(f"select app_jobs.{call}", WORKER, job)
    before = await all_rows(jobs)
    await jobs.connection.execute(f"select app_jobs.{call}", WORKER, job)
    assert await all_rows(jobs) == before


async def test_release_unlocks_all_jobs_of_a_worker_without_counting_the_attempt(jobs: Jobs) -> None:
    released = [await jobs.add("x"), await jobs.add("x", queue_name="q")]
    await jobs.update("attempts = 3")
    for _ in released:
        await jobs.claim()
    other = await jobs.add("x", queue_name="other")
    await jobs.claim("another")
    before = await jobs.row(other)
    await jobs.release()
    for job in released:
        assert await jobs.values(job, "attempts", "locked_at", "locked_by") == (3, None, None)
    assert await jobs.row(other) == before
    assert (await jobs.queue("q"), await jobs.queue("other")) == ((1, None), (1, "another"))


async def test_release_never_makes_attempts_negative(jobs: Jobs) -> None:
    job = await jobs.add("x")
    await jobs.claim()
    await jobs.update("attempts = 0")
    await jobs.release()
    assert await jobs.values(job, "attempts") == (0,)


async def test_batch_settles_jobs_that_their_worker_has_locked_in_that_attempt(jobs: Jobs) -> None:
    done, failed, other_attempt, other_worker, waiting = [await jobs.add(task) for task in ("a", "b", "c", "d", "e")]
    for task in ("a", "b", "c", "d"):
        await jobs.claim(f"worker-{task}", [task])
    rows = await settle_jobs(
        jobs.connection,
        ("worker-b", failed, 1, "boom"),
        ("worker-a", done, None, None),
        ("worker-c", other_attempt, 2, None),
        ("worker-a", other_worker, None, None),
        ("worker-a", waiting, None, None),
        ("worker-a", 424242, None, None),
        ("worker-a", done, 1, "too late"),
    )
    assert {row["id"] for row in rows} == {done, failed}
    assert not await jobs.exists(done), "of two settlements in a batch, the success wins"
    assert await jobs.values(failed, "last_error", "locked_by") == ("boom", None)
    assert await jobs.values(other_attempt, "locked_by") == ("worker-c",)
    assert await jobs.values(other_worker, "locked_by") == ("worker-d",)


OPERATOR_CALLS = [
    "complete_jobs($1)",
    "permanently_fail_jobs($1, 'no use')",
    "reschedule_jobs($1, '2030-01-01 09:00Z', 7, 2, 9)",
]


@pytest.mark.parametrize("call", OPERATOR_CALLS)
async def test_operator_changes_only_jobs_that_are_not_running(jobs: Jobs, call: str) -> None:
    waiting, failed, running, expired, other = [await jobs.add(task) for task in ("w", "f", "r", "e", "o")]
    for task in ("f", "r", "e"):
        await jobs.claim(tasks=[task])
    await jobs.fail(failed)
    await jobs.update("locked_at = now() - interval '5 hours' where id = $1", expired)
    before = [await jobs.row(running), await jobs.row(other)]
    rows = await jobs.connection.fetch(f"select id from app_jobs.{call}", [waiting, failed, running, expired, 424242])
    assert {row["id"] for row in rows} == {waiting, failed, expired}
    assert [await jobs.row(running), await jobs.row(other)] == before
    assert await jobs.complete(expired) is None, "its worker has lost the lock"


async def test_jobs_completed_by_an_operator_are_deleted(jobs: Jobs) -> None:
    added = [await jobs.add("x", queue_name="q"), await jobs.add("x", queue_name="q")]
    await jobs.connection.execute("select app_jobs.complete_jobs($1)", added)
    assert (await jobs.count(), await jobs.queue("q")) == (0, None)


@pytest.mark.parametrize(
    ("arguments", "error"), [("$1, 'no use'", "no use"), ("$1", "Failed by hand, without a reason given")]
)
async def test_job_failed_by_an_operator_has_no_attempts_left(jobs: Jobs, arguments: str, error: str) -> None:
    job = await jobs.add("x", max_attempts=4)
    await jobs.connection.execute(f"select app_jobs.permanently_fail_jobs({arguments})", [job])
    assert await jobs.values(job, "attempts", "max_attempts", "last_error") == (4, 4, error)
    assert await jobs.claim() is None


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("arguments", "changes", "ready"),
    [
        ("", {}, False),
        (", run_at := 'epoch'", {"run_at": EPOCH}, False),
        (", priority := -3", {"priority": -3}, False),
        (", attempts := 0", {"attempts": 0, "exhausted": False}, True),
        (", max_attempts := 99", {"max_attempts": 99, "exhausted": False}, True),
        (
            ", 'epoch', -3, 0, 99",
            {"run_at": EPOCH, "priority": -3, "attempts": 0, "max_attempts": 99, "exhausted": False},
            True,
        ),
    ],
)
async def test_reschedule_changes_only_the_given_columns(
    jobs: Jobs, arguments: str, changes: dict[str, object], *, ready: bool
) -> None:
    job = await jobs.add("x", {"id": 1}, priority=5, max_attempts=3)
    await jobs.update("attempts = 3")
    before = dict(await jobs.row(job))
    (returned,) = await jobs.connection.fetch(f"select * from app_jobs.reschedule_jobs($1{arguments})", [job])
    row = await jobs.row(job)
    assert dict(row) == before | changes | {"updated_at": row["updated_at"]}
    assert tuple(returned) == tuple(row)[: len(returned)]
    assert (await jobs.claim_id() == job) == ready


async def test_every_change_by_a_function_sets_updated_at(jobs: Jobs) -> None:
    job = await jobs.add("x", job_key="k")
    for call in (
        "add_job('x', '{}', 'k')",
        "get_job('worker')",
        "release_jobs('worker')",
        "get_job('worker')",
        f"fail_job('worker', {job}, 'boom')",
        f"reschedule_jobs('{{{job}}}')",
        f"permanently_fail_jobs('{{{job}}}')",
    ):
        await jobs.update("updated_at = 'epoch'")
        async with jobs.connection.transaction():
            await jobs.connection.execute(f"select app_jobs.{call}")
            now = await jobs.connection.fetchval("select now()")
        assert await jobs.values(job, "updated_at") == (now,), call
