"""Jobs from one's own code, on every driver, in one's own transaction."""

import asyncio
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from pydantic import BaseModel, Field, field_validator

from jobfn import EnqueueError, InvalidPayload, JobContext, enqueue, enqueue_many, task
from jobfn.client.statements import schema_or_default
from jobfn.database.migrate import migrate
from jobfn.database.privileges import Grants
from jobfn.errors import SchemaError
from support.client import User, settled
from support.fixtures import ConnectTo
from support.jobs import TENANT, Jobs

PLATFORM = (Path(__file__).parents[1] / "database" / "platform.sql").read_text("utf-8")
ACTOR = "c2d29867-3d0b-d497-9191-18a9d8ee7830"
#: What is refused is refused before any connection is asked.
_NEVER_ASKED: Any = None
LATER = datetime(2040, 1, 31, 9, 0, 0, 123456, tzinfo=timezone(timedelta(hours=1)))


class Invoice(BaseModel):
    """A payload."""

    id: int
    due: datetime | None = None
    sender: str | None = Field(default=None, alias="from")


@task("process_invoice", max_attempts=3)
async def process_invoice(payload: Invoice, ctx: JobContext) -> dict[str, bool]:
    """A task to enqueue; never run here."""
    raise NotImplementedError


@task("tidy_up")
def tidy_up(payload: None) -> None:
    """A task without a payload."""


