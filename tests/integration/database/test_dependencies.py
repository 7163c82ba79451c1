"""Jobs that wait until other jobs have ended: ``add_job_after`` and ``add_batch``."""

import asyncio
from typing import Any

import asyncpg
import pytest

from support.fixtures import Connect
from support.jobs import WORKER, Jobs, settle_jobs


async def add(connection: asyncpg.Connection, task: str, **options: object) -> int:
    """Call ``add_job_after``."""
    named = "".join(f", {name} := ${number}" for number, name in enumerate(options, 2))
    job_id: int = await connection.fetchval(f"select (app_jobs.add_job_after($1{named})).id", task, *options.values())
    return job_id


async def until_blocked(jobs: Jobs, connection: asyncpg.Connection, task: "asyncio.Task[Any]") -> None:
    """Wait until the task's statement on the connection waits for a lock."""
    pid = connection.get_server_pid()
    while not await jobs.connection.fetchval("select cardinality(pg_blocking_pids($1)) > 0", pid):
        assert not task.done()


async def claim_all(jobs: Jobs) -> dict[int, int]:
    """Claim every ready job; return the attempts by id."""
    claimed: dict[int, int] = {}
    while (row := await jobs.claim()) is not None:
        claimed[row["id"]] = row["attempts"]
    return claimed


async def settle(connection: asyncpg.Connection, jobs: dict[int, int], *ids: int, error: str | None = None) -> None:
    await settle_jobs(connection, *((WORKER, job_id, jobs[job_id], error) for job_id in ids))


async def state(jobs: Jobs, job_id: int) -> tuple[Any, ...]:
    return await jobs.values(job_id, "attempts", "exhausted", "last_error")


async def dependencies(jobs: Jobs) -> int:
    count: int = await jobs.connection.fetchval("select count(*) from app_jobs.job_dependencies")
    return count


async def test_job_runs_when_all_dependencies_have_completed(jobs: Jobs) -> None:
    first, second = await jobs.add("a"), await jobs.add("b")
    dependent = await add(jobs.connection, "c", depends_on=[second, first, second])  # twice counts once
    claimed = await claim_all(jobs)
    assert set(claimed) == {first, second}
    await settle(jobs.connection, claimed, first)
    assert await jobs.claim() is None
    await settle(jobs.connection, claimed, second)
    assert await jobs.claim_id() == dependent
    assert await dependencies(jobs) == 0


async def test_run_at_is_kept(jobs: Jobs) -> None:
    first = await jobs.add("a")
    run_at = await jobs.connection.fetchval("select now() + interval '1 hour'")
    dependent = await add(jobs.connection, "c", depends_on=[first], run_at=run_at)
    await settle(jobs.connection, await claim_all(jobs), first)
    assert await jobs.values(dependent, "run_at", "parked_attempt") == (run_at, None)


async def test_last_two_dependencies_may_end_at_once(jobs: Jobs, connect: Connect) -> None:
    first, second = await jobs.add("a"), await jobs.add("b")
    dependent = await add(jobs.connection, "c", depends_on=[first, second])
    claimed = await claim_all(jobs)
    one, two = await connect(), await connect()
    transaction = one.transaction()
    await transaction.start()
    await settle(one, claimed, first)
    ending = asyncio.create_task(settle(two, claimed, second))
    await until_blocked(jobs, two, ending)
    await transaction.commit()
    await ending
    assert await jobs.claim_id() == dependent


async def test_dependency_that_is_just_ending_is_waited_for(jobs: Jobs, connect: Connect) -> None:
    first = await jobs.add("a")
    claimed = await claim_all(jobs)
    one, two = await connect(), await connect()
    transaction = one.transaction()
    await transaction.start()
    await settle(one, claimed, first)
    adding = asyncio.create_task(add(two, "c", depends_on=[first]))
    await until_blocked(jobs, two, adding)
    await transaction.commit()
    dependent = await adding
    assert await jobs.claim_id() == dependent


