"""How a job ends: completed, failed, given back, or by hand."""

import math
from typing import Any

import asyncpg
import pytest

from support.jobs import WORKER, Jobs, settle


async def everything(jobs: Jobs) -> list[tuple[object, ...]]:
    """All rows of jobs and queues: for 'nothing has changed'."""
    rows = await jobs.connection.fetch("select * from app_jobs.jobs order by id")
    queues = await jobs.connection.fetch("select * from app_jobs.job_queues order by queue_name")
    return [tuple(row) for row in [*rows, *queues]]


async def test_a_completed_job_is_gone_and_its_queue_free(jobs: Jobs) -> None:
    """complete_job returns the row that it deleted."""
    job, following = await jobs.add("x", queue_name="q"), await jobs.add("x", queue_name="q")
    claimed = await jobs.claim()
    completed = await jobs.connection.fetchrow("select * from app_jobs.complete_job($1, $2)", WORKER, job)
    assert completed == claimed
    assert await jobs.row(job) is None
    queue = await jobs.queue("q")
    assert queue is not None
    assert dict(queue) == {"queue_name": "q", "job_count": 1, "locked_at": None, "locked_by": None}
    claimed = await jobs.claim()
    assert claimed is not None
    assert claimed["id"] == following


@pytest.mark.parametrize("attempt", [1, 2, 5, 9, 10, 11, 24])
@pytest.mark.parametrize("ahead", [0, 3600])
async def test_a_failed_job_waits_longer_each_time(jobs: Jobs, attempt: int, ahead: int) -> None:
    """greatest(now(), run_at) + exp(least(attempts, 10)) seconds: e after the first, 6.1 hours from the tenth on."""
    job = await jobs.add("x", queue_name="q")
    await jobs.connection.execute(
        "update app_jobs.jobs set attempts = $1, run_at = now() - interval '1 day'", attempt - 1
    )
    await jobs.claim()
    await jobs.connection.execute(
        "update app_jobs.jobs set run_at = now() + $1 * interval '1 second' where $1 > 0", ahead
    )
    async with jobs.connection.transaction():
        base = await jobs.connection.fetchval("select greatest(now(), run_at) from app_jobs.jobs")
        failed = await jobs.connection.fetchrow("select * from app_jobs.fail_job($1, $2, 'boom')", WORKER, job)
    assert failed is not None
    assert failed == await jobs.row(job)
    assert (failed["run_at"] - base).total_seconds() == pytest.approx(math.exp(min(attempt, 10)), abs=1e-5)
    assert (failed["attempts"], failed["last_error"]) == (attempt, "boom")
    assert (failed["locked_at"], failed["locked_by"]) == (None, None)
    queue = await jobs.queue("q")
    assert queue is not None
    assert (queue["locked_at"], queue["locked_by"]) == (None, None)


async def test_a_job_stays_when_its_attempts_are_used_up(jobs: Jobs) -> None:
    """With its last error, until somebody retries it; nobody is given it meanwhile."""
    job = await jobs.add("x", max_attempts=2)
    for error in ("first", "second"):
        await jobs.connection.execute("update app_jobs.jobs set run_at = now()")
        assert await jobs.claim() is not None
        await jobs.connection.execute("select app_jobs.fail_job($1, $2, $3)", WORKER, job, error)
    await jobs.connection.execute("update app_jobs.jobs set run_at = now()")
    assert await jobs.claim() is None
    row = await jobs.row(job)
    assert row is not None
    assert (row["attempts"], row["last_error"], row["locked_by"]) == (2, "second", None)
    await jobs.connection.execute("select app_jobs.reschedule_jobs($1, attempts := 0)", [job])
    assert await jobs.claim() is not None


async def test_a_failure_without_words_gets_some(jobs: Jobs) -> None:
    """fail_job with NULL fails the job all the same."""
    job = await jobs.add("x")
    await jobs.claim()
    await jobs.connection.execute("select app_jobs.fail_job($1, $2, null)", WORKER, job)
    row = await jobs.row(job)
    assert row is not None
    assert row["last_error"] == "UNKNOWN_ERROR"


