"""Claims skip what is paused, and nothing else."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from support.fixtures import NotificationsOf
from support.jobs import TENANT, Jobs

OTHER_TENANT = "00000000-0000-4000-8000-000000000001"
CLAIM_OF_QUEUES = "select id from app_jobs.claim_jobs_of_queues('worker', $1, null, '4 hours', 9)"


async def pause(jobs: Jobs, target: str, **options: object) -> asyncpg.Record:
    """Call ``pause`` with one target in SQL, and further named arguments."""
    named = "".join(f", {name} := ${number}" for number, name in enumerate(options, 1))
    row = await jobs.connection.fetchrow(f"select * from app_jobs.pause({target}{named})", *options.values())
    assert row is not None
    return row


async def resume(jobs: Jobs, target: str) -> bool:
    ended: bool = await jobs.connection.fetchval(f"select app_jobs.resume({target})")
    return ended


async def add(jobs: Jobs, task: str = "x", *, queue: str | None = None, tenant: str | None = None) -> int:
    job_id = await jobs.add(task, queue_name=queue)
    await jobs.connection.execute("update app_jobs.jobs set database_id = $2 where id = $1", job_id, tenant)
    return job_id


async def claim_all(jobs: Jobs, tasks: list[str] | None = None) -> set[int]:
    claimed = set()
    while (job_id := await jobs.claim_id(tasks=tasks)) is not None:
        claimed.add(job_id)
    return claimed


TARGETS = {
    "task := 'x'": {"x", "queue", "tenant"},
    "queue := 'q'": {"queue"},
    f"tenant := '{TENANT}'": {"tenant"},
    "everything := true": {"x", "queue", "tenant", "other"},
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("tasks", [None, ["x", "y"]])
async def test_paused_jobs_are_not_claimed_until_they_are_resumed(
    jobs: Jobs, target: str, tasks: list[str] | None
) -> None:
    ids = {
        "x": await add(jobs),
        "queue": await add(jobs, queue="q"),
        "tenant": await add(jobs, tenant=TENANT),
        "other": await add(jobs, "y", queue="r", tenant=OTHER_TENANT),
    }
    held = {ids[name] for name in TARGETS[target]}
    await pause(jobs, target)
    assert await claim_all(jobs, tasks) == set(ids.values()) - held
    assert await resume(jobs, target)
    assert await claim_all(jobs, tasks) == held
    assert not await resume(jobs, target)


async def test_paused_tenant_of_queued_jobs(jobs: Jobs) -> None:
    await add(jobs, queue="q", tenant=TENANT)
    other = await add(jobs, queue="r", tenant=OTHER_TENANT)
    await pause(jobs, f"tenant := '{TENANT}'")
    assert await claim_all(jobs) == {other}


@pytest.mark.parametrize(("tasks", "later"), [(None, "y"), (["x", "y"], "y"), (["x", "y"], "z")])
async def test_paused_job_holds_up_its_queue(jobs: Jobs, tasks: list[str] | None, later: str) -> None:
    """Jobs of a named queue run in order, so none overtakes a paused one."""
    if later == "z":
        await add(jobs, "z", queue="q")  # of another worker
    await add(jobs, "x", queue="q")
    await add(jobs, "y", queue="q")
    other = await add(jobs, "y", queue="r")
    await pause(jobs, "task := 'x'")
    assert await claim_all(jobs, tasks) == {other}


async def test_claims_of_queues_skip_paused_jobs(jobs: Jobs) -> None:
    await add(jobs, queue="q")
    await add(jobs, queue="r")
    other = await add(jobs, "y", queue="s")
    free = await add(jobs, "y")
    await pause(jobs, "queue := 'q'")
    await pause(jobs, "task := 'x'")
    rows = await jobs.connection.fetch(CLAIM_OF_QUEUES, ["", "q", "r", "s"])
    assert {row["id"] for row in rows} == {other, free}


async def test_pause_ends_by_itself(jobs: Jobs) -> None:
    job_id = await add(jobs)
    row = await pause(jobs, "task := 'x'", until=datetime.now(UTC) + timedelta(hours=1), reason="the bank is closed")
    assert (row["kind"], row["name"], row["reason"]) == ("task", "x", "the bank is closed")
    assert row["paused_by"] == await jobs.connection.fetchval("select session_user")
    assert await jobs.claim_id() is None
    await jobs.connection.execute("update app_jobs.pauses set until = now()")
    assert await jobs.claim_id() == job_id


async def test_workers_wake_when_a_pause_ends(jobs: Jobs) -> None:
    await add(jobs)
    until = datetime.now(UTC) + timedelta(hours=1)
    await pause(jobs, "task := 'x'", until=until)
    next_run_at = "select app_jobs.next_run_at(interval '0')"
    assert await jobs.connection.fetchval(next_run_at) == until
    await jobs.connection.execute("update app_jobs.pauses set until = null")
    assert await jobs.connection.fetchval(next_run_at) != until


async def test_pausing_again_changes_the_pause(jobs: Jobs) -> None:
    first = await pause(jobs, "queue := 'q'", reason="one", paused_by="ann")
    second = await pause(jobs, "queue := 'q'", reason="two", paused_by="ben")
    assert (second["since"], second["reason"], second["paused_by"]) == (first["since"], "two", "ben")
    assert await jobs.connection.fetchval("select count(*) from app_jobs.pauses") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "pauses concern one thing: a task, a queue, a tenant, or everything"),
        ("everything := false", "pauses concern one thing: a task, a queue, a tenant, or everything"),
        ("task := 'x', queue := 'q'", "pauses concern one thing: a task, a queue, a tenant, or everything"),
        ("task := ''", "the name of the task has 0 characters"),
        ("queue := repeat('q', 127)", "the name of the queue has 127 characters"),
        ("task := 'x', until := now()", "the pause would have ended before now"),
    ],
)
async def test_invalid_pause(jobs: Jobs, arguments: str, message: str) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match=message):
        await pause(jobs, arguments)


async def test_number_of_pauses_is_limited(jobs: Jobs) -> None:
    await jobs.connection.execute(
        "insert into app_jobs.pauses (kind, name, paused_by)"
        " select 'task', 't' || n, 'x' from generate_series(1, 1000) n"
    )
    with pytest.raises(asyncpg.ProgramLimitExceededError, match="there are already 1000 pauses"):
        await pause(jobs, "task := 'x'")
    await jobs.connection.execute("update app_jobs.pauses set until = now() where name = 't7'")
    await pause(jobs, "task := 'x'")


async def test_pauses_of_a_job_are_named(jobs: Jobs) -> None:
    job_id = await add(jobs, queue="q", tenant=TENANT)
    names = "select kind from app_jobs.job_pauses($1)"
    assert await jobs.connection.fetch(names, job_id) == []
    for target in TARGETS:
        await pause(jobs, target)
    await pause(jobs, "task := 'other'")
    rows = await jobs.connection.fetch(names, job_id)
    assert {row["kind"] for row in rows} == {"task", "queue", "tenant", "everything"}
    await jobs.connection.execute("update app_jobs.pauses set until = now() where kind <> 'queue'")
    assert [row["kind"] for row in await jobs.connection.fetch(names, job_id)] == ["queue"]


async def test_pausing_and_resuming_notify(jobs: Jobs, notifications_of: NotificationsOf) -> None:
    assert await notifications_of("select app_jobs.pause(task := 'x')") == [("jobs:pause", "")]
    assert await notifications_of("select app_jobs.resume(task := 'x')") == [("jobs:insert", "")]
    assert await notifications_of("select app_jobs.resume(task := 'x')") == []


async def test_resumed_jobs_are_claimed_although_claims_went_past_them(jobs: Jobs) -> None:
    job_id = await add(jobs)
    await jobs.connection.execute(
        """
        insert into app_jobs.claim_positions (
            claims, priority, run_at, job_id, queued_priority, queued_run_at, queued_job_id, valid_until
        )
        select hashtextextended(row(null::text[], '{}'::text[])::text, 0), 0, now(), -1, 0, now(), -1,
            now() + interval '1 hour'
        """
    )
    assert await jobs.claim_id() is None
    await pause(jobs, "task := 'y'")
    await resume(jobs, "task := 'y'")
    assert await jobs.claim_id() == job_id


async def test_concurrent_pauses_of_the_same_thing(jobs: Jobs, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    await asyncio.gather(*(pool.fetch("select app_jobs.pause(task := 'x')") for _ in range(4)))
    assert await jobs.connection.fetchval("select count(*) from app_jobs.pauses") == 1