async def test_a_job_is_added_with_all_that_was_said(user: User, jobs: Jobs) -> None:
    """Every option arrives as given, and the id is the row's, once the transaction is committed and not before."""
    job = await settled(
        process_invoice.enqueue(
            user.connection,
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
    assert await jobs.row(job) is None
    await settled(user.commit())

    row = await jobs.row(job)
    assert row is not None
    assert row["task_identifier"] == "process_invoice"
    assert json.loads(row["payload"]) == {"id": 7, "from": "ada", "due": "2040-01-31T09:00:00.123456+01:00"}
    assert (row["run_at"], row["key"], row["queue_name"]) == (LATER, "invoice-7", "invoices")
    assert (row["priority"], row["max_attempts"], str(row["database_id"])) == (-2, 9, TENANT)


async def test_rolled_back_there_is_no_job(user: User, jobs: Jobs) -> None:
    """One job and many belong to the user's transaction: rolled back, none is there."""
    await settled(process_invoice.enqueue(user.connection, Invoice(id=1)))
    await settled(process_invoice.enqueue_many(user.connection, [Invoice(id=2), Invoice(id=3)]))
    await settled(user.rollback())
    assert await jobs.count() == 0


async def test_what_is_not_said_is_as_in_add_job(user: User, jobs: Jobs) -> None:
    """Defaults: now, no key, no queue, priority 0, the task's own attempts, no tenant; by name, 25 attempts."""
    mine = await settled(process_invoice.enqueue(user.connection, Invoice(id=1)))
    other = await settled(enqueue(user.connection, "elsewhere", {"ids": [1, "é\n"], "at": LATER}))
    none = await settled(tidy_up.enqueue(user.connection, None))
    await settled(user.commit())

    rows = [await jobs.row(job) for job in (mine, other, none)]
    assert [row is not None and row["max_attempts"] for row in rows] == [3, 25, 25]
    assert rows[1] is not None
    assert json.loads(rows[1]["payload"]) == {"ids": [1, "é\n"], "at": "2040-01-31T09:00:00.123456+01:00"}
    assert rows[2] is not None
    assert rows[2]["payload"] == "{}"
    for row in rows:
        assert row is not None
        assert (row["key"], row["queue_name"], row["priority"], row["database_id"]) == (None, None, 0, None)
        assert abs(row["run_at"] - row["created_at"]) < timedelta(seconds=1)


async def test_many_jobs_are_one_statement_in_their_order(user: User, jobs: Jobs) -> None:
    """Ids come back in the order of the payloads, each job with its own key, queue and time."""
    invoices = [Invoice(id=number) for number in range(1, 6)]
    ids = await settled(
        process_invoice.enqueue_many(
            user.connection,
            invoices,
            key=lambda invoice: f"invoice-{invoice.id}" if invoice.id != 3 else None,
            queue=lambda invoice: "odd" if invoice.id % 2 else None,
            run_at=lambda invoice: LATER + timedelta(days=invoice.id),
            priority=4,
            database_id=TENANT,
        )
    )
    await settled(user.commit())

    assert ids == sorted(ids)
    for invoice, job in zip(invoices, ids, strict=True):
        row = await jobs.row(job)
        assert row is not None
        assert json.loads(row["payload"])["id"] == invoice.id
        assert row["key"] == (None if invoice.id == 3 else f"invoice-{invoice.id}")
        assert row["queue_name"] == ("odd" if invoice.id % 2 else None)
        assert row["run_at"] == LATER + timedelta(days=invoice.id)
        assert (row["priority"], row["max_attempts"], str(row["database_id"])) == (4, 3, TENANT)


async def test_a_key_that_comes_twice_is_one_job(user: User, jobs: Jobs) -> None:
    """As with add_job, the second replaces the first, in one call and in two; the id stays."""
    first = await settled(enqueue(user.connection, "x", {"n": 0}, key="b"))
    ids = await settled(
        enqueue_many(
            user.connection,
            "x",
            [{"n": 1, "key": "a"}, {"n": 2, "key": "b"}, {"n": 3, "key": None}, {"n": 4, "key": "a"}],
            key=lambda payload: payload["key"],
            run_at=LATER,
        )
    )
    await settled(user.commit())

    assert ids[1] == first
    assert ids[0] == ids[3]
    assert len(set(ids)) == 3
    found = {job: json.loads((await jobs.row(job) or {})["payload"])["n"] for job in ids}
    assert found == {ids[0]: 4, ids[1]: 2, ids[2]: 3}
    assert await jobs.count() == 3


async def test_a_missing_schema_is_told_with_what_to_do(user: User) -> None:
    """Another schema than there is: whatever the driver raises, the error says what to run."""
    with pytest.raises(SchemaError, match="no schema elsewhere: run `jobfn db migrate`"):
        await settled(enqueue(user.connection, "x", schema="elsewhere"))


@pytest.mark.parametrize("schema", ['we:ird %s "s"', "a%(b)s:c", "a\\0025%(b)s", "$1"])
async def test_schemas_of_any_name(user: User, schema: str) -> None:
    """The schema's name is quoted for every driver, whatever their placeholders look like."""
    with pytest.raises(SchemaError) as told:
        await settled(enqueue_many(user.connection, "x", [{}], schema=schema))
    assert schema in str(told.value)


async def test_a_role_without_the_right_is_told_the_command(
    database: str, connection: "asyncpg.Connection[Any]", connect_to: ConnectTo
) -> None:
    """No right to call add_job: the error names the command that grants it."""
    await connection.execute("create role nobody_here; grant usage on schema app_jobs to nobody_here")
    stranger = await connect_to(database)
    await stranger.execute("set role nobody_here")
    try:
        with pytest.raises(SchemaError, match="--grant-enqueue ROLE"):
            await enqueue(stranger, "x")
        with pytest.raises(SchemaError, match="grant-enqueue ROLE"):
            await enqueue_many(stranger, "x", [{}])
        job = await enqueue(connection, "x")
        with pytest.raises(SchemaError, match=r"app_jobs.job_result\(bigint\)"):
            await job.result(timeout=1, on=stranger)
    finally:
        await stranger.execute("reset role")
        await connection.execute("drop owned by nobody_here; drop role nobody_here")


async def test_a_role_that_may_enqueue_may_enqueue_many(
    database: str, connection: "asyncpg.Connection[Any]", connect_to: ConnectTo, jobs: Jobs
) -> None:
    """What --grant-enqueue gives is enough for one job and for many."""
    await connection.execute("create role sender")
    try:
        await migrate(connection, "app_jobs", grants=Grants(enqueue=("sender",)))
        sender = await connect_to(database)
        await sender.execute("set role sender")
        assert len(await enqueue_many(sender, "x", [{}, {}])) == 2
    finally:
        await connection.execute("drop owned by sender; drop role sender")


async def test_on_the_platforms_schema(empty_database: str, connect_to: ConnectTo) -> None:
    """One job with its tenant is added there too; many, and one without a tenant, are told what to do."""
    connection = await connect_to(empty_database)
    await connection.execute(PLATFORM)
    assert await enqueue(connection, "x", {"a": 1}, database_id=TENANT) > 0
    with pytest.raises(SchemaError, match="wants the tenant too"):
        await enqueue(connection, "x")
    with pytest.raises(SchemaError, match="enqueue one by one"):
        await enqueue_many(connection, "x", [{}], database_id=TENANT)
    with pytest.raises(SchemaError, match="keeps no results"):
        await (await enqueue(connection, "x", database_id=TENANT)).result(timeout=1)


async def test_tenant_and_actor_come_from_the_session(connection: "asyncpg.Connection[Any]", jobs: Jobs) -> None:
    """Where no tenant is given it is the session's, for one job and for many; so is the actor."""
    await connection.execute(f"set jwt.claims.database_id = '{TENANT}'; set jwt.claims.user_id = '{ACTOR}'")
    ids = [await enqueue(connection, "x"), *await enqueue_many(connection, "x", [{}])]
    ids += await enqueue_many(connection, "x", [{"key": "k"}], key=lambda payload: payload["key"])
    for job in ids:
        row = await jobs.row(job)
        assert row is not None
        assert (str(row["database_id"]), str(row["actor_id"])) == (TENANT, ACTOR)


async def test_a_running_jobs_key_goes_to_the_new_one(connection: "asyncpg.Connection[Any]", jobs: Jobs) -> None:
    """In bulk as one by one: the job that runs is left alone, without its key and without further attempts."""
    old = await enqueue(connection, "x", key="k")
    assert await jobs.claim() is not None
    (new,) = await enqueue_many(connection, "x", [{}], key=lambda _payload: "k")
    running, waiting = await jobs.row(old), await jobs.row(new)
    assert running is not None
    assert waiting is not None
    assert new != old
    assert (running["key"], running["max_attempts"], waiting["key"]) == (None, 1, "k")


async def test_many_jobs_notify_once(
    database: str, connection: "asyncpg.Connection[Any]", connect_to: ConnectTo
) -> None:
    """However many, the workers are woken once."""
    listener = await connect_to(database)
    heard: asyncio.Queue[str] = asyncio.Queue()
    for channel in ("jobs:insert", "end"):
        await listener.add_listener(channel, lambda _c, _pid, channel, _payload: heard.put_nowait(channel))
    await enqueue_many(connection, "x", [{"key": "a"}, {"key": None}, {"key": "b"}], key=lambda each: each["key"])
    await connection.execute('notify "end"')
    async with asyncio.timeout(10):
        assert [await heard.get(), await heard.get()] == ["jobs:insert", "end"]


async def test_thousands_of_jobs(connection: "asyncpg.Connection[Any]", jobs: Jobs) -> None:
    """Five thousand in one statement, half of them with keys, and again with the same keys: no more of them."""
    payloads = [{"n": number} for number in range(5000)]

    def key(payload: dict[str, int]) -> str | None:
        return f"k{payload['n']}" if payload["n"] % 2 else None

    first = await enqueue_many(connection, "x", payloads, key=key)
    second = await enqueue_many(connection, "x", payloads, key=key)
    assert first == sorted(set(first))
    assert first[1::2] == second[1::2]
    assert await jobs.count() == 7500


async def test_no_payloads_are_no_jobs(user: User) -> None:
    """An empty list adds nothing and is no error."""
    assert await settled(process_invoice.enqueue_many(user.connection, [])) == []


async def test_columns_of_another_length_are_refused(connection: "asyncpg.Connection[Any]") -> None:
    """In SQL, keys that do not match the payloads one to one are an error rather than guesswork."""
    with pytest.raises(asyncpg.ArraySubscriptError, match="one element for each payload"):
        await connection.fetchval("select app_jobs.add_jobs('x', array['{}']::json[], array['a', 'b'])")


async def test_a_pool_adds_in_a_transaction_of_its_own(database: str, jobs: Jobs) -> None:
    """On a pool there is no transaction to join: the job is there at once."""
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool:
        job = await process_invoice.enqueue(pool, Invoice(id=1))
    assert await jobs.row(job) is not None


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ({"id": "seven"}, r"does not fit process_invoice: id: .* No job was added"),
        ({}, "id: Field required"),
        (Invoice.model_construct(id="seven"), "id: Input should be a valid integer"),
        (None, "does not fit process_invoice"),
    ],
)
async def test_a_payload_that_does_not_fit_is_not_sent(payload: Any, told: str) -> None:
    """It is checked before anything is sent, as the function would check it, and told by the field."""
    with pytest.raises(InvalidPayload, match=told) as refused:
        process_invoice.enqueue(_NEVER_ASKED, payload)
    assert "seven" not in str(refused.value)