@pytest.mark.parametrize("worker", ["another-worker", WORKER.upper(), "", None])
@pytest.mark.parametrize("call", ["complete_job($1, $2)", "fail_job($1, $2, 'boom')"])
async def test_the_wrong_worker_changes_nothing(jobs: Jobs, call: str, worker: str | None) -> None:
    """Who does not hold a job cannot end it, and gets an all-NULL row."""
    held = await jobs.add("x", queue_name="q")
    await jobs.claim()
    waiting = await jobs.add("x")
    before = await everything(jobs)
    for job in (held, waiting, 424242, None):
        row = await jobs.connection.fetchrow(f"select * from app_jobs.{call}", worker, job)
        assert row is not None
        assert set(row.values()) == {None}
    await jobs.connection.execute("select app_jobs.release_jobs($1)", worker)
    assert await everything(jobs) == before


@pytest.mark.parametrize("call", ["complete_job($1, $2)", "fail_job($1, $2, 'boom')"])
async def test_a_job_ends_once(jobs: Jobs, call: str) -> None:
    """A second report of the same delivery changes nothing more."""
    job = await jobs.add("x", queue_name="q")
    await jobs.claim()
    await jobs.connection.execute(f"select app_jobs.{call}", WORKER, job)
    before = await everything(jobs)
    await jobs.connection.execute(f"select app_jobs.{call}", WORKER, job)
    assert await everything(jobs) == before


async def test_released_jobs_get_their_attempt_back(jobs: Jobs) -> None:
    """All that this worker holds is as before the claim; what others hold stays theirs."""
    mine = [await jobs.add("x"), await jobs.add("x", queue_name="q")]
    await jobs.connection.execute("update app_jobs.jobs set attempts = 3")
    for _ in mine:
        await jobs.claim()
    theirs = await jobs.add("x", queue_name="theirs")
    await jobs.claim("another")
    kept = await jobs.row(theirs)
    await jobs.connection.execute("select app_jobs.release_jobs($1)", WORKER)
    for job in mine:
        row = await jobs.row(job)
        assert row is not None
        assert (row["attempts"], row["locked_at"], row["locked_by"]) == (3, None, None)
    assert await jobs.row(theirs) == kept
    queues = [await jobs.queue(name) for name in ("q", "theirs")]
    assert [queue and queue["locked_by"] for queue in queues] == [None, "another"]


async def test_an_attempt_given_back_is_never_negative(jobs: Jobs) -> None:
    """Somebody has set the attempts of a running job to 0: releasing it leaves 0."""
    job = await jobs.add("x")
    await jobs.claim()
    await jobs.connection.execute("update app_jobs.jobs set attempts = 0")
    await jobs.connection.execute("select app_jobs.release_jobs($1)", WORKER)
    row = await jobs.row(job)
    assert row is not None
    assert row["attempts"] == 0


async def test_a_batch_settles_what_is_held_as_it_says(jobs: Jobs) -> None:
    """Successes and failures of several workers in one statement; a wrong worker, attempt or id counts for nothing."""
    done, failed, stale, alien, waiting = [await jobs.add(task) for task in ("a", "b", "c", "d", "e")]
    for task in ("a", "b", "c", "d"):
        await jobs.claim(f"worker-{task}", [task])
    rows = await settle(
        jobs.connection,
        ("worker-b", failed, 1, "boom"),
        ("worker-a", done, None, None),
        ("worker-c", stale, 2, None),
        ("worker-a", alien, None, None),
        ("worker-a", waiting, None, None),
        ("worker-a", 424242, None, None),
        ("worker-a", done, 1, "too late"),
    )
    assert {row["id"] for row in rows} == {done, failed}
    assert await jobs.row(done) is None, "of two ends in one batch, success counts"
    row = await jobs.row(failed)
    assert row is not None
    assert (row["last_error"], row["locked_by"]) == ("boom", None)
    held = await jobs.connection.fetch(
        "select id, locked_by from app_jobs.jobs where locked_by is not null order by id"
    )
    assert [tuple(row) for row in held] == [(stale, "worker-c"), (alien, "worker-d")]


BY_HAND = {
    "complete": "select id from app_jobs.complete_jobs($1)",
    "fail": "select id from app_jobs.permanently_fail_jobs($1, 'no use')",
    "reschedule": "select id from app_jobs.reschedule_jobs($1, '2030-01-01 09:00Z', 7, 2, 9)",
}


