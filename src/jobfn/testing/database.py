"""Databases for tests: one server a run, one template, one clone of it for each test.

Everything here is ordinary, blocking code, so that it can be used from sync and async tests alike: what must be awaited
runs in a thread with a loop of its own.
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

from jobfn.database.connection import translate_errors
from jobfn.database.migrate import migrate
from jobfn.devserver.postgres import EmbeddedPostgres
from jobfn.errors import DatabaseError, JobfnError
from jobfn.testing.clock import JobsClock

SCHEMA = "app_jobs"
#: Durability is what these databases do not need: each lives for one test.
_NO_DURABILITY = (
    "alter system set fsync = off",
    "alter system set full_page_writes = off",
    "alter system set synchronous_commit = off",
    "select pg_reload_conf()",
)

T = TypeVar("T")


class LoopThread:
    """A thread with an event loop, for ordinary code that must await something."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="jobfn-tests", daemon=True)
        self._thread.start()

    def run(self, awaited: Coroutine[Any, Any, T]) -> T:
        """Await it there, and wait for it here."""
        return self.start(awaited).result()

    def start(self, awaited: Coroutine[Any, Any, T]) -> "Future[T]":
        """Begin to await it there."""
        return asyncio.run_coroutine_threadsafe(awaited, self._loop)

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class JobsDatabase:
    """One test's database.

    Attributes:
        dsn: Its address.
        schema: The jobs schema in it.
        clock: What time it is for its jobs and schedules.
    """

    schema = SCHEMA

    def __init__(self, dsn: str, loop: LoopThread) -> None:
        self.dsn = dsn
        self.clock = JobsClock()
        self._loop = loop

    async def connect(self) -> "asyncpg.Connection[Any]":
        """A connection of your own, for an async test; close it."""
        return await asyncpg.connect(self.dsn)

    def execute(self, sql: str) -> None:
        """Run statements, committed when it returns."""

        async def work() -> None:
            async with self._connected() as connection:
                await connection.execute(sql)

        self._loop.run(work())

    def fetch(self, sql: str, *arguments: Any) -> list[dict[str, Any]]:
        """The rows of a query, of what is committed."""

        async def work() -> list[dict[str, Any]]:
            async with self._connected() as connection:
                return [dict(row) for row in await connection.fetch(sql, *arguments)]

        return self._loop.run(work())

    @contextlib.asynccontextmanager
    async def _connected(self) -> Any:
        connection = await asyncpg.connect(self.dsn)
        try:
            yield connection
        finally:
            await connection.close()


class JobsServer:
    """The server of a test run, and its template.

    Attributes:
        admin_dsn: The address of a database of its own, for making and dropping others.
        template: The database that those of tests are copies of.
    """

    def __init__(self, admin_dsn: str, loop: LoopThread) -> None:
        self.admin_dsn = admin_dsn
        self._loop = loop
        self.template = ""
        self._admin: Any = None
        self._spare: Future[str] | None = None

    @classmethod
    @contextlib.contextmanager
    def started(cls, *, setup: str | Path | None = None) -> Iterator[Self]:
        """Start it, or join the one of ``JOBFN_TEST_DATABASE_URL``; make the template.

        Args:
            setup: SQL, or a file of it, for what the databases hold beside the jobs schema.

        Raises:
            ConfigurationError: There is neither; says what to install.
            DatabaseError: The setup's SQL was refused, or the server cannot be reached.
        """
        given = os.environ.get("JOBFN_TEST_DATABASE_URL")
        embedded = None if given else EmbeddedPostgres()
        loop = LoopThread()
        try:
            if embedded is not None:
                embedded.start()
            server = cls(given or (embedded.dsn() if embedded is not None else ""), loop)
            sql = setup.read_text("utf-8") if isinstance(setup, Path) else setup
            loop.run(server._prepare(sql, is_ours=embedded is not None))
            try:
                yield server
            finally:
                loop.run(server._clear())
        finally:
            loop.close()
            if embedded is not None:
                embedded.stop()

    @contextlib.contextmanager
    def database(self) -> Iterator[JobsDatabase]:
        """A database of its own, gone after the block."""
        name = (self._spare or self._loop.start(self._create(self.template))).result()
        self._spare = self._loop.start(self._create(self.template))  # while this test runs, for the next one
        try:
            yield JobsDatabase(self.dsn(name), self._loop)
        finally:
            # not waited for: the next test need not
            self._loop.start(self._drop(name))

    async def _prepare(self, setup: str | None, *, is_ours: bool) -> None:
        try:
            with translate_errors(self.admin_dsn):
                self._admin = await asyncpg.create_pool(self.admin_dsn, min_size=1, max_size=2)
        except JobfnError as error:
            error.add_note("JOBFN_TEST_DATABASE_URL names it; without that, an embedded PostgreSQL is started")
            raise
        if is_ours:
            for statement in _NO_DURABILITY:
                await self._admin.execute(statement)
        self.template = await self._create(None)
        connection = await asyncpg.connect(self.dsn(self.template))
        try:
            await migrate(connection, SCHEMA)
            if setup is not None:
                await connection.execute(setup)
        except asyncpg.PostgresError as error:
            raise DatabaseError(f"the SQL of the fixture jobs_db_setup was refused: {error}") from error
        finally:
            await connection.close()

    async def _create(self, template: str | None) -> str:
        name = f"jobfn_test_{uuid.uuid4().hex[:16]}"
        await self._admin.execute(f"create database {name}" + (f" template {template}" if template else ""))
        return name

    async def _drop(self, name: str) -> None:
        await self._admin.execute(f"drop database if exists {name} with (force)")

    async def _clear(self) -> None:
        if self._spare is not None:
            await self._drop(await asyncio.wrap_future(self._spare))
        await self._drop(self.template)
        await self._admin.close()

    def dsn(self, database: str) -> str:
        """The address of one of its databases."""
        parts = urlsplit(self.admin_dsn)
        # put together here, since urlunsplit drops the empty host of postgresql:///name?host=/socket
        return f"{parts.scheme}://{parts.netloc}/{database}" + (f"?{parts.query}" if parts.query else "")
