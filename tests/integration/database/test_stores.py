"""Claims and settlements are the same for every store on every schema; which store a schema gets."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from jobfn.database.enqueue import enqueue
from jobfn.database.open_store import open_store
from jobfn.database.platform_store import PlatformJobStore
from jobfn.database.records import Job, NewJob, Settlement
from jobfn.database.statements import query
from jobfn.errors import DatabaseError, PermissionDenied, SchemaError
from support.fixtures import ConnectTo
from support.jobs import PLATFORM_SCHEMA, TENANT, WORKER, StoreHarness
from support.roles import temporary_role

ACTOR = "c0ffee00-17d5-424d-9bcb-ee7b17c13d43"


def in_minutes(minutes: float) -> datetime:
    return datetime.now(UTC) + timedelta(minutes=minutes)


async def test_claimed_job_has_all_columns_of_its_schema(harness: StoreHarness) -> None:
    job = await harness.add("mail:send", payload='{ "to" : 1 }', queue="q")
    actor = ACTOR if harness.has_ids else None
    if harness.has_ids:
        await harness.update("actor_id = $1, entity_id = $1", ACTOR)
    created_at = await harness.connection.fetchval("select date_part('epoch', created_at) from app_jobs.jobs")
    expected = Job(job, "mail:send", '{ "to" : 1 }', 1, queue="q", database_id=TENANT, actor_id=actor, entity_id=actor)
    (claimed,) = await harness.claim()
    assert claimed._replace(waited_seconds=0.0) == expected._replace(created_at=created_at)
    assert await harness.claim() == []


async def test_jobs_are_claimed_in_order_up_to_the_limit(harness: StoreHarness) -> None:
    last, second = await harness.add(), await harness.add(run_at=in_minutes(-60))
    first, delayed = await harness.add(priority=-1), await harness.add(run_at=in_minutes(60))
    assert await harness.claim_ids(limit=2) == [first, second]
    assert await harness.claim_ids("another") == [last]
    locks = [await harness.values(job, "locked_by") for job in (first, second, last, delayed)]
    assert locks == [(WORKER,), (WORKER,), ("another",), (None,)]


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        (None, ["a", "b", "c"]),
        (["b"], ["b"]),
        (["c", "a", "unknown"], ["a", "c"]),
        (["unknown"], []),
        ([], []),
    ],
)
@pytest.mark.parametrize("queue", [None, "q-"])
async def test_only_jobs_of_the_given_tasks_are_claimed(
    harness: StoreHarness, queue: str | None, tasks: list[str] | None, expected: list[str]
) -> None:
    for task in ("a", "b", "c"):
        await harness.add(task, queue=queue and queue + task)
    assert [job.task for job in await harness.claim(tasks=tasks)] == expected


async def test_queue_runs_one_job_at_a_time(harness: StoreHarness) -> None:
    first, second, third = [await harness.add(queue="q") for _ in range(3)]
    other = await harness.add(queue="other")
    assert await harness.claim_ids() == [first, other]
    assert await harness.claim_ids("another") == []
    await harness.store.settle([Settlement(WORKER, first, 1)])
    assert await harness.claim_ids() == [second]
    assert await harness.claim_ids("another") == []
    await harness.store.settle([Settlement(WORKER, second, 1, "boom")])
    assert await harness.claim_ids() == [third], "the failed job waits for its retry"
    await harness.store.release(WORKER)
    assert await harness.claim_ids("another") == [third, other]


async def test_batch_completes_and_fails_jobs(harness: StoreHarness) -> None:
    done, failed = await harness.add("a"), await harness.add("b", max_attempts=2)
    await harness.claim()
    assert await harness.store.settle(
        [Settlement(WORKER, done, 1), Settlement(WORKER, failed, 1, "boom"), Settlement(WORKER, 424242, 1)]
    ) == {done, failed}
    assert not await harness.exists(done)
    columns = ("attempts", "last_error", "locked_by", "locked_at")
    assert await harness.values(failed, *columns) == (1, "boom", None, None)


async def test_empty_batch_changes_nothing(harness: StoreHarness) -> None:
    assert await harness.store.settle([]) == set()


@pytest.mark.parametrize("error", [None, "boom"])
@pytest.mark.parametrize(
    ("worker", "attempt"), [("another", 1), ("another", None), (WORKER, 2), (WORKER, 0), (WORKER.upper(), 1)]
)
async def test_settlement_by_another_worker_or_attempt_changes_nothing(
    harness: StoreHarness, worker: str, attempt: int | None, error: str | None
) -> None:
    job = await harness.add(queue="q")
    await harness.claim()
    before = await harness.row(job)
    assert await harness.store.settle([Settlement(worker, job, attempt, error)]) == set()
    assert await harness.row(job) == before
    assert await harness.claim() == []
    assert await harness.store.settle([Settlement(WORKER, job, None, error)]) == {job}


async def test_settlement_of_an_unlocked_job_changes_nothing(harness: StoreHarness) -> None:
    job = await harness.add()
    for _ in range(2):
        assert await harness.store.settle([Settlement(WORKER, job), Settlement(WORKER, job, 0)]) == set()
        await harness.claim()
        await harness.store.release(WORKER)
    assert await harness.exists(job)


@pytest.mark.parametrize("error", [None, "boom"])
async def test_late_settlement_of_an_expired_attempt_changes_nothing(harness: StoreHarness, error: str | None) -> None:
    job = await harness.add()
    await harness.claim()
    await harness.update("locked_at = now() - interval '5 hours'")
    (claimed,) = await harness.claim()
    assert (claimed.id, claimed.attempt) == (job, 2)
    assert await harness.store.settle([Settlement(WORKER, job, 1, error)]) == set()
    assert await harness.store.settle([Settlement(WORKER, job, 2, error)]) == {job}


async def test_job_of_a_worker_without_leases_runs_again_after_four_hours(harness: StoreHarness) -> None:
    """The platform's newest get_job does not find jobs with expired locks."""
    job = await harness.add(queue="q")
    await harness.claim("node-worker")
    await harness.update("run_at = now() - interval '239 min', locked_at = now() - interval '239 min'")
    assert await harness.claim() == []
    await harness.update("run_at = now() - interval '241 min', locked_at = now() - interval '241 min'")
    await harness.connection.execute("update app_jobs.job_queues set locked_at = now() - interval '241 min'")
    assert [(claimed.id, claimed.attempt) for claimed in await harness.claim()] == [(job, 2)]


