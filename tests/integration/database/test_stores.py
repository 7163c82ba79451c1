"""What a worker does with jobs is the same on jobfn's schema, in batches or one by one, and on the platform's."""

import math
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from jobfn.database.enqueue import enqueue
from jobfn.database.open_store import open_store
from jobfn.database.records import Job, NewJob, Settlement
from jobfn.errors import DatabaseError, SchemaError
from support.fixtures import ConnectTo
from support.jobs import TENANT, WORKER, Stage

PLATFORM = Path(__file__).with_name("platform.sql").read_text("utf-8")
ACTOR = "c0ffee00-17d5-424d-9bcb-ee7b17c13d43"


async def test_a_claimed_job_is_all_there(stage: Stage) -> None:
    """Id, task, payload as stored, attempt, queue, and tenant, actor and entity where the schema has them."""
    job = await stage.add("mail:send", payload='{ "to" : 1 }', queue="q")
    if stage.has_ids:
        await stage.connection.execute("update app_jobs.jobs set actor_id = $1, entity_id = $1", ACTOR)
    other = ACTOR if stage.has_ids else None
    assert await stage.claim() == [
        Job(job, "mail:send", '{ "to" : 1 }', 1, queue="q", database_id=TENANT, actor_id=other, entity_id=other)
    ]
    assert await stage.claim() == []


async def test_jobs_come_in_order_up_to_the_limit(stage: Stage) -> None:
    """Priority, then time, then id; no more than asked for; each locked by this worker."""
    late, first, urgent, delayed = (
        await stage.add(),
        await stage.add(run_at=datetime.now(UTC) - timedelta(hours=1)),
        await stage.add(priority=-1),
        await stage.add(run_at=datetime.now(UTC) + timedelta(hours=1)),
    )
    assert [job.id for job in await stage.claim(limit=2)] == [urgent, first]
    assert [job.id for job in await stage.claim("another", limit=5)] == [late]
    rows = await stage.connection.fetch("select id, locked_by from app_jobs.jobs order by id")
    assert {row["id"]: row["locked_by"] for row in rows} == {
        urgent: WORKER, first: WORKER, late: "another", delayed: None,
    }  # fmt: skip


async def test_a_worker_takes_the_tasks_that_it_names(stage: Stage) -> None:
    """None takes any, a list its own, an empty list none."""
    for task in ("a", "b", "c"):
        await stage.add(task)
    assert await stage.claim(limit=5, tasks=[]) == []
    assert [job.task for job in await stage.claim(limit=5, tasks=["c", "a"])] == ["a", "c"]
    assert [job.task for job in await stage.claim(limit=5)] == ["b"]


async def test_a_queue_gives_one_job_until_it_has_ended(stage: Stage) -> None:
    """Completed, failed or released: then the next comes."""
    first, second, third = [await stage.add(queue="q") for _ in range(3)]
    for job, settlement in (
        (first, Settlement(WORKER, first, 1)),
        (second, Settlement(WORKER, second, 1, "boom")),
    ):
        assert [claimed.id for claimed in await stage.claim(limit=5)] == [job]
        assert await stage.claim("another", limit=5) == []
        assert await stage.store.settle([settlement]) == {job}
    assert [claimed.id for claimed in await stage.claim(limit=5)] == [third]
    await stage.store.release(WORKER)
    assert [claimed.id for claimed in await stage.claim("another", limit=5)] == [third]


async def test_settled_jobs_are_gone_or_wait_for_their_retry(stage: Stage) -> None:
    """One call, both outcomes; the answer names what changed."""
    done, failed = await stage.add("a"), await stage.add("b", max_attempts=2)
    await stage.claim(limit=5)
    assert await stage.store.settle(
        [Settlement(WORKER, done, 1), Settlement(WORKER, failed, 1, "boom"), Settlement(WORKER, 424242, 1)]
    ) == {done, failed}
    assert await stage.row(done) is None
    row = await stage.row(failed)
    assert row is not None
    assert (row["attempts"], row["last_error"], row["locked_by"], row["locked_at"]) == (1, "boom", None, None)
    seconds = await stage.store.seconds_until_next()
    assert seconds == pytest.approx(math.e, abs=0.5)


