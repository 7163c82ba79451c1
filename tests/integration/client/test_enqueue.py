"""Jobs enqueued on every kind of connection, in the user's own transaction."""

import asyncio
import json
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Literal
from uuid import UUID

import asyncpg
import pytest
from pydantic import BaseModel, Field

from jobfn import EnqueueError, enqueue, enqueue_many, task
from jobfn.database.migrate import migrate
from jobfn.database.privileges import Grants
from jobfn.errors import SchemaError
from jobfn.payloads import RowId
from support.client import OpenTransaction, maybe_await
from support.fixtures import ConnectTo
from support.jobs import PLATFORM_SCHEMA, TENANT, Jobs

ACTOR = "c2d29867-3d0b-d497-9191-18a9d8ee7830"
LATER = datetime(2040, 1, 31, 9, 0, 0, 123456, tzinfo=timezone(timedelta(hours=1)))


class Invoice(BaseModel):
    """A payload."""

    id: int
    due: datetime | None = None
    sender: str | None = Field(default=None, alias="from")


@task("process_invoice", max_attempts=3)
async def process_invoice(payload: Invoice) -> None: ...


class Cat(BaseModel):
    """A payload with a field for its kind."""

    kind: Literal["cat"] = "cat"
    name: str = "Tom"


class Dog(BaseModel):
    """Another one."""

    kind: Literal["dog"] = "dog"
    name: str = "Rex"


@task("fetch_invoice")
async def fetch_invoice(payload: RowId) -> None: ...


@task("call")
async def call(payload: Cat | Dog) -> None: ...


@task("feed")
async def feed(payload: Annotated[Cat | Dog, Field(discriminator="kind")]) -> None: ...


@task("tidy_up")
def tidy_up(payload: None) -> None: ...


async def test_job_has_all_options_and_is_visible_after_the_commit(transaction: OpenTransaction, jobs: Jobs) -> None:
    job = await maybe_await(
        process_invoice.enqueue(
            transaction.connection,
            Invoice.model_validate({"id": 7, "from": "ada", "due": LATER}),
            run_at=LATER,
            key="invoice-7",
            queue="invoices",
            priority=-2,
            max_attempts=9,
            database_id=UUID(TENANT),
        )
    )
    assert isinstance(job, int)
    assert not await jobs.exists(job)
    await transaction.commit()

    row = await jobs.row(job)
    assert row["task_identifier"] == "process_invoice"
    assert json.loads(row["payload"]) == {"id": 7, "from": "ada", "due": "2040-01-31T09:00:00.123456+01:00"}
    assert (row["run_at"], row["key"], row["queue_name"]) == (LATER, "invoice-7", "invoices")
    assert (row["priority"], row["max_attempts"], str(row["database_id"])) == (-2, 9, TENANT)


async def test_job_depends_on_jobs(transaction: OpenTransaction, jobs: Jobs) -> None:
    connection = transaction.connection
    first = await maybe_await(process_invoice.enqueue(connection, Invoice(id=1)))
    second = await maybe_await(
        enqueue(connection, "report", {}, depends_on=[first], database_id=TENANT, entity_id=ACTOR, run_at=LATER)
    )
    third = await maybe_await(enqueue(connection, "report", {}, depends_on=[first, second], ignore_failures=True))
    await transaction.commit()
    assert await jobs.values(second, "database_id", "entity_id") == (UUID(TENANT), UUID(ACTOR))
    rows = await jobs.connection.fetch("select * from app_jobs.job_dependencies order by job_id, dependency_id")
    assert [(row["job_id"], row["dependency_id"], row["ignores_failure"]) for row in rows] == [
        (second, first, False),
        (third, first, True),
        (third, second, True),
    ]
    assert rows[0]["run_at"] == LATER


@pytest.mark.parametrize("depends_on", ["12", 12, [1, "2"], [None]])
async def test_invalid_dependencies_are_refused(
    connection: "asyncpg.Connection[Any]", jobs: Jobs, depends_on: Any
) -> None:
    with pytest.raises(EnqueueError) as raised:
        await enqueue(connection, "report", {}, depends_on=depends_on)
    assert str(raised.value) == f"depends_on={depends_on!r} must be a list of jobs or their ids"


async def test_unset_fields_are_not_stored(jobs: Jobs) -> None:
    """As by a trigger. A field that tells the type of the payload is stored."""
    connection = jobs.connection
    ids = [
        await fetch_invoice.enqueue(connection, RowId(id="8")),
        await enqueue(connection, "fetch_invoice", RowId(id="8")),
        *await fetch_invoice.enqueue_many(connection, [RowId(id=8)]),
        await call.enqueue(connection, Cat()),
        await call.enqueue(connection, Dog()),
        await feed.enqueue(connection, Cat(name="Tom")),
    ]
    assert [(await jobs.row(job))["payload"] for job in ids] == [
        '{"id":"8"}',
        '{"id":"8"}',
        '{"id":8}',
        "{}",
        '{"kind":"dog","name":"Rex"}',
        '{"kind":"cat","name":"Tom"}',
    ]


