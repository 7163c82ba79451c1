"""Connections through PgBouncer."""

import contextlib
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from jobfn.client.enqueue import enqueue
from jobfn.database.connection import connect, open_pool, shares_sessions
from jobfn.database.migrate import migrate
from jobfn.errors import ConfigurationError
from support.jobs import Jobs
from support.pgbouncer import PoolMode, pgbouncer

MODES = [("session", 0), ("transaction", 0), ("transaction", 200)]


@pytest.mark.parametrize(("mode", "max_prepared_statements"), MODES)
async def test_statements_work_in_each_mode(
    mode: PoolMode, max_prepared_statements: int, database: str, tmp_path: Path
) -> None:
    """Other clients prepare statements of the same names in the same sessions."""
    async with (
        pgbouncer(tmp_path, database, mode=mode, max_prepared_statements=max_prepared_statements) as pooler,
        open_pool(pooler.dsn, application_name="jobfn-test", size=2) as first,
        open_pool(pooler.dsn, application_name="jobfn-test", size=2) as second,
    ):
        for number in range(20):
            for pool in (first, second):
                assert await pool.fetchval(f"select {number % 5} + $1::int", number) == number % 5 + number
        connection = await connect(pooler.dsn, application_name="jobfn-test")
        assert await shares_sessions(connection, pooler.dsn) is (mode == "transaction")
        assert [await connection.fetchval("select $1::int", number) for number in range(3)] == [0, 1, 2]
        await connection.close()


async def test_no_pooler_is_found_in_front_of_a_database_without_one(database: str) -> None:
    connection = await connect(database, application_name="jobfn-test")
    assert not await shares_sessions(connection, "postgresql://127.0.0.1:9/never-used")
    await connection.close()


async def test_statement_mode_is_refused(database: str, tmp_path: Path) -> None:
    async with pgbouncer(tmp_path, database, mode="statement") as pooler:
        with pytest.raises(ConfigurationError, match="is in statement mode, which allows no transactions: set"):
            await connect(pooler.dsn, application_name="jobfn-test")
        with pytest.raises(ConfigurationError, match="is in statement mode, which allows no transactions: set"):
            async with open_pool(pooler.dsn, application_name="jobfn-test", size=1):
                pass


async def test_migrations_leave_no_lock_in_a_shared_session(empty_database: str, tmp_path: Path) -> None:
    async with pgbouncer(tmp_path, empty_database) as pooler:
        connection = await connect(pooler.dsn, application_name="jobfn-test")
        assert len(await migrate(connection, "app_jobs")) >= 18
        assert await migrate(connection, "app_jobs") == ()
        locks = """
            select count(*) from pg_locks l join pg_database d on d.oid = l.database
            where l.locktype = 'advisory' and d.datname = current_database()
        """
        assert await connection.fetchval(locks) == 0
        await connection.close()


async def test_result_of_a_job_does_not_wait_for_notifications_that_cannot_arrive(
    database: str, connection: "asyncpg.Connection[Any]", tmp_path: Path
) -> None:
    async with pgbouncer(tmp_path, database) as pooler:
        client = await asyncpg.connect(pooler.dsn)
        job = await enqueue(client, "x")
        waiting = job.result(timeout=10)
        jobs = Jobs(connection)
        await connection.execute(
            "update app_jobs.jobs set attempts = max_attempts, last_error = 'boom' where id = $1", int(job)
        )
        result = await waiting
        assert (result.outcome, result.error) == ("failed", "boom")
        assert await jobs.connection.fetchval("select count(*) from pg_listening_channels()") == 0
        await client.close()


async def test_jobs_are_added_by_every_driver(database: str, jobs: Jobs, tmp_path: Path) -> None:
    """Without prepared statements of the pooler, the clients turn theirs off."""
    import psycopg  # noqa: PLC0415  - an optional driver
    import sqlalchemy  # noqa: PLC0415
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

    async with pgbouncer(tmp_path, database, max_prepared_statements=0) as pooler, contextlib.AsyncExitStack() as stack:
        async with asyncpg.create_pool(pooler.dsn, min_size=1, statement_cache_size=0) as pool:
            await enqueue(pool, "asyncpg", {"n": 1}, key="a")
        with psycopg.connect(pooler.dsn, prepare_threshold=None) as psycopg_connection:
            enqueue(psycopg_connection, "psycopg", {"n": 2}, key="b")
        url = sqlalchemy.make_url(pooler.dsn.partition("?")[0])
        engine = sqlalchemy.create_engine(
            url.set(drivername="postgresql+psycopg"), connect_args={"prepare_threshold": None}
        )
        with engine.begin() as sync_connection:
            enqueue(sync_connection, "sqlalchemy", {"n": 3}, key="c")
        engine.dispose()
        async_engine = create_async_engine(
            url.set(drivername="postgresql+asyncpg"),
            connect_args={"statement_cache_size": 0, "prepared_statement_cache_size": 0, "ssl": False},
        )
        stack.push_async_callback(async_engine.dispose)
        async with async_engine.begin() as async_connection:
            await enqueue(async_connection, "sqlalchemy async", {"n": 4}, key="d")
    rows = await jobs.connection.fetch("select task_identifier from app_jobs.jobs order by id")
    assert [row[0] for row in rows] == ["asyncpg", "psycopg", "sqlalchemy", "sqlalchemy async"]