@pytest.mark.parametrize("error", [None, "boom"])
@pytest.mark.parametrize(
    ("worker", "attempt"), [("another", 1), ("another", None), (WORKER, 2), (WORKER, 0), (WORKER.upper(), 1)]
)
async def test_who_does_not_hold_a_job_changes_nothing(
    stage: Stage, worker: str, attempt: int | None, error: str | None
) -> None:
    """Another worker, or this one in another attempt: the job stays as it is, although complete_job would not ask."""
    job = await stage.add(queue="q")
    await stage.claim()
    before = await stage.row(job)
    assert await stage.store.settle([Settlement(worker, job, attempt, error)]) == set()
    assert await stage.row(job) == before
    assert await stage.claim() == []
    assert await stage.store.settle([Settlement(WORKER, job, None, error)]) == {job}


async def test_a_job_that_waits_is_nobodys_to_settle(stage: Stage) -> None:
    """Neither one that was never claimed nor one that was released."""
    job = await stage.add()
    for _ in range(2):
        assert await stage.store.settle([Settlement(WORKER, job), Settlement(WORKER, job, 0)]) == set()
        await stage.claim()
        await stage.store.release(WORKER)
    assert await stage.row(job) is not None


@pytest.mark.parametrize("error", [None, "boom"])
async def test_an_earlier_attempt_does_not_end_a_later_one(stage: Stage, error: str | None) -> None:
    """The same worker claims again after its lock expired: the first delivery's late report counts for nothing."""
    job = await stage.add()
    await stage.claim()
    await stage.connection.execute("update app_jobs.jobs set locked_at = now() - interval '5 hours'")
    (again,) = await stage.claim()
    assert (again.id, again.attempt) == (job, 2)
    assert await stage.store.settle([Settlement(WORKER, job, 1, error)]) == set()
    assert await stage.store.settle([Settlement(WORKER, job, 2, error)]) == {job}


@pytest.mark.parametrize("error", [None, "boom"])
async def test_a_job_that_lost_its_key_while_running_can_end(stage: Stage, error: str | None) -> None:
    """However the schema marks that it will not be retried, its own delivery settles it; the new job is untouched."""
    job = await stage.add(key="k")
    (claimed,) = await stage.claim()
    waiting = await stage.add(key="k")
    assert await stage.store.settle([Settlement(WORKER, job, claimed.attempt, error)]) == {job}
    await stage.connection.execute("update app_jobs.jobs set run_at = now() where id = $1", job)
    assert [again.id for again in await stage.claim(limit=5)] == [waiting]


async def test_one_delivery_is_settled_once(stage: Stage) -> None:
    """Reported twice in one batch and once more: success counts where both are there, and only the first time."""
    job = await stage.add()
    await stage.claim()
    settlements = [Settlement(WORKER, job, 1), Settlement(WORKER, job, 1, "boom")]
    assert await stage.store.settle(settlements) == {job}
    assert await stage.store.settle(settlements) == set()
    assert await stage.row(job) is None


async def test_nothing_to_settle_is_nothing(stage: Stage) -> None:
    """An empty batch changes nothing and fails nothing."""
    assert await stage.store.settle([]) == set()


@pytest.mark.parametrize("error", ["", "a\0b", "lone \ud800 surrogate", "x" * 20_000, "é" * 20_000, "''; drop table"])
async def test_any_error_can_be_written_down(stage: Stage, error: str) -> None:
    """A function's message with characters that PostgreSQL has not, or a megabyte of it, still fails the job."""
    job = await stage.add()
    await stage.claim()
    assert await stage.store.settle([Settlement(WORKER, job, 1, error)]) == {job}
    row = await stage.row(job)
    assert row is not None
    expected = error.replace("\0", "").replace("\ud800", "?")[:10_000]
    assert (row["last_error"], row["locked_by"]) == (expected, None)


async def test_released_jobs_get_their_attempt_back(stage: Stage) -> None:
    """All that this worker holds, nothing of another's."""
    mine, theirs = await stage.add("mine"), await stage.add("theirs")
    await stage.claim(tasks=["mine"])
    await stage.claim("another", tasks=["theirs"])
    await stage.store.release(WORKER)
    rows = await stage.connection.fetch("select id, attempts, locked_by from app_jobs.jobs order by id")
    assert [tuple(row) for row in rows] == [(mine, 0, None), (theirs, 1, "another")]


async def test_when_the_next_delayed_job_is_due(stage: Stage) -> None:
    """None without any; else the nearest, not counting what is ready or out of attempts."""
    assert await stage.store.seconds_until_next() is None
    await stage.add()
    assert await stage.store.seconds_until_next() is None
    for minutes in (30, 10, 20):
        await stage.add(run_at=datetime.now(UTC) + timedelta(minutes=minutes))
    nearest = await stage.add(run_at=datetime.now(UTC) + timedelta(minutes=5))
    assert await stage.store.seconds_until_next() == pytest.approx(300, abs=10)
    await stage.connection.execute("update app_jobs.jobs set attempts = max_attempts where id = $1", nearest)
    assert await stage.store.seconds_until_next() == pytest.approx(600, abs=10)