async def test_rollback_removes_the_jobs(transaction: OpenTransaction, jobs: Jobs) -> None:
    await maybe_await(process_invoice.enqueue(transaction.connection, Invoice(id=1)))
    await maybe_await(process_invoice.enqueue_many(transaction.connection, [Invoice(id=2), Invoice(id=3)]))
    await transaction.rollback()
    assert await jobs.count() == 0


async def test_default_options(transaction: OpenTransaction, jobs: Jobs) -> None:
    connection = transaction.connection
    ids = [
        await maybe_await(process_invoice.enqueue(connection, Invoice(id=1))),
        await maybe_await(enqueue(connection, "elsewhere", {"ids": [1, "é\n"], "at": LATER, "text": "NaN, Infinity"})),
        await maybe_await(tidy_up.enqueue(connection, None)),
    ]
    assert await maybe_await(process_invoice.enqueue_many(connection, [])) == []
    await transaction.commit()

    rows = [await jobs.row(job) for job in ids]
    assert [row["max_attempts"] for row in rows] == [3, 25, 25]
    assert json.loads(rows[1]["payload"]) == {
        "ids": [1, "é\n"],
        "at": "2040-01-31T09:00:00.123456+01:00",
        "text": "NaN, Infinity",
    }
    assert rows[2]["payload"] == "{}"
    for row in rows:
        assert (row["key"], row["queue_name"], row["priority"], row["database_id"]) == (None, None, 0, None)
        assert abs(row["run_at"] - row["created_at"]) < timedelta(seconds=1)


async def test_enqueue_many_keeps_the_order_and_options_of_the_payloads(
    transaction: OpenTransaction, jobs: Jobs
) -> None:
    ids = await maybe_await(
        process_invoice.enqueue_many(
            transaction.connection,
            [Invoice(id=number) for number in (1, 2, 3)],
            key=lambda invoice: f"invoice-{invoice.id}" if invoice.id != 3 else None,
            queue=lambda invoice: "odd" if invoice.id % 2 else None,
            run_at=lambda invoice: LATER + timedelta(days=invoice.id),
            priority=4,
            database_id=TENANT,
        )
    )
    await transaction.commit()

    assert ids == sorted(ids)
    rows = [await jobs.row(job) for job in ids]
    assert [json.loads(row["payload"])["id"] for row in rows] == [1, 2, 3]
    assert [row["key"] for row in rows] == ["invoice-1", "invoice-2", None]
    assert [row["queue_name"] for row in rows] == ["odd", None, "odd"]
    assert [row["run_at"].day for row in rows] == [1, 2, 3]
    assert {(row["priority"], row["max_attempts"], str(row["database_id"])) for row in rows} == {(4, 3, TENANT)}


async def test_second_job_with_a_key_replaces_the_first(transaction: OpenTransaction, jobs: Jobs) -> None:
    first = await maybe_await(enqueue(transaction.connection, "x", {"n": 0}, key="b"))
    ids = await maybe_await(
        enqueue_many(
            transaction.connection,
            "x",
            [{"n": 1, "key": "a"}, {"n": 2, "key": "b"}, {"n": 3, "key": None}, {"n": 4, "key": "a"}],
            key=lambda payload: payload["key"],
            run_at=LATER,
        )
    )
    await transaction.commit()

    assert (ids[1], ids[0], len(set(ids))) == (first, ids[3], 3)
    assert [json.loads((await jobs.row(job))["payload"])["n"] for job in ids] == [4, 2, 3, 4]
    assert await jobs.count() == 3


async def test_error_of_a_missing_schema_quotes_its_name_and_names_the_command(transaction: OpenTransaction) -> None:
    schema = 'a:b %s "s" %(b)s:c \\0025%(b)s $1'
    with pytest.raises(SchemaError) as raised:
        await maybe_await(enqueue_many(transaction.connection, "x", [{}], schema=schema))
    assert f"no schema {schema}: run `jobfn db migrate`" in str(raised.value)


async def test_missing_privilege_error_names_the_command(
    database: str, connection: "asyncpg.Connection[Any]", connect_to: ConnectTo
) -> None:
    await connection.execute("create role nobody_here; grant usage on schema app_jobs to nobody_here")
    restricted = await connect_to(database)
    await restricted.execute("set role nobody_here")
    try:
        with pytest.raises(SchemaError, match="--grant-enqueue ROLE"):
            await enqueue(restricted, "x")
        with pytest.raises(SchemaError, match="--grant-enqueue ROLE"):
            await enqueue_many(restricted, "x", [{}])
        job = await enqueue(connection, "x")
        with pytest.raises(SchemaError, match="--grant-result ROLE"):
            await job.result(timeout=1, connection=restricted)
    finally:
        await restricted.execute("reset role")
        await connection.execute("drop owned by nobody_here; drop role nobody_here")