@pytest.mark.parametrize("error", [None, "boom"])
async def test_job_that_lost_its_key_is_settled_and_not_retried(harness: StoreHarness, error: str | None) -> None:
    job = await harness.add(key="k")
    (claimed,) = await harness.claim()
    waiting = await harness.add(key="k")
    assert await harness.store.settle([Settlement(WORKER, job, claimed.attempt, error)]) == {job}
    await harness.update("run_at = now() where id = $1", job)
    assert await harness.claim_ids() == [waiting]


async def test_job_settled_twice_in_a_batch_is_completed_once(harness: StoreHarness) -> None:
    job = await harness.add()
    await harness.claim()
    settlements = [Settlement(WORKER, job, 1), Settlement(WORKER, job, 1, "boom")]
    assert await harness.store.settle(settlements) == {job}
    assert await harness.store.settle(settlements) == set()
    assert not await harness.exists(job)


@pytest.mark.parametrize(
    ("error", "stored"),
    [
        ("", ""),
        ("a\0b", "ab"),
        ("lone \ud800 surrogate", "lone ? surrogate"),
        ("é" * 20_000, "é" * 10_000),
        ("''; drop table", "''; drop table"),
    ],
)
async def test_error_is_sanitized_and_truncated(harness: StoreHarness, error: str, stored: str) -> None:
    job = await harness.add()
    await harness.claim()
    assert await harness.store.settle([Settlement(WORKER, job, 1, error)]) == {job}
    assert await harness.values(job, "last_error", "locked_by") == (stored, None)


async def test_infinite_times_are_due_always_or_never(harness: StoreHarness) -> None:
    past, future = await harness.add(), await harness.add()
    await harness.update("run_at = '-infinity' where id = $1", past)
    await harness.update("run_at = 'infinity' where id = $1", future)
    name = "platform_queue_depth" if harness.is_platform else "queue_depth"
    depth = await harness.connection.fetchrow(query(name, "app_jobs"))
    assert depth is not None
    names = ("ready", "delayed", "running", "failed", "oldest_ready_seconds")
    assert tuple(depth[name] for name in names) == (1, 1, 0, 0, 0)
    assert await harness.store.seconds_until_next() is None
    assert await harness.claim_ids() == [past]


async def test_seconds_until_next_is_the_time_of_the_next_delayed_job(harness: StoreHarness) -> None:
    assert await harness.store.seconds_until_next() is None
    await harness.add()
    assert await harness.store.seconds_until_next() is None
    for minutes in (30, 10, 20):
        await harness.add(run_at=in_minutes(minutes))
    next_job = await harness.add(run_at=in_minutes(5))
    assert await harness.store.seconds_until_next() == pytest.approx(300, abs=10)
    await harness.update("attempts = max_attempts where id = $1", next_job)
    assert await harness.store.seconds_until_next() == pytest.approx(600, abs=10)


@pytest.mark.parametrize(("queue", "priority"), [(None, -5), (None, 7), ("mail", 0), ("mail", 9)])
async def test_next_delayed_job_can_have_any_priority_and_queue(
    harness: StoreHarness, queue: str | None, priority: int
) -> None:
    for other in range(-3, 3):
        await harness.add(run_at=in_minutes(30), priority=other, queue="a" if other % 2 else None)
    await harness.add(run_at=in_minutes(5), priority=priority, queue=queue)
    assert await harness.store.seconds_until_next() == pytest.approx(300, abs=10)


