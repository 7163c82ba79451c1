"""Test databases: one server per test run, one template, one clone of it per test.

The functions block, so that sync and async tests can use them. Coroutines run in the event loop of another thread.
"""

import asyncio
import contextlib
import os
import threading
import uuid
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import asyncpg

from jobfn.client.validation import to_json
from jobfn.database.connection import translate_errors
from jobfn.database.migrate import migrate
from jobfn.devserver.postgres import EmbeddedPostgres
from jobfn.errors import DatabaseError, JobfnError
from jobfn.testing.clock import JobsClock

SCHEMA = "app_jobs"
#: Test databases need no durability.
_NO_DURABILITY = (
    "alter system set fsync = off",
    "alter system set full_page_writes = off",
    "alter system set synchronous_commit = off",
    "select pg_reload_conf()",
)
#: Between the test's time, which waits of jobs that are not locked have, and the real one.
_MOVE_WAITS = f"""
    update {SCHEMA}.job_steps s set wake_at = s.wake_at + $1::interval
    from {SCHEMA}.jobs j
    where j.id = s.job_id and j.locked_at is null and s.state = 'waiting'
"""  # noqa: S608  - a constant

T = TypeVar("T")


class LoopThread:
    """A thread with an event loop, for blocking code that awaits something."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="jobfn-tests", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the thread and return its result."""
        return self.submit(coroutine).result()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run a coroutine in the thread without waiting for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """Stop the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class JobsDatabase:
    """The database of one test.

    Attributes:
        dsn: Its address.
        schema: Its jobs schema.
        clock: The clock of its jobs and schedules.
    """

    schema = SCHEMA

    def __init__(self, dsn: str, loop: LoopThread) -> None:
        self.dsn = dsn
        self.clock = JobsClock()
        self._loop = loop

    async def connect(self) -> "asyncpg.Connection[Any]":
        """Open a connection for an async test, which has to close it."""
        return await asyncpg.connect(self.dsn)

    def execute(self, sql: str) -> None:
        """Run statements and commit."""

        async def run() -> None:
            async with self._connection() as connection:
                await connection.execute(sql)

        self._loop.run(run())

    def fetch(self, sql: str, *arguments: Any) -> list[dict[str, Any]]:
        """Return the rows of a query."""

        async def run() -> list[dict[str, Any]]:
            async with self._connection() as connection:
                return [dict(row) for row in await connection.fetch(sql, *arguments)]

        return self._loop.run(run())

    def signal(self, job: int | str, event: str, payload: Any = None) -> bool:
        """Send a signal to a durable job, by the test's clock: a wait whose deadline is past does not get it.

        Args:
            job: The job's id or key.
            event: The name of the signal.
            payload: JSON types or a model.

        Returns:
            Whether the job exists and has not ended.
        """
        offset = self.clock.offset()
        type_name, value = ("text", job) if isinstance(job, str) else ("bigint", int(job))

        async def run() -> bool:
            async with self._connection() as connection, connection.transaction():
                await connection.execute(_MOVE_WAITS, -offset)
                is_sent = await connection.fetchval(
                    f"select {SCHEMA}.signal($1::{type_name}, $2, $3::json)",
                    value,
                    event,
                    None if payload is None else to_json(payload),
                )
                await connection.execute(_MOVE_WAITS, offset)
                return bool(is_sent)

        return self._loop.run(run())

    @contextlib.asynccontextmanager
    async def _connection(self) -> Any:
        connection = await asyncpg.connect(self.dsn)
        try:
            yield connection
        finally:
            await connection.close()


class JobsServer:
    """The server of a test run, with the template of its databases."""

    def __init__(self, admin_dsn: str, loop: LoopThread) -> None:
        self.admin_dsn = admin_dsn
        self._loop = loop
        self.template = ""
        self._admin: Any = None
        self._spare: Future[str] | None = None

    @classmethod
    @contextlib.contextmanager
    def start(cls, *, setup: str | Path | None = None) -> Iterator[Self]:
        """Start an embedded server, or use ``JOBFN_TEST_DATABASE_URL``, and create the template with this SQL.

        Raises:
            ConfigurationError: The embedded PostgreSQL is not installed.
            DatabaseError: PostgreSQL rejected the setup, or cannot be reached.
        """
        dsn = os.environ.get("JOBFN_TEST_DATABASE_URL")
        embedded = None if dsn else EmbeddedPostgres(in_memory=True)
        loop = LoopThread()
        try:
            if embedded is not None:
                embedded.start()
                dsn = embedded.dsn()
            server = cls(dsn or "", loop)
            sql = setup.read_text("utf-8") if isinstance(setup, Path) else setup
            try:
                loop.run(server._prepare(sql, is_embedded=embedded is not None))
                yield server
            finally:
                loop.run(server._drop_all())
        finally:
            loop.close()
            if embedded is not None:
                embedded.stop()

    @contextlib.contextmanager
    def database(self) -> Iterator[JobsDatabase]:
        """Create a database, which is dropped after the block."""
        name = (self._spare or self._loop.submit(self._create(self.template))).result()
        self._spare = self._loop.submit(self._create(self.template))  # for the next test, while this one runs
        try:
            yield JobsDatabase(self.dsn(name), self._loop)
        finally:
            self._loop.submit(self._drop(name))  # in the background, while the next test runs

    async def _prepare(self, setup: str | None, *, is_embedded: bool) -> None:
        try:
            with translate_errors(self.admin_dsn):
                self._admin = await asyncpg.create_pool(self.admin_dsn, min_size=1, max_size=2)
        except JobfnError as error:
            error.add_note("JOBFN_TEST_DATABASE_URL names this server; without it, tests use an embedded PostgreSQL")
            raise
        if is_embedded:
            for statement in _NO_DURABILITY:
                await self._admin.execute(statement)
        self.template = await self._create(None)
        connection = await asyncpg.connect(self.dsn(self.template))
        try:
            await migrate(connection, SCHEMA)
            if setup is not None:
                await connection.execute(setup)
        except asyncpg.PostgresError as error:
            raise DatabaseError(f"PostgreSQL rejected the SQL of the fixture jobs_db_setup: {error}") from error
        finally:
            await connection.close()

    async def _create(self, template: str | None) -> str:
        name = f"jobfn_test_{uuid.uuid4().hex[:16]}"
        await self._admin.execute(f"create database {name}" + (f" template {template}" if template else ""))
        return name

    async def _drop(self, name: str) -> None:
        await self._admin.execute(f"drop database if exists {name} with (force)")

    async def _drop_all(self) -> None:
        if self._spare is not None:
            await self._drop(await asyncio.wrap_future(self._spare))
        if self.template:
            await self._drop(self.template)
        if self._admin is not None:
            await self._admin.close()

    def dsn(self, database: str) -> str:
        """Return the address of a database of this server."""
        return replace_database(self.admin_dsn, database)


def replace_database(dsn: str, database: str) -> str:
    """Return the address of another database of the same server."""
    parts = urlsplit(dsn)
    # urlunsplit would drop the empty host of postgresql:///name?host=/socket
    return f"{parts.scheme}://{parts.netloc}/{database}" + (f"?{parts.query}" if parts.query else "")
