"""Unique and debounced jobs, enqueued on every kind of connection and from several processes."""

import asyncio
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from jobfn import DuplicateJob, enqueue, enqueue_many, task
from jobfn.errors import SchemaError
from support.client import OpenTransaction, maybe_await
from support.jobs import PLATFORM_SCHEMA, TENANT, Jobs

MINUTE = timedelta(minutes=1)
#: Adds 200 jobs with 10 different payloads, each in a transaction, and prints one line for each.
ENQUEUER = """
import random, sys
import psycopg
from datetime import timedelta
from jobfn import enqueue

rules = {"done": "until_done", "started": "until_started", "period": timedelta(hours=1)}
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    for _ in range(100):
        with connection.transaction():
            job = enqueue(connection, "sync", {"customer": random.randrange(10)}, unique=rules[sys.argv[2]])
        print(int(job), job.is_duplicate)
"""
#: Adds a job in a transaction that it leaves open.
HANGING_ENQUEUER = """
import sys, time
import psycopg
from jobfn import enqueue

with psycopg.connect(sys.argv[1]) as connection:
    print(enqueue(connection, "sync", {}, unique="until_done").is_duplicate, flush=True)
    time.sleep(600)
"""


#: In each form and with each on_conflict: adds 40 jobs of 5 customers, and prints the ids of those that it added.
ALL_FORMS = """
import json, random, sys
import psycopg
from jobfn import DuplicateJob, enqueue, enqueue_many

def by_enqueue(connection, task, payload, on_conflict):
    job = enqueue(connection, task, payload, unique="until_done", unique_by=["customer"], on_conflict=on_conflict)
    return [] if job.is_duplicate else [int(job)]

def by_enqueue_many(connection, task, payload, on_conflict):
    jobs = enqueue_many(
        connection, task, [payload], unique="until_done", unique_by=["customer"], on_conflict=on_conflict
    )
    return [] if jobs.are_duplicates[0] else list(jobs)

def by_sql(connection, task, payload, on_conflict):
    rows = connection.execute(
        "select job_id, is_duplicate from app_jobs.add_unique_job("
        "%s, %s, unique_until := 'done', unique_by := '{customer}', on_conflict := %s)",
        [task, json.dumps(payload), on_conflict],
    )
    return [row[0] for row in rows if not row[1]]

def by_trigger(connection, task, payload, on_conflict):
    connection.execute(
        "insert into changes (task, customer, n, on_conflict) values (%s, %s, %s, %s)",
        [task, payload["customer"], payload["n"], on_conflict],
    )
    return []

with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    for add in (by_enqueue, by_enqueue_many, by_sql, by_trigger):
        for on_conflict in ("keep", "replace", "error"):
            for n in range(40):
                try:
                    with connection.transaction():
                        payload = {"customer": random.randrange(5), "n": n}
                        for job in add(connection, f"{add.__name__}_{on_conflict}", payload, on_conflict):
                            print(job)
                except (DuplicateJob, psycopg.errors.UniqueViolation):
                    assert on_conflict == "error", on_conflict
"""


async def start(script: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, *arguments, stdout=asyncio.subprocess.PIPE
    )


async def test_duplicate_is_returned(transaction: OpenTransaction, jobs: Jobs) -> None:
    options: Any = {"unique": "until_done", "unique_by": ["customer"], "database_id": TENANT}
    first = await maybe_await(enqueue(transaction.connection, "sync", {"customer": 7, "n": 1}, **options))
    second = await maybe_await(enqueue(transaction.connection, "sync", {"customer": 7, "n": 2}, **options))
    other = await maybe_await(enqueue(transaction.connection, "sync", {"customer": 7}, unique="until_done"))
    await transaction.commit()
    assert (first.is_duplicate, second.is_duplicate, other.is_duplicate) == (False, True, False)
    assert second == first
    assert await jobs.values(first, "payload") == ('{"customer":7,"n":1}',)
    assert str((await jobs.row(first))["database_id"]) == TENANT


async def test_duplicate_replaces(transaction: OpenTransaction, jobs: Jobs) -> None:
    options: Any = {"unique": MINUTE, "unique_by": [], "on_conflict": "replace"}
    first = await maybe_await(enqueue(transaction.connection, "sync", {"n": 1}, **options))
    second = await maybe_await(enqueue(transaction.connection, "sync", {"n": 2}, priority=4, **options))
    await transaction.commit()
    assert (second, second.is_duplicate) == (first, True)
    assert await jobs.values(first, "payload", "priority") == ('{"n":2}', 4)