@pytest.mark.parametrize("act", BY_HAND)
async def test_by_hand_only_what_nobody_holds_is_changed(jobs: Jobs, act: str) -> None:
    """Waiting and failed jobs, and those whose holder has been gone for four hours; never a running one."""
    waiting, failed, running, abandoned, other = [await jobs.add(task) for task in ("w", "f", "r", "a", "o")]
    for task in ("f", "r", "a"):
        await jobs.claim(tasks=[task])
    await jobs.connection.execute("select app_jobs.fail_job($1, $2, 'boom')", WORKER, failed)
    await jobs.connection.execute(
        "update app_jobs.jobs set locked_at = now() - interval '5 hours' where id = $1", abandoned
    )
    untouched = [await jobs.row(running), await jobs.row(other)]
    rows = await jobs.connection.fetch(BY_HAND[act], [waiting, failed, running, abandoned, 424242])
    assert sorted(row["id"] for row in rows) == sorted([waiting, failed, abandoned])
    assert [await jobs.row(running), await jobs.row(other)] == untouched
    late = await jobs.connection.fetchval("select (app_jobs.complete_job($1, $2)).id", WORKER, abandoned)
    assert late is None, "the abandoned job is nobody's any more"


async def test_completed_by_hand_a_job_is_gone(jobs: Jobs) -> None:
    """complete_jobs removes the rows and takes them out of their queues' counts."""
    added = [await jobs.add("x", queue_name="q"), await jobs.add("x", queue_name="q")]
    await jobs.connection.execute("select app_jobs.complete_jobs($1)", added)
    assert (await jobs.count(), await jobs.queue("q")) == (0, None)


@pytest.mark.parametrize(
    ("arguments", "error"), [("$1, 'no use'", "no use"), ("$1", "Failed by hand, without a reason given")]
)
async def test_permanently_failed_a_job_stays_and_never_runs(jobs: Jobs, arguments: str, error: str) -> None:
    """Its attempts are used up, and the reason stands there."""
    job = await jobs.add("x", max_attempts=4)
    await jobs.connection.execute(f"select app_jobs.permanently_fail_jobs({arguments})", [job])
    row = await jobs.row(job)
    assert row is not None
    assert (row["attempts"], row["max_attempts"], row["last_error"]) == (4, 4, error)
    assert await jobs.claim() is None


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        ("", {}),
        ("run_at := 'epoch'", {"run_at": "epoch"}),
        ("priority := -3", {"priority": -3}),
        ("attempts := 0", {"attempts": 0}),
        ("max_attempts := 99", {"max_attempts": 99}),
        ("'epoch', -3, 0, 99", {"run_at": "epoch", "priority": -3, "attempts": 0, "max_attempts": 99}),
    ],
)
async def test_rescheduling_changes_what_it_names(jobs: Jobs, arguments: str, changed: dict[str, object]) -> None:
    """What is left out stays as it is."""
    job = await jobs.add("x", {"id": 1}, priority=5, max_attempts=3)
    await jobs.connection.execute("update app_jobs.jobs set attempts = 3")
    before = await jobs.row(job)
    call = f"app_jobs.reschedule_jobs($1{arguments and ', ' + arguments})"
    rows = await jobs.connection.fetch(f"select * from {call}", [job])
    epoch = await jobs.connection.fetchval("select 'epoch'::timestamptz")
    assert before is not None
    expected = dict(before) | changed
    if "run_at" in changed:
        expected["run_at"] = epoch
    ours = {"updated_at", "exhausted"}
    assert [{name: value for name, value in row.items() if name not in ours} for row in rows] == [
        {name: value for name, value in expected.items() if name not in ours}
    ]
    assert (await jobs.claim() is not None) == ("attempts" in changed or "max_attempts" in changed)


async def test_all_that_changes_a_job_says_when(connection: "asyncpg.Connection[Any]", jobs: Jobs) -> None:
    """updated_at moves with every change that a function makes."""
    job = await jobs.add("x", job_key="k")

    async def touches(statement: str, *arguments: object) -> bool:
        await connection.execute("update app_jobs.jobs set updated_at = 'epoch'")
        await connection.execute(statement, *arguments)
        changed = "select updated_at > now() - interval '1 minute' from app_jobs.jobs where id = $1"
        return bool(await connection.fetchval(changed, job))

    assert await touches("select app_jobs.add_job('x', '{}', 'k')")
    assert await touches("select app_jobs.get_job('worker')")
    assert await touches("select app_jobs.release_jobs('worker')")
    assert await touches("select app_jobs.get_job('worker')")
    assert await touches("select app_jobs.fail_job('worker', $1, 'boom')", job)
    assert await touches("select app_jobs.reschedule_jobs(array[$1::bigint])", job)
    assert await touches("select app_jobs.permanently_fail_jobs(array[$1::bigint])", job)