@pytest.mark.parametrize(("queue", "priority"), [(None, -5), (None, 7), ("mail", 0), ("mail", 9)])
async def test_the_next_delayed_job_may_be_of_any_priority_and_queue(
    stage: Stage, queue: str | None, priority: int
) -> None:
    """The nearest of all, whatever comes before it otherwise."""
    for other in range(-3, 3):
        await stage.add(
            run_at=datetime.now(UTC) + timedelta(minutes=30), priority=other, queue="a" if other % 2 else None
        )
    await stage.add(run_at=datetime.now(UTC) + timedelta(minutes=5), priority=priority, queue=queue)
    assert await stage.store.seconds_until_next() == pytest.approx(300, abs=10)


async def test_a_tenant_is_wanted_on_the_platforms_schema(stage: Stage) -> None:
    """enqueue without one works on ours and says on the platform's what is missing."""
    job = NewJob("x")
    if stage.is_platform:
        with pytest.raises(SchemaError, match="requires the tenant"):
            await enqueue(stage.connection, "app_jobs", job)
    else:
        row = await stage.row(await enqueue(stage.connection, "app_jobs", job))
        assert row is not None
        assert row["database_id"] is None


@pytest.mark.parametrize("payload", ["{", "", "NaN"])
async def test_what_is_no_json_is_not_enqueued(stage: Stage, payload: str) -> None:
    """One line that says why; no job."""
    with pytest.raises(DatabaseError, match="the job was not added: invalid input syntax for type json"):
        await stage.add(payload=payload)
    assert await stage.connection.fetchval("select count(*) from app_jobs.jobs") == 0


async def test_a_connection_lost_between_two_claims_keeps_the_first(empty_database: str, connect_to: ConnectTo) -> None:
    """One by one, what was claimed before the connection ended is returned, and delivered, rather than forgotten."""
    connection = await connect_to(empty_database)
    await connection.execute(PLATFORM)
    first = await enqueue(connection, "app_jobs", NewJob("x", database_id=TENANT))
    await enqueue(connection, "app_jobs", NewJob("x", database_id=TENANT))
    await connection.execute(
        """
        create function app_jobs.hang_up() returns trigger language plpgsql as $$
        begin
            if (select count(*) from app_jobs.jobs where locked_by is not null) > 0 then
                perform pg_terminate_backend(pg_backend_pid());
            end if;
            return new;
        end
        $$;
        create trigger hang_up before update on app_jobs.jobs for each row execute function app_jobs.hang_up();
        """
    )
    async with asyncpg.create_pool(empty_database, min_size=1, max_size=1) as pool:
        store = await open_store(pool, "app_jobs")
        assert [job.id for job in await store.claim(WORKER, tasks=None, limit=5)] == [first]


async def test_without_a_schema_there_is_no_store(empty_database: str) -> None:
    """The error names the schema and the command that makes it."""
    async with asyncpg.create_pool(empty_database, min_size=1, max_size=1) as pool:
        with pytest.raises(SchemaError, match="no jobs schema app_jobs: run `jobfn db migrate`"):
            await open_store(pool, "app_jobs")


async def test_an_older_schema_wants_migrating(database: str, connection: "asyncpg.Connection[Any]") -> None:
    """Our record is there and what this jobfn needs is not: better at the start than at the first job."""
    await connection.execute("drop function app_jobs.claim_jobs")
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool:
        with pytest.raises(SchemaError, match="older than this jobfn: run `jobfn db migrate`"):
            await open_store(pool, "app_jobs")


async def test_a_role_that_may_not_look_is_told(database: str, connection: "asyncpg.Connection[Any]") -> None:
    """Without USAGE on the schema: one line that says so, at the start."""
    name = f"jobfn_test_{uuid.uuid4().hex[:12]}"
    await connection.execute(f"create role {name}")
    try:
        async with asyncpg.create_pool(database, min_size=1, max_size=1, server_settings={"role": name}) as pool:
            with pytest.raises(SchemaError, match="this role may not use schema app_jobs"):
                await open_store(pool, "app_jobs")
    finally:
        await connection.execute(f"drop role {name}")
