"""Unique jobs (``add_unique_job``, ``add_unique_jobs``) and debounced jobs with a maximum delay."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from support.fixtures import Connect
from support.jobs import TENANT, Jobs

MINUTE = timedelta(minutes=1)
OTHER_TENANT = "0b720132-17d5-424d-9bcb-ee7b17c13d43"


async def add(connection: asyncpg.Connection, task: str = "sync", payload: object = None, **options: object) -> Any:
    """Call ``add_unique_job``. Return the id, and whether the job is a duplicate."""
    named = "".join(f", {name} := ${number}" for number, name in enumerate(options, 3))
    row = await connection.fetchrow(
        f"select * from app_jobs.add_unique_job($1, $2{named})", task, json.dumps(payload or {}), *options.values()
    )
    assert row is not None
    return tuple(row)


async def add_many(connection: asyncpg.Connection, payloads: list[object], **options: object) -> list[tuple[int, bool]]:
    named = "".join(f", {name} := ${number}" for number, name in enumerate(options, 2))
    rows = await connection.fetch(
        f"select * from app_jobs.add_unique_jobs('sync', $1{named})", list(map(json.dumps, payloads)), *options.values()
    )
    return [tuple(row) for row in rows]


async def until_blocked(jobs: Jobs, connection: asyncpg.Connection, task: "asyncio.Task[Any]") -> None:
    pid = connection.get_server_pid()
    while not await jobs.connection.fetchval("select cardinality(pg_blocking_pids($1)) > 0", pid):
        assert not task.done()


async def expire(jobs: Jobs) -> None:
    """Let the period of every unique job end."""
    await jobs.connection.execute("update app_jobs.unique_jobs set expires_at = now(), prune_at = now()")


async def prune(jobs: Jobs) -> int:
    await jobs.connection.execute("select app_jobs.prune_unique_jobs(1000)")
    left: int = await jobs.connection.fetchval("select count(*) from app_jobs.unique_jobs")
    return left


async def test_same_payload_is_a_duplicate(jobs: Jobs) -> None:
    first, is_duplicate = await add(jobs.connection, payload={"a": 1, "b": 2}, unique_until="done")
    assert not is_duplicate
    assert await add(jobs.connection, payload={"b": 2, "a": 1}, unique_until="done") == (first, True)
    assert (await add(jobs.connection, payload={"a": 1}, unique_until="done"))[1] is False
    assert (await add(jobs.connection, "other", {"a": 1, "b": 2}, unique_until="done"))[1] is False
    assert await jobs.count() == 3


async def test_chosen_fields(jobs: Jobs) -> None:
    by: Any = {"unique_until": "done", "unique_by": ["customer"]}
    first, _ = await add(jobs.connection, payload={"customer": 7, "at": 1}, **by)
    assert await add(jobs.connection, payload={"customer": 7, "at": 2}, **by) == (first, True)
    assert (await add(jobs.connection, payload={"customer": "7"}, **by))[1] is False
    missing, is_duplicate = await add(jobs.connection, payload={"at": 1}, **by)
    assert not is_duplicate
    assert await add(jobs.connection, payload={"customer": None}, **by) == (missing, True)


async def test_no_fields_means_one_job_of_the_task(jobs: Jobs) -> None:
    first, _ = await add(jobs.connection, payload={"a": 1}, unique_until="done", unique_by=[])
    assert await add(jobs.connection, payload={"a": 2}, unique_until="done", unique_by=[]) == (first, True)


async def test_tenants_are_apart(jobs: Jobs) -> None:
    ids = []
    for tenant in (TENANT, OTHER_TENANT, TENANT):
        await jobs.connection.execute("select set_config('jwt.claims.database_id', $1, false)", tenant)
        ids.append(await add(jobs.connection, unique_until="done"))
    assert ids == [(ids[0][0], False), (ids[1][0], False), (ids[0][0], True)]
    assert str((await jobs.row(ids[1][0]))["database_id"]) == OTHER_TENANT


async def test_period_outlives_the_job(jobs: Jobs) -> None:
    first, _ = await add(jobs.connection, unique_for=MINUTE)
    assert await jobs.claim_id() == first
    assert await jobs.complete(first) == first
    assert await add(jobs.connection, unique_for=MINUTE) == (first, True)
    await expire(jobs)
    second, is_duplicate = await add(jobs.connection, unique_for=MINUTE)
    assert (second > first, is_duplicate) == (True, False)


async def test_duplicates_do_not_extend_the_period(jobs: Jobs) -> None:
    await add(jobs.connection, unique_for=MINUTE)
    before = await jobs.connection.fetchval("select expires_at from app_jobs.unique_jobs")
    await add(jobs.connection, unique_for=timedelta(days=1), on_conflict="replace")
    assert await jobs.connection.fetchval("select expires_at from app_jobs.unique_jobs") == before


async def test_until_started(jobs: Jobs) -> None:
    first, _ = await add(jobs.connection, unique_until="started")
    assert await add(jobs.connection, unique_until="started") == (first, True)
    assert await jobs.claim_id() == first
    second, is_duplicate = await add(jobs.connection, unique_until="started")
    assert not is_duplicate
    await jobs.fail(first)  # the first one waits for its retry: it has started
    assert await add(jobs.connection, unique_until="started") == (second, True)


async def test_until_done(jobs: Jobs) -> None:
    first, _ = await add(jobs.connection, unique_until="done", max_attempts=2)
    await jobs.claim()
    assert await add(jobs.connection, unique_until="done") == (first, True)
    await jobs.fail(first)
    assert await add(jobs.connection, unique_until="done") == (first, True)
    await jobs.update("run_at = now()")
    assert await jobs.claim_id() == first
    await jobs.fail(first)  # permanently
    assert (await add(jobs.connection, unique_until="done"))[1] is False


async def test_until_done_ends_with_the_job(jobs: Jobs) -> None:
    first, _ = await add(jobs.connection, unique_until="done")
    await jobs.claim()
    await jobs.complete(first)
    assert (await add(jobs.connection, unique_until="done"))[1] is False


async def test_until_done_ends_with_a_cancelled_job(jobs: Jobs) -> None:
    first, _ = await add(jobs.connection, unique_until="done")
    await jobs.connection.execute("select app_jobs.cancel_jobs(array[$1::bigint], 'no', false)", first)
    second, is_duplicate = await add(jobs.connection, unique_until="done", on_conflict="replace")
    assert (second > first, is_duplicate) == (True, False)
    assert await jobs.values(first, "ended_as", "last_error") == ("cancelled", "no")


@pytest.mark.parametrize("on_conflict", ["keep", "replace"])
async def test_parked_job_is_a_duplicate_until_done_and_is_not_replaced(jobs: Jobs, on_conflict: str) -> None:
    options: Any = {"unique_until": "done", "unique_by": ["customer"], "on_conflict": on_conflict}
    first, _ = await add(jobs.connection, payload={"customer": 7, "at": 1}, **options)
    await jobs.claim()
    await jobs.update("locked_at = null, locked_by = null, parked_attempt = 1, has_steps = true, run_at = 'infinity'")
    assert await add(jobs.connection, payload={"customer": 7, "at": 2}, **options) == (first, True)
    assert await jobs.values(first, "payload", "parked_attempt") == ('{"customer": 7, "at": 1}', 1)
    started = {**options, "unique_until": "started"}
    assert await add(jobs.connection, payload={"customer": 7, "at": 2}, **started) == (first, True)


async def test_parked_job_has_started(jobs: Jobs) -> None:
    _first, _ = await add(jobs.connection, unique_until="started")
    await jobs.claim()
    await jobs.update("locked_at = null, locked_by = null, parked_attempt = 1, has_steps = true, run_at = 'infinity'")
    assert (await add(jobs.connection, unique_until="started"))[1] is False


@pytest.mark.parametrize("until", ["done", "started"])
@pytest.mark.parametrize("replacement", ["add_job", "add_unique_job"])
async def test_job_whose_payload_was_replaced_by_its_key_is_no_duplicate(
    jobs: Jobs, until: str, replacement: str
) -> None:
    first, _ = await add(jobs.connection, payload={"customer": 7}, unique_until=until, job_key="k")
    if replacement == "add_job":
        assert await jobs.add("sync", {"customer": 8}, job_key="k") == first
    else:
        added = await add(jobs.connection, payload={"customer": 8}, unique_until=until, job_key="k")
        assert added == (first, False)
    second, is_duplicate = await add(jobs.connection, payload={"customer": 7}, unique_until=until)
    assert (second > first, is_duplicate) == (True, False)
    assert await add(jobs.connection, payload={"customer": 7}, unique_until=until) == (second, True)


async def test_replace_changes_a_waiting_job(jobs: Jobs) -> None:
    options: Any = {"unique_until": "done", "unique_by": ["customer"], "on_conflict": "replace"}
    first, _ = await add(jobs.connection, payload={"customer": 7, "at": 1}, **options)
    later = datetime.now(UTC) + MINUTE
    replaced = await add(
        jobs.connection, payload={"customer": 7, "at": 2}, **options, run_at=later, priority=3, queue_name="q"
    )
    assert replaced == (first, True)
    assert await jobs.values(first, "payload", "run_at", "priority", "queue_name", "max_attempts") == (
        '{"customer": 7, "at": 2}',
        later,
        3,
        "q",
        25,
    )


async def test_replace_leaves_a_running_job(jobs: Jobs) -> None:
    options: Any = {"unique_until": "done", "unique_by": ["customer"], "on_conflict": "replace"}
    first, _ = await add(jobs.connection, payload={"customer": 7, "at": 1}, **options)
    await jobs.claim()
    assert await add(jobs.connection, payload={"customer": 7, "at": 2}, **options) == (first, True)
    assert await jobs.values(first, "payload", "attempts") == ('{"customer": 7, "at": 1}', 1)


async def test_replace_wakes_workers(jobs: Jobs, connect: Connect) -> None:
    woken = asyncio.Event()
    listener = await connect()
    await add(jobs.connection, unique_until="done", run_at=datetime.now(UTC) + MINUTE)
    await listener.add_listener("jobs:insert", lambda *_: woken.set())
    await add(jobs.connection, unique_until="done", on_conflict="replace")
    async with asyncio.timeout(10):
        await woken.wait()
    assert await jobs.claim() is not None


async def test_error_names_the_job(jobs: Jobs) -> None:
    first, _ = await add(jobs.connection, payload={"secret": "s3cret"}, unique_until="done")
    with pytest.raises(asyncpg.UniqueViolationError) as caught:
        await add(jobs.connection, payload={"secret": "s3cret"}, unique_until="done", on_conflict="error")
    assert caught.value.as_dict()["message"] == f"a job of task 'sync' that is unique exists: job {first}"
    assert "s3cret" not in str(caught.value.as_dict())


async def test_key_and_dependencies(jobs: Jobs) -> None:
    other = await jobs.add("other")
    job_id, _ = await add(jobs.connection, unique_until="done", job_key="k", depends_on=[other])
    assert await jobs.values(job_id, "key", "run_at") == (
        "k",
        await jobs.connection.fetchval("select 'infinity'::timestamptz"),
    )
    assert await add(jobs.connection, unique_until="done") == (job_id, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either unique_for, an interval, or unique_until, which is started or done"),
        (
            {"unique_for": MINUTE, "unique_until": "done"},
            "give either unique_for, an interval, or unique_until, which is started or done",
        ),
        ({"unique_until": "expired"}, "unique_until must be started or done"),
        ({"unique_for": timedelta(0)}, "unique_for must be an interval of 1 millisecond to 366 days"),
        ({"unique_for": timedelta(days=367)}, "unique_for must be an interval of 1 millisecond to 366 days"),
        ({"unique_until": "done", "unique_by": ["x"] * 33}, "unique_by must have at most 32 fields"),
        ({"unique_until": "done", "unique_by": ["x", None]}, "unique_by must not contain null"),
        ({"unique_until": "done", "on_conflict": "ignore"}, "on_conflict must be keep, replace or error"),
        (
            {"unique_until": "done", "on_conflict": "replace", "depends_on": [1]},
            "add_unique_job: depends_on and on_conflict := 'replace' exclude each other",
        ),
    ],
)
async def test_invalid_options(jobs: Jobs, options: dict[str, Any], message: str) -> None:
    with pytest.raises(asyncpg.PostgresError) as caught:
        await add(jobs.connection, **options)
    assert str(caught.value) == message
    assert await jobs.count() == 0


async def test_fields_of_a_payload_that_is_not_an_object(jobs: Jobs) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await add(jobs.connection, payload=[1], unique_until="done", unique_by=["id"])
    assert str(caught.value) == ("unique_by names fields, but the payload of a job of task 'sync' is not a JSON object")


async def test_concurrent_call_waits_for_the_first(jobs: Jobs, connect: Connect) -> None:
    first, second = await connect(), await connect()
    transaction = first.transaction()
    await transaction.start()
    job_id, _ = await add(first, unique_until="done")
    waiting = asyncio.create_task(add(second, unique_until="done"))
    await until_blocked(jobs, second, waiting)
    await transaction.commit()
    assert await waiting == (job_id, True)


async def test_rolled_back_transaction_leaves_nothing(jobs: Jobs, connect: Connect) -> None:
    first, second = await connect(), await connect()
    transaction = first.transaction()
    await transaction.start()
    await add(first, unique_until="done")
    waiting = asyncio.create_task(add(second, unique_until="done"))
    await until_blocked(jobs, second, waiting)
    await transaction.rollback()
    assert (await waiting)[1] is False
    assert await jobs.count() == 1


@pytest.mark.parametrize("until", ["started", "done"])
async def test_kept_job_starts_after_the_transaction(jobs: Jobs, connect: Connect, until: str) -> None:
    """The job that is kept sees what the transaction that found it has changed."""
    first, _ = await add(jobs.connection, unique_until=until)
    other = await connect()
    transaction = other.transaction()
    await transaction.start()
    assert await add(other, unique_until=until) == (first, True)
    assert await jobs.claim() is None
    await transaction.commit()
    assert await jobs.claim_id() == first


async def test_expired_key_is_taken_over_once(jobs: Jobs, connect: Connect) -> None:
    await add(jobs.connection, unique_for=MINUTE)
    await expire(jobs)
    first, second = await connect(), await connect()
    transaction = first.transaction()
    await transaction.start()
    job_id, is_duplicate = await add(first, unique_for=MINUTE)
    assert not is_duplicate
    waiting = asyncio.create_task(add(second, unique_for=MINUTE))
    await until_blocked(jobs, second, waiting)
    await transaction.commit()
    assert await waiting == (job_id, True)


async def test_many(jobs: Jobs) -> None:
    existing, _ = await add(jobs.connection, payload={"id": 2}, unique_until="done")
    rows = await add_many(
        jobs.connection, [{"id": 3}, {"id": 2}, {"id": 1}, {"id": 3}], unique_until="done", queue_names=list("abcd")
    )
    assert rows == [(rows[0][0], False), (existing, True), (rows[0][0] + 1, False), (rows[0][0], True)]
    assert await jobs.values(rows[2][0], "queue_name", "payload") == ("c", '{"id": 1}')
    assert await add_many(jobs.connection, [], unique_until="done") == []


async def test_many_add_nothing_on_an_error(jobs: Jobs) -> None:
    await add(jobs.connection, payload={"id": 2}, unique_until="done")
    with pytest.raises(asyncpg.UniqueViolationError):
        await add_many(jobs.connection, [{"id": 1}, {"id": 2}], unique_until="done", on_conflict="error")
    assert await jobs.count() == 1
    assert await jobs.connection.fetchval("select count(*) from app_jobs.unique_jobs") == 1


async def test_many_lock_keys_in_one_order(jobs: Jobs, connect: Connect) -> None:
    first, second = await connect(), await connect()
    payloads: list[object] = [{"id": number} for number in range(20)]
    for _ in range(10):
        found = await asyncio.gather(
            add_many(first, payloads, unique_for=MINUTE), add_many(second, payloads[::-1], unique_for=MINUTE)
        )
        assert [row[0] for row in found[0]] == [row[0] for row in found[1]][::-1]
        await expire(jobs)
    assert await jobs.count() == 200


async def test_arrays_of_another_length(jobs: Jobs) -> None:
    with pytest.raises(asyncpg.ArraySubscriptError, match="one element for each payload"):
        await add_many(jobs.connection, [{}], unique_until="done", queue_names=["a", "b"])


async def test_pruning(jobs: Jobs) -> None:
    await add(jobs.connection, "running", unique_until="done")
    await add(jobs.connection, "failed", unique_until="done", max_attempts=1)
    await add(jobs.connection, "started", unique_until="started")
    await add(jobs.connection, "waiting", unique_until="started", run_at=datetime.now(UTC) + MINUTE)
    await add(jobs.connection, "period", unique_for=MINUTE)
    claimed = [await jobs.claim_id() for _ in range(4)]
    await jobs.fail(claimed[1] or 0)
    assert await prune(jobs) == 5  # nothing is due
    await jobs.connection.execute("update app_jobs.unique_jobs set prune_at = now() where expires_at is null")
    assert await prune(jobs) == 3
    assert await jobs.connection.fetchval("select count(*) from app_jobs.unique_jobs where prune_at <= now()") == 0
    await expire(jobs)
    assert await prune(jobs) == 2
    assert (await add(jobs.connection, "running", unique_until="done"))[1] is True


async def test_debounced_job_runs_at_the_maximum_delay(jobs: Jobs) -> None:
    call = "select (app_jobs.add_debounced_job('index', 'k', now() + $1, interval '10 minutes', $2)).*"
    first = await jobs.connection.fetchrow(call, 4 * MINUTE, '{"edit": 1}')
    assert first is not None
    assert first["run_at"] - first["created_at"] == 4 * MINUTE
    await jobs.update("created_at = created_at - interval '5 minutes'")
    second = await jobs.connection.fetchrow(call, 4 * MINUTE, '{"edit": 2}')
    assert second is not None
    assert second["run_at"] - second["created_at"] > 9 * MINUTE
    await jobs.update("created_at = created_at - interval '4 minutes'")
    third = await jobs.connection.fetchrow(call, 4 * MINUTE, '{"edit": 3}')
    assert third is not None
    assert (third["id"], third["run_at"] - third["created_at"]) == (first["id"], 10 * MINUTE)
    assert await jobs.values(first["id"], "run_at", "payload") == (third["run_at"], '{"edit": 3}')


@pytest.mark.parametrize("values", ["null, now(), '1 minute'", "'k', now(), null", "'k', now(), '0'"])
async def test_debounced_job_needs_key_and_delay(jobs: Jobs, values: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="job_key must not be null, and max_delay above 0"):
        await jobs.connection.execute(f"select app_jobs.add_debounced_job('index', {values})")