async def test_enqueue_without_a_tenant_fails_where_jobs_require_one(harness: StoreHarness) -> None:
    job = NewJob("x")
    if harness.requires_tenant:
        with pytest.raises(SchemaError, match="requires the tenant"):
            await enqueue(harness.connection, "app_jobs", job)
    else:
        job_id = await enqueue(harness.connection, "app_jobs", job)
        assert await harness.values(job_id, "database_id") == (None,)


async def test_enqueued_job_has_tenant_actor_and_entity(harness: StoreHarness) -> None:
    await harness.connection.execute("select set_config('jwt.claims.user_id', $1, false)", ACTOR)
    await harness.connection.execute("select set_config('jwt.claims.database_id', $1, false)", ACTOR)
    columns = ("database_id", "actor_id", "entity_id", "organization_id", "entity_type")
    entity: Any = {"entity_id": TENANT, "organization_id": ACTOR, "entity_type": "org"}
    if harness.requires_tenant:
        with pytest.raises(SchemaError, match=r"older schema requires the tenant .* and takes no entity"):
            await harness.add(**entity)
        return
    for job, expected in (
        (await harness.add(), (TENANT, ACTOR, "None", "None", "None")),
        (await harness.add(**entity), (TENANT, ACTOR, TENANT, ACTOR, "org")),
        (await enqueue(harness.connection, "app_jobs", NewJob("x", **entity)), (ACTOR, ACTOR, TENANT, ACTOR, "org")),
    ):
        assert tuple(map(str, await harness.values(job, *columns))) == expected
    assert await harness.connection.fetchval("select current_setting('jwt.claims.database_id')") == ACTOR


@pytest.mark.parametrize("payload", ["{", "", "NaN"])
async def test_enqueue_rejects_a_payload_that_is_not_json(harness: StoreHarness, payload: str) -> None:
    with pytest.raises(DatabaseError, match="the job was not added: invalid input syntax for type json"):
        await harness.add(payload=payload)
    assert await harness.count() == 0


async def test_claim_returns_jobs_claimed_before_the_connection_was_lost(
    empty_database: str, connect_to: ConnectTo
) -> None:
    connection = await connect_to(empty_database)
    await connection.execute(PLATFORM_SCHEMA)
    first = await enqueue(connection, "app_jobs", NewJob("x", database_id=TENANT))
    await enqueue(connection, "app_jobs", NewJob("x", database_id=TENANT))
    await connection.execute(
        """
        create function app_jobs.terminate_second_claim() returns trigger language plpgsql as $$
        begin
            if (select count(*) from app_jobs.jobs where locked_by is not null) > 0 then
                perform pg_terminate_backend(pg_backend_pid());
            end if;
            return new;
        end
        $$;
        create trigger terminate_second_claim before update on app_jobs.jobs
            for each row execute function app_jobs.terminate_second_claim();
        """
    )
    async with asyncpg.create_pool(empty_database, min_size=1, max_size=1) as pool:
        store = await open_store(pool, "app_jobs")
        assert [job.id for job in await store.claim(WORKER, tasks=None, limit=5)] == [first]


async def test_missing_schema_has_no_store(empty_database: str) -> None:
    async with asyncpg.create_pool(empty_database, min_size=1, max_size=1) as pool:
        with pytest.raises(SchemaError, match="no jobs schema app_jobs: run `jobfn db migrate`"):
            await open_store(pool, "app_jobs")


async def test_outdated_schema_has_no_store(database: str, connection: asyncpg.Connection) -> None:
    await connection.execute("drop function app_jobs.claim_jobs")
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool:
        with pytest.raises(SchemaError, match="older than this jobfn: run `jobfn db migrate`"):
            await open_store(pool, "app_jobs")


async def test_role_without_usage_has_no_store(database: str, connection: asyncpg.Connection) -> None:
    async with (
        temporary_role(connection) as role,
        asyncpg.create_pool(database, min_size=1, max_size=1, server_settings={"role": role}) as pool,
    ):
        with pytest.raises(PermissionDenied, match=f"role {role} lacks USAGE on schema app_jobs: .*--grant-worker"):
            await open_store(pool, "app_jobs")


async def test_claim_that_excludes_a_task_finds_others_behind_many_of_its_jobs(harness: StoreHarness) -> None:
    """The platform's ``get_job`` cannot exclude a task: one claim skips at most 100 of its jobs."""
    for _ in range(101):
        await harness.add("slow")
    quick = await harness.add("quick")
    claims = [await harness.claim(exclude_tasks=["slow"]) for _ in range(2)]
    assert [job.id for claim in claims for job in claim] == [quick]
    assert claims[0] == [] or not isinstance(harness.store, PlatformJobStore)