async def test_dependency_that_fails_for_all_attempts_fails_the_dependents(jobs: Jobs) -> None:
    await jobs.connection.execute("select app_jobs.set_history_retention(3600)")
    first, other = await jobs.add("a", max_attempts=2), await jobs.add("b")
    dependent = await add(jobs.connection, "c", depends_on=[first, other])
    next_one = await add(jobs.connection, "d", depends_on=[dependent])
    claimed = await claim_all(jobs)
    await settle(jobs.connection, claimed, first, error="boom")
    assert await state(jobs, dependent) == (0, False, None)
    await jobs.connection.execute("select app_jobs.run_jobs_now(array[$1::bigint])", first)
    again = await claim_all(jobs)
    await settle(jobs.connection, again, first, error="boom again")
    error = f"the job {first}, which this one depends on, did not complete: boom again"
    assert await state(jobs, dependent) == (25, True, error)
    assert await state(jobs, next_one) == (
        25,
        True,
        f"the job {dependent}, which this one depends on, did not complete: {error}",
    )
    outcomes = await jobs.connection.fetch("select outcome from app_jobs.job_runs where job_id = $1", dependent)
    assert [row["outcome"] for row in outcomes] == ["permanently_failed"]
    await settle(jobs.connection, claimed, other)
    assert await dependencies(jobs) == 0
    # by hand, it runs without waiting
    await jobs.connection.execute("select app_jobs.retry_jobs(array[$1::bigint])", dependent)
    assert await jobs.claim_id() == dependent


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("select app_jobs.cancel_jobs(array[$1::bigint], 'not needed', false)", "not needed"),
        ("select app_jobs.permanently_fail_jobs(array[$1::bigint], 'no')", "no"),
        ("select app_jobs.complete_jobs(array[$1::bigint])", "it was removed"),
        ("delete from app_jobs.jobs where id = $1", "it was removed"),
    ],
)
async def test_dependency_that_is_cancelled_or_removed_fails_the_dependent(
    jobs: Jobs, statement: str, error: str
) -> None:
    first = await jobs.add("a")
    dependent = await add(jobs.connection, "c", depends_on=[first])
    await jobs.connection.execute(statement, first)
    assert await state(jobs, dependent) == (
        25,
        True,
        f"the job {first}, which this one depends on, did not complete: {error}",
    )


async def test_failures_can_be_ignored(jobs: Jobs) -> None:
    first, failed = await jobs.add("a", max_attempts=1), await jobs.add("b", max_attempts=1)
    claimed = await claim_all(jobs)
    await settle(jobs.connection, claimed, failed, error="boom")
    dependent = await add(jobs.connection, "c", depends_on=[first, failed], ignore_failures=True)
    assert await jobs.claim() is None
    await settle(jobs.connection, claimed, first, error="boom")
    assert await jobs.claim_id() == dependent


async def test_dependency_may_have_ended_before(jobs: Jobs) -> None:
    gone, failed = await jobs.add("a"), await jobs.add("b", max_attempts=1)
    claimed = await claim_all(jobs)
    await settle(jobs.connection, claimed, gone)
    await settle(jobs.connection, claimed, failed, error="boom")
    dependent = await add(jobs.connection, "c", depends_on=[gone])
    assert await jobs.claim_id() == dependent
    assert await jobs.claim_id() is None
    dependent = await add(jobs.connection, "c", depends_on=[gone, failed])
    assert await state(jobs, dependent) == (
        25,
        True,
        f"the job {failed}, which this one depends on, did not complete: boom",
    )
    dependent = await add(jobs.connection, "c", depends_on=[])
    assert await jobs.claim_id() == dependent


@pytest.mark.parametrize(
    ("depends_on", "error"),
    [
        ([99], "add_job_after: depends_on has the id 99, which no job has"),
        ([1, -5], "add_job_after: depends_on has the id -5, which no job has"),
        ([1, None], "add_job_after: depends_on must be an array of job ids without null, and ignore_failures not null"),
        (list(range(1, 10_002)), "add_job_after: depends_on has more than 10,000 jobs"),
    ],
)
async def test_invalid_dependencies_are_refused(jobs: Jobs, depends_on: list[int | None], error: str) -> None:
    await jobs.add("a")
    with pytest.raises(asyncpg.PostgresError) as raised:
        await add(jobs.connection, "c", depends_on=depends_on)
    assert str(raised.value).splitlines()[0] == error
    assert await jobs.count() == 1


