"""Jobs enqueued with an expiry, on every kind of connection."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from jobfn import EnqueueError, enqueue, enqueue_many, task
from jobfn.database.enqueue import enqueue as add_by_command
from jobfn.database.records import NewJob
from jobfn.errors import SchemaError
from support.client import OpenTransaction, maybe_await
from support.fixtures import ConnectTo
from support.jobs import PLATFORM_SCHEMA, TENANT, Jobs

LATER = datetime(2040, 1, 31, 9, 0, tzinfo=UTC)


@task("send_code")
def send_code(payload: dict[str, Any]) -> None: ...


async def test_job_has_the_expiry_and_later_ones_have_none(transaction: OpenTransaction, jobs: Jobs) -> None:
    connection = transaction.connection
    first = await maybe_await(send_code.enqueue(connection, {}, expires_at=LATER, database_id=TENANT))
    relative = await maybe_await(enqueue(connection, "send_code", {}, expires_in=timedelta(minutes=5)))
    many = await maybe_await(enqueue_many(connection, "send_code", [{}, {}], expires_at=LATER))
    unique = await maybe_await(enqueue(connection, "other", {}, unique="until_done", expires_at=LATER))
    without = await maybe_await(enqueue(connection, "send_code", {}))
    await transaction.commit()
    assert await jobs.values(first, "expires_at", "task_identifier") == (LATER, "send_code")
    assert [await jobs.values(job, "expires_at") for job in (*many, unique)] == [(LATER,)] * 3
    assert await jobs.values(without, "expires_at") == (None,)
    seconds = await jobs.connection.fetchval(
        "select extract(epoch from expires_at - created_at)::float8 from app_jobs.jobs where id = $1", relative
    )
    assert 300 <= seconds < 360  # created_at is the time when the transaction began


async def test_replacing_job_brings_its_expiry(connection: "asyncpg.Connection[Any]", jobs: Jobs) -> None:
    first = await enqueue(connection, "x", {}, key="k", expires_at=LATER)
    assert await enqueue(connection, "x", {}, key="k", expires_at=LATER + timedelta(days=1)) == first
    assert await jobs.values(first, "expires_at") == (LATER + timedelta(days=1),)
    assert await enqueue(connection, "x", {}, key="k") == first
    assert await jobs.values(first, "expires_at") == (None,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"expires_at": datetime(2040, 1, 1)}, "must be a datetime with a time zone"),  # noqa: DTZ001  - that is the error
        ({"expires_at": "tomorrow"}, "expires_at='tomorrow' must be a datetime with a time zone"),
        ({"expires_in": 60}, "expires_in=60 must be a timedelta above 0"),
        ({"expires_in": timedelta(0)}, "must be a timedelta above 0"),
        ({"expires_at": LATER, "expires_in": timedelta(1)}, "expires_at and expires_in exclude each other"),
    ],
)
async def test_invalid_expiry_is_refused(
    connection: "asyncpg.Connection[Any]", jobs: Jobs, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(EnqueueError, match=message):
        await enqueue(connection, "x", {}, **options)
    assert await jobs.count() == 0


async def test_platform_schema_has_no_expiry(empty_database: str, connect_to: ConnectTo) -> None:
    connection = await connect_to(empty_database)
    await connection.execute(PLATFORM_SCHEMA)
    job = NewJob("x", database_id=TENANT, expires_at=LATER)
    with pytest.raises(SchemaError, match="has no expiry of jobs"):
        await add_by_command(connection, "app_jobs", job)
    with pytest.raises(SchemaError, match="leave expires_at and expires_in out on the platform's schema"):
        await enqueue(connection, "x", {}, database_id=TENANT, expires_in=timedelta(hours=1))