async def test_of_many_the_wrong_one_is_named(connection: "asyncpg.Connection[Any]", jobs: Jobs) -> None:
    """The error's note counts to the payload at fault, and none was added."""
    with pytest.raises(InvalidPayload) as refused:
        await process_invoice.enqueue_many(connection, [Invoice(id=1), {"id": "x"}])  # type: ignore[list-item]
    assert "payload 1 of 2" in refused.value.__notes__[-1]
    assert await jobs.count() == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"run_at": datetime(2040, 1, 1)}, "time zone"),  # noqa: DTZ001  - that is the mistake
        ({"run_at": "tomorrow"}, "time zone"),
        ({"key": ""}, "1 to 512"),
        ({"key": "x" * 513}, "1 to 512"),
        ({"key": "\0"}, "1 to 512"),
        ({"queue": "q" * 127}, "1 to 126"),
        ({"queue": 5}, "1 to 126"),
        ({"priority": 2**31}, "whole number"),
        ({"priority": 1.5}, "whole number"),
        ({"max_attempts": 0}, "from 1 to"),
        ({"database_id": "acme"}, "is no UUID"),
    ],
)
def test_an_option_that_cannot_be_is_refused_at_once(options: dict[str, Any], told: str) -> None:
    """Before anything is sent, and by name."""
    with pytest.raises(EnqueueError, match=told):
        enqueue(_NEVER_ASKED, "x", {}, **options)