async def test_replaced_dependent_has_the_new_dependencies(jobs: Jobs) -> None:
    first, second = await jobs.add("a"), await jobs.add("b")
    dependent = await add(jobs.connection, "c", depends_on=[first], job_key="k")
    assert await add(jobs.connection, "c", depends_on=[second], job_key="k") == dependent
    claimed = await claim_all(jobs)
    await settle(jobs.connection, claimed, first)
    assert await jobs.claim() is None
    await jobs.connection.execute("select app_jobs.add_job('c', '{}'::json, job_key := 'k', run_at := 'infinity')")
    await settle(jobs.connection, claimed, second)
    assert await jobs.claim() is None  # the last add_job decides: it has no dependencies, and an infinite delay
    assert await dependencies(jobs) == 0


async def test_cycles_are_refused(jobs: Jobs) -> None:
    first = await jobs.add("a", job_key="first")
    second = await add(jobs.connection, "b", depends_on=[first])
    for depends_on in ([second], [first]):
        with pytest.raises(asyncpg.CheckViolationError) as raised:
            await add(jobs.connection, "a", depends_on=depends_on, job_key="first")
        assert str(raised.value) == "add_job_after: depends_on of the job with the key first leads back to it"


async def test_dependent_that_runs_by_hand_is_not_failed_later(jobs: Jobs) -> None:
    first = await jobs.add("a")
    dependent = await add(jobs.connection, "c", depends_on=[first])
    await jobs.connection.execute("select app_jobs.wake_jobs(array[$1::bigint])", dependent)
    claimed = await claim_all(jobs)
    assert claimed == {first: 1, dependent: 1}
    await jobs.connection.execute("select app_jobs.cancel_jobs(array[$1::bigint], 'stop', true)", first)
    assert await state(jobs, dependent) == (1, False, None)


async def test_long_chain_fails_at_once(jobs: Jobs) -> None:
    """A chain that is deeper than PostgreSQL's stack allows triggers to be."""
    first = await jobs.add("a")
    await jobs.connection.execute(
        """do $$
        declare id bigint := (select max(j.id) from app_jobs.jobs j);
        begin
            for i in 1..2000 loop
                id := (app_jobs.add_job_after('c', depends_on => array[id])).id;
            end loop;
        end
        $$"""
    )
    await jobs.connection.execute("select app_jobs.cancel_jobs(array[$1::bigint], 'stop', false)", first)
    assert await jobs.connection.fetchval("select count(*) from app_jobs.jobs where exhausted") == 2001


async def test_batch_runs_a_job_when_all_have_ended(jobs: Jobs) -> None:
    row = await jobs.connection.fetchrow(
        """select * from app_jobs.add_batch(
            'print', array['{"n": 1}', '{"n": 2}']::json[], on_complete := 'report', on_complete_payload := '{"r": 1}',
            max_attempts := 1
        )"""
    )
    assert row is not None
    claimed = await claim_all(jobs)
    assert sorted(claimed) == row["job_ids"]
    await settle(jobs.connection, claimed, row["job_ids"][0], error="boom")
    assert await jobs.claim() is None
    await settle(jobs.connection, claimed, row["job_ids"][1])
    report = await jobs.claim()
    assert report is not None
    assert (report["id"], report["task_identifier"], report["payload"]) == (row["on_complete_id"], "report", '{"r": 1}')


async def test_empty_batch_runs_its_job_at_once(jobs: Jobs) -> None:
    on_complete = await jobs.connection.fetchval(
        "select on_complete_id from app_jobs.add_batch('print', '{}', on_complete := 'report')"
    )
    assert await jobs.claim_id() == on_complete


async def test_too_large_batch_is_refused(jobs: Jobs) -> None:
    with pytest.raises(asyncpg.ProgramLimitExceededError, match="add_batch: payloads has more than 10,000 jobs"):
        await jobs.connection.execute(
            "select app_jobs.add_batch('p', array_fill('{}'::json, array[10001]), on_complete := 'r')"
        )