async def test_duplicate_is_an_error(transaction: OpenTransaction, jobs: Jobs) -> None:
    first = await maybe_await(enqueue(transaction.connection, "sync", {"n": 1}, unique=MINUTE))
    with pytest.raises(DuplicateJob) as raised:
        await maybe_await(enqueue(transaction.connection, "sync", {"n": 1}, unique=MINUTE, on_conflict="error"))
    assert str(raised.value) == f"a job of task 'sync' that is unique exists: job {first}"
    assert raised.value.job_id == first
    await transaction.commit()  # the transaction is not aborted
    assert await jobs.count() == 1


async def test_many(transaction: OpenTransaction, jobs: Jobs) -> None:
    options: Any = {"unique": "until_started", "database_id": TENANT}
    first = await maybe_await(enqueue(transaction.connection, "sync", {"n": 2}, **options))
    payloads = [{"n": 1}, {"n": 2}, {"n": 1}]
    options["queue"] = lambda payload: f"q{payload['n']}"
    added = await maybe_await(enqueue_many(transaction.connection, "sync", payloads, **options))
    plain = await maybe_await(enqueue_many(transaction.connection, "sync", [{"n": 1}]))
    await transaction.commit()
    assert (added[1], added[2]) == (first, added[0])
    assert (added.are_duplicates, plain.are_duplicates) == ([False, True, True], [False])
    assert await jobs.values(added[0], "queue_name") == ("q1",)


async def test_error_of_many(transaction: OpenTransaction, jobs: Jobs) -> None:
    options: Any = {"unique": "until_started", "on_conflict": "error"}
    with pytest.raises(DuplicateJob) as raised:
        await maybe_await(enqueue_many(transaction.connection, "sync", [{"secret": "s3cret"}] * 2, **options))
    assert str(raised.value) == "a unique job among them exists: no job was added, roll the transaction back"
    await transaction.rollback()
    assert await jobs.count() == 0


async def test_dependencies(connection: "asyncpg.Connection[Any]", jobs: Jobs) -> None:
    first = await enqueue(connection, "first")
    options: Any = {"unique": "until_done", "depends_on": [first]}
    assert not (await enqueue(connection, "second", {}, **options)).is_duplicate
    second = await enqueue(connection, "second", {}, **options)
    assert second.is_duplicate
    assert await jobs.values(second, "parked_attempt") == (0,)


async def test_maximum_delay(transaction: OpenTransaction, jobs: Jobs) -> None:
    soon, later = datetime.now(UTC) + MINUTE, datetime.now(UTC) + 60 * MINUTE
    options: Any = {"key": "k", "max_delay": 10 * MINUTE}
    first = await maybe_await(enqueue(transaction.connection, "index", {"n": 1}, run_at=soon, **options))
    second = await maybe_await(
        enqueue(transaction.connection, "index", {"n": 2}, run_at=later, database_id=TENANT, **options)
    )
    await transaction.commit()
    assert second == first
    row = await jobs.row(first)
    assert (row["payload"], row["run_at"] - row["created_at"]) == ('{"n":2}', 10 * MINUTE)
    assert str(row["database_id"]) == TENANT


@pytest.mark.parametrize("rule", ["done", "started", "period"])
async def test_processes_that_add_the_same_jobs(database: str, jobs: Jobs, rule: str) -> None:
    processes = [await start(ENQUEUER, database, rule) for _ in range(3)]
    async with asyncio.timeout(120):
        output = [(await process.communicate())[0].decode().split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    ids = [number for lines in output for number in lines[::2]]
    flags = Counter(flag for lines in output for flag in lines[1::2])
    assert flags == {"False": 10, "True": 290}
    assert len(set(ids)) == 10
    assert await jobs.count() == 10


async def test_two_processes_in_each_form_and_with_each_conflict(database: str, jobs: Jobs) -> None:
    await jobs.connection.execute(
        """
        create table changes (task text, customer int, n int, on_conflict text);
        create function add_job_of_change() returns trigger language plpgsql as $$
        begin
            perform app_jobs.add_unique_job(
                new.task, json_build_object('customer', new.customer, 'n', new.n), unique_until := 'done',
                unique_by := '{customer}', on_conflict := new.on_conflict
            );
            return null;
        end
        $$;
        create trigger add_job after insert on changes for each row execute function add_job_of_change()
        """
    )
    processes = [await start(ALL_FORMS, database) for _ in range(2)]
    async with asyncio.timeout(120):
        output = [(await process.communicate())[0].decode().split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    rows = await jobs.connection.fetch(
        "select task_identifier, count(*), count(distinct payload ->> 'customer') as customers "
        "from app_jobs.jobs group by 1 order by 1"
    )
    forms = ("by_enqueue", "by_enqueue_many", "by_sql", "by_trigger")
    tasks = sorted(f"{form}_{conflict}" for form in forms for conflict in ("keep", "replace", "error"))
    assert [tuple(row) for row in rows] == [(task, 5, 5) for task in tasks]
    added = [int(line) for lines in output for line in lines]
    assert len(added) == len(set(added)) == 3 * 3 * 5
    replaced = await jobs.connection.fetchval(
        "select min((payload ->> 'n')::int) from app_jobs.jobs where task_identifier = 'by_sql_replace'"
    )
    assert replaced > 0


async def test_killed_process_leaves_nothing(database: str, jobs: Jobs) -> None:
    process = await start(HANGING_ENQUEUER, database)
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert await process.stdout.readline() == b"False\n"
        waiting = asyncio.create_task(enqueue(jobs.connection, "sync", {}, unique="until_done"))
        process.kill()
        await process.wait()
        assert not (await waiting).is_duplicate
    assert await jobs.count() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"unique": MINUTE},
            "no unique jobs: run `jobfn db migrate`; the platform's schema has none",
        ),
        (
            {"key": "k", "run_at": datetime.now(UTC), "max_delay": MINUTE},
            "no maximum delay: run `jobfn db migrate`, or leave max_delay out on the platform's schema",
        ),
    ],
)
async def test_platform_schema_has_neither(connection: "asyncpg.Connection[Any]", options: Any, message: str) -> None:
    await connection.execute("drop schema app_jobs cascade")
    await connection.execute(PLATFORM_SCHEMA)
    with pytest.raises(SchemaError) as raised:
        await enqueue(connection, "sync", {}, **options)
    assert str(raised.value) == f"schema app_jobs has {message}"


