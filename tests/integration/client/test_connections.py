"""Connections that a job cannot be added or awaited on."""

import contextlib
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from django.db.backends.sqlite3.base import DatabaseWrapper
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from jobfn import EnqueueError, enqueue


@pytest.mark.parametrize("kind", ["connection", "session", "django"])
def test_connection_to_another_database_is_rejected(kind: str, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        connection: Any
        if kind == "django":
            options: dict[str, Any] = {
                "OPTIONS": {},
                "TIME_ZONE": None,
                "AUTOCOMMIT": True,
                "CONN_MAX_AGE": 0,
                "CONN_HEALTH_CHECKS": False,
            }
            # a file, because Django does not close a database in memory
            connection = DatabaseWrapper({"NAME": tmp_path / "a.sqlite3", **options}, "default")
        else:
            engine = create_engine("sqlite://")
            stack.callback(engine.dispose)
            connection = engine.connect() if kind == "connection" else Session(engine)
        stack.callback(connection.close)
        with pytest.raises(EnqueueError, match="must be to PostgreSQL, where jobs are stored, not sqlite"):
            enqueue(connection, "x")


def test_session_without_an_engine_raises_its_own_error() -> None:
    with pytest.raises(Exception, match="Could not locate a bind"):
        enqueue(Session(), "x")


async def test_waiting_on_the_other_kind_of_connection_is_rejected(
    database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    with psycopg.connect(database) as sync_connection:
        job = await enqueue(connection, "x")
        with pytest.raises(EnqueueError, match=r"connection \(psycopg\) must be async"):
            await job.result(timeout=0, connection=sync_connection)
        sync_job = enqueue(sync_connection, "x")
        sync_connection.commit()
        with pytest.raises(EnqueueError, match=r"connection \(asyncpg\) must be sync"):
            sync_job.result(timeout=0, connection=connection)