async def test_enqueue_grant_allows_enqueue_many(
    database: str, connection: "asyncpg.Connection[Any]", connect_to: ConnectTo
) -> None:
    await connection.execute("create role sender")
    try:
        await migrate(connection, "app_jobs", grants=Grants(enqueue=("sender",)))
        sender = await connect_to(database)
        await sender.execute("set role sender")
        assert len(await enqueue_many(sender, "x", [{}, {}])) == 2
    finally:
        await connection.execute("drop owned by sender; drop role sender")


async def test_platform_schema_supports_single_jobs_with_a_tenant(empty_database: str, connect_to: ConnectTo) -> None:
    connection = await connect_to(empty_database)
    await connection.execute(PLATFORM_SCHEMA)
    job = await enqueue(connection, "x", {"a": 1}, database_id=TENANT)
    with pytest.raises(SchemaError, match="requires a tenant"):
        await enqueue(connection, "x")
    with pytest.raises(SchemaError, match="enqueue the jobs one by one"):
        await enqueue_many(connection, "x", [{}], database_id=TENANT)
    with pytest.raises(SchemaError, match="stores no results"):
        await job.result(timeout=1)


async def test_tenant_and_actor_default_to_those_of_the_session(
    connection: "asyncpg.Connection[Any]", jobs: Jobs
) -> None:
    await connection.execute(f"set jwt.claims.database_id = '{TENANT}'; set jwt.claims.user_id = '{ACTOR}'")
    ids = [await enqueue(connection, "x"), *await enqueue_many(connection, "x", [{}])]
    ids += await enqueue_many(connection, "x", [{"key": "k"}], key=lambda payload: payload["key"])
    for job in ids:
        row = await jobs.row(job)
        assert (str(row["database_id"]), str(row["actor_id"])) == (TENANT, ACTOR)


async def test_enqueue_many_takes_the_key_from_a_running_job(connection: "asyncpg.Connection[Any]", jobs: Jobs) -> None:
    old = await enqueue(connection, "x", key="k")
    assert await jobs.claim() is not None
    (new,) = await enqueue_many(connection, "x", [{}], key=lambda _payload: "k")
    running, waiting = await jobs.row(old), await jobs.row(new)
    assert new != old
    assert (running["key"], running["max_attempts"], waiting["key"]) == (None, 1, "k")


async def test_enqueue_many_notifies_once(
    database: str, connection: "asyncpg.Connection[Any]", connect_to: ConnectTo
) -> None:
    listener = await connect_to(database)
    channels: asyncio.Queue[str] = asyncio.Queue()
    for channel in ("jobs:insert", "end"):
        await listener.add_listener(channel, lambda _c, _pid, channel, _payload: channels.put_nowait(channel))
    await enqueue_many(connection, "x", [{"key": "a"}, {"key": None}, {"key": "b"}], key=lambda each: each["key"])
    await connection.execute('notify "end"')
    async with asyncio.timeout(10):
        assert [await channels.get(), await channels.get()] == ["jobs:insert", "end"]


async def test_enqueue_many_adds_thousands_of_jobs(connection: "asyncpg.Connection[Any]", jobs: Jobs) -> None:
    """Half of them have keys: a second call replaces these and adds the others again."""
    payloads = [{"n": number} for number in range(5000)]

    def key(payload: dict[str, int]) -> str | None:
        return f"k{payload['n']}" if payload["n"] % 2 else None

    first = await enqueue_many(connection, "x", payloads, key=key)
    second = await enqueue_many(connection, "x", payloads, key=key)
    assert first == sorted(set(first))
    assert first[1::2] == second[1::2]
    assert await jobs.count() == 7500


async def test_add_jobs_rejects_columns_of_different_lengths(connection: "asyncpg.Connection[Any]") -> None:
    with pytest.raises(asyncpg.ArraySubscriptError, match="one element for each payload"):
        await connection.fetchval("select app_jobs.add_jobs('x', array['{}']::json[], array['a', 'b'])")


async def test_pool_adds_the_job_in_its_own_transaction(database: str, jobs: Jobs) -> None:
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool:
        job = await process_invoice.enqueue(pool, Invoice(id=1))
    assert await jobs.exists(job)


async def test_other_errors_are_the_drivers(
    transaction: OpenTransaction, connection: "asyncpg.Connection[Any]"
) -> None:
    await connection.execute("""
        create function public.refuse() returns trigger language plpgsql as
            $$ begin raise exception 'no jobs today'; end $$;
        create trigger refuse before insert on app_jobs.jobs for each row execute function public.refuse()
    """)
    with pytest.raises(Exception, match="no jobs today") as raised:
        await maybe_await(enqueue(transaction.connection, "x"))
    assert not isinstance(raised.value, SchemaError | EnqueueError)