@task("sync_customer", queue="syncs", priority=3, max_attempts=7, unique="until_done", unique_by=["id"])
def sync_customer(payload: dict[str, int]) -> None: ...


async def test_explicit_values_win_over_synced_settings_which_win_over_the_contract(
    transaction: OpenTransaction, jobs: Jobs
) -> None:
    await jobs.connection.execute(
        "insert into app_jobs.task_settings (task_identifier, priority, max_attempts) values ('elsewhere', 5, 3)"
    )

    async def add(**options: Any) -> Any:
        return await maybe_await(enqueue(transaction.connection, "elsewhere", {}, **options))

    added = [
        await add(),
        await add(max_attempts=25),
        await add(priority=0),
        await add(max_attempts=25, priority=0, database_id=TENANT),
        await add(database_id=TENANT),
        await add(entity_id=TENANT, max_attempts=None),
        await add(key="k", max_attempts=25),
        await add(unique="until_done", max_attempts=25),
        (await maybe_await(enqueue_many(transaction.connection, "elsewhere", [{}], priority=0)))[0],
    ]
    await transaction.commit()
    assert [await jobs.values(job, "priority", "max_attempts") for job in added] == [
        (5, 3),
        (5, 25),
        (0, 3),
        (0, 25),
        (5, 3),
        (5, 3),
        (5, 25),
        (5, 25),
        (0, 3),
    ]


@pytest.mark.parametrize("by_name", [False, True])
async def test_defaults_of_the_task(transaction: OpenTransaction, jobs: Jobs, *, by_name: bool) -> None:
    def add(payload: dict[str, int], **options: Any) -> Any:
        if by_name:
            return enqueue(transaction.connection, "sync_customer", payload, **options)
        return sync_customer.enqueue(transaction.connection, payload, **options)

    def add_many(payloads: list[dict[str, int]], **options: Any) -> Any:
        if by_name:
            return enqueue_many(transaction.connection, "sync_customer", payloads, **options)
        return sync_customer.enqueue_many(transaction.connection, payloads, **options)

    first = await maybe_await(add({"id": 1, "n": 1}))
    second = await maybe_await(add({"id": 1, "n": 2}))
    many = await maybe_await(add_many([{"id": 1}, {"id": 2}]))
    own = await maybe_await(add({"id": 3}, queue="own", priority=0, max_attempts=2, key="k"))
    again = await maybe_await(add({"id": 3, "n": 2}, key="k"))
    keyed = await maybe_await(add_many([{"id": 1}], key=lambda _payload: "other"))
    with pytest.raises(DuplicateJob):
        await maybe_await(add({"id": 1}, on_conflict="error"))
    await transaction.commit()
    assert (second, second.is_duplicate, again, again.is_duplicate) == (first, True, own, False)
    assert (many[0], many.are_duplicates, keyed.are_duplicates) == (first, [True, False], [False])
    columns = ("queue_name", "priority", "max_attempts")
    assert await jobs.values(first, *columns, "payload") == ("syncs", 3, 7, '{"id":1,"n":1}')
    assert await jobs.values(many[1], *columns) == ("syncs", 3, 7)
    assert await jobs.values(own, *columns, "payload") == ("syncs", 3, 7, '{"id":3,"n":2}')
