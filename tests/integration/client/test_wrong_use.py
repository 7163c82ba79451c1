"""What cannot be meant is refused before anything is sent, and the refusal says what to give instead."""

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from django.db.backends.sqlite3.base import DatabaseWrapper
from pydantic import BaseModel
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from jobfn import EnqueueError, enqueue, enqueue_many, task
from support.client import User, settled
from support.jobs import Jobs


class Invoice(BaseModel):
    """A payload, which pydantic lets iterate over its fields."""

    id: int = 1


@task("process_invoice")
async def process_invoice(payload: Invoice) -> None:
    """Never run."""


async def _numbers() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
async def test_a_number_that_json_does_not_have(number: float, user: User, jobs: Jobs) -> None:
    """On every connection alike, and before PostgreSQL says it in its own words, which would end the transaction."""
    with pytest.raises(EnqueueError, match="NaN or an infinity, which JSON has no number for"):
        enqueue(user.connection, "x", {"amounts": [1.0, number]})
    job = await settled(enqueue(user.connection, "x", {"text": "NaN, Infinity"}))
    await settled(user.commit())
    row = await jobs.row(int(job))
    assert row is not None
    assert row["payload"] == '{"text":"NaN, Infinity"}'


@pytest.mark.parametrize(
    ("payloads", "kind"),
    [("abc", "str"), (b"abc", "bytes"), ({"id": 1}, "dict"), (Invoice(), "Invoice"), (5, "int"), (_numbers(), "async")],
)
def test_many_payloads_are_a_list(payloads: Any, kind: str) -> None:
    """One payload that can be iterated over is not taken for many; what cannot be is told so."""
    for add in (enqueue_many, lambda connection, _, given: process_invoice.enqueue_many(connection, given)):
        with pytest.raises(EnqueueError, match=f"the payloads, a {kind}.*: give a list of payloads, one for each job"):
            add(object(), "x", payloads)  # type: ignore[call-overload]


def test_one_key_for_many_jobs_is_refused() -> None:
    """Only the last of them would be left."""
    with pytest.raises(EnqueueError, match="only the last is kept; give a function of the payload"):
        enqueue_many(object(), "x", [{}, {}], key="invoice")  # type: ignore[call-overload]


@pytest.mark.parametrize("tenant", ["acme", 5, b"5b720132-17d5-424d-9bcb-ee7b17c13d43", object()])
def test_a_tenant_is_a_uuid(tenant: Any) -> None:
    """Whatever else is given is refused here, not by PostgreSQL."""
    with pytest.raises(EnqueueError, match="database_id is no UUID, such as"):
        enqueue(object(), "x", database_id=tenant)  # type: ignore[call-overload]


def test_a_long_value_is_shown_shortened() -> None:
    """The first characters say which it was."""
    with pytest.raises(EnqueueError, match=r"^key='k{99}…: give a text of 1 to 512 characters"):
        enqueue(object(), "x", key="k" * 10_000)  # type: ignore[call-overload]


@pytest.mark.parametrize("kind", ["engine", "async engine", "sessionmaker", "cursor", "class", "unawaited"])
def test_what_gives_connections_is_none(kind: str, database: str) -> None:
    """Engines, factories, cursors and a connection that nobody has awaited are told what would be one."""
    match kind:
        case "unawaited":
            given: Any = psycopg.AsyncConnection.connect(database)
            told = r"connect\(...\) was not awaited: await it"
        case _:
            given = {
                "engine": create_engine("postgresql+psycopg://"),
                "async engine": create_async_engine("postgresql+asyncpg://"),
                "sessionmaker": sessionmaker(),
                "cursor": psycopg.ClientCursor,
                "class": asyncpg.Connection,
            }[kind]
            told = "is no connection that jobs can be added on: give an asyncpg connection or pool, a psycopg 3"
    with pytest.raises(EnqueueError, match=told):
        enqueue(given, "x")
    if kind == "unawaited":
        given.close()


@pytest.mark.parametrize("kind", ["connection", "session", "django"])
def test_another_database_is_named(kind: str, tmp_path: Path) -> None:
    """A layer that speaks to several databases says which one this is, instead of that one's syntax error."""
    if kind == "django":
        options: dict[str, Any] = {
            "OPTIONS": {},
            "TIME_ZONE": None,
            "AUTOCOMMIT": True,
            "CONN_MAX_AGE": 0,
            "CONN_HEALTH_CHECKS": False,
        }
        # in a file, since Django closes no database in memory
        given: Any = DatabaseWrapper({"NAME": tmp_path / "a.sqlite3", **options}, "default")
    else:
        engine = create_engine("sqlite://")
        given = engine.connect() if kind == "connection" else Session(engine)
    with pytest.raises(EnqueueError, match="this connection speaks to sqlite: jobs live in PostgreSQL"):
        enqueue(given, "x")
    given.close()
    if kind != "django":
        engine.dispose()


def test_a_session_without_an_engine_says_it_itself() -> None:
    """Its own error, as it cannot even be asked what it speaks to."""
    with pytest.raises(Exception, match="Could not locate a bind"):
        enqueue(Session(), "x")


@pytest.mark.parametrize("seconds", [-1, math.nan, "5", True])
async def test_a_wait_is_so_many_seconds(seconds: Any, user: User) -> None:
    """Never without end by mistake."""
    job = await settled(enqueue(user.connection, "x"))
    await settled(user.commit())
    with pytest.raises(ValueError, match="give seconds, 0 or more, or None for no limit"):
        await settled(job.result(timeout=seconds))


async def test_a_wait_on_the_other_kind_of_connection(database: str, connection: "asyncpg.Connection[Any]") -> None:
    """An async job cannot wait on a sync connection, nor the other way round."""
    with psycopg.connect(database) as sync_connection:
        job = await enqueue(connection, "x")
        with pytest.raises(EnqueueError, match="psycopg cannot wait here: give an async connection"):
            await job.result(timeout=0, on=sync_connection)
        sync_job = enqueue(sync_connection, "x")
        sync_connection.commit()
        with pytest.raises(EnqueueError, match="asyncpg cannot wait here: give a sync connection"):
            sync_job.result(timeout=0, on=connection)