def test_a_payload_that_json_cannot_hold() -> None:
    """It is told by its type."""
    with pytest.raises(EnqueueError, match="a object, cannot be written as JSON"):
        enqueue(_NEVER_ASKED, "x", object())


def test_a_validator_that_breaks() -> None:
    """An error of the model's own code is told by its kind, and nothing is sent."""

    class Broken(BaseModel):
        """Its validator raises what validators should not."""

        id: int

        @field_validator("id")
        @classmethod
        def _break(cls, _value: int) -> int:
            raise ZeroDivisionError

    @task("broken")
    def broken(payload: Broken) -> None:
        """Never run."""

    with pytest.raises(EnqueueError, match="raised ZeroDivisionError; no job was added"):
        broken.enqueue(_NEVER_ASKED, Broken.model_construct(id=2))


def test_what_is_no_connection() -> None:
    """It is told what would be one."""
    with pytest.raises(EnqueueError, match=r"builtins.str is no connection .* asyncpg"):
        enqueue("postgresql://localhost/shop", "x")  # type: ignore[call-overload]


def test_the_schema_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """JOBS_SCHEMA counts where no schema is given."""
    monkeypatch.setenv("JOBS_SCHEMA", "other")
    assert schema_or_default(None) == "other"
    assert schema_or_default("mine") == "mine"


async def test_other_errors_are_the_drivers_own(user: User, connection: "asyncpg.Connection[Any]") -> None:
    """What PostgreSQL says of anything else, such as somebody's own trigger, comes as the driver raises it."""
    await connection.execute("""
        create function public.refuse() returns trigger language plpgsql as
            $$ begin raise exception 'no jobs today'; end $$;
        create trigger refuse before insert on app_jobs.jobs for each row execute function public.refuse()
    """)
    with pytest.raises(Exception, match="no jobs today") as raised:
        await settled(enqueue(user.connection, "x"))
    assert not isinstance(raised.value, SchemaError | EnqueueError)
