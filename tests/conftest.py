"""A PostgreSQL server, and a new database for each test, cloned from a migrated template.

The server is embedded, or the one of ``DATABASE_URL``. ``JOBFN_TEST_POSTGRES`` chooses the embedded version (16, 18).
"""

import asyncio
import contextlib
import os
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future

import asyncpg
import hypothesis
import pytest

from jobfn.database.migrate import migrate
from jobfn.devserver.postgres import EmbeddedPostgres
from jobfn.testing.database import JobsServer, LoopThread, replace_database
from support.jobs import Jobs

pytest_plugins = ["support.in_loop", "support.mcp_server", "support.processes"]

# An example may take any time: the machine may be busy with something else.
hypothesis.settings.register_profile("no-deadline", deadline=None)
hypothesis.settings.load_profile("no-deadline")

# A shell starts background commands with Ctrl-C ignored, and child processes would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: Tests need no durability: each database lives for one test.
NO_DURABILITY = ("alter system set fsync = off", "alter system set full_page_writes = off", "select pg_reload_conf()")


class Server:
    """A PostgreSQL server on which tests create databases.

    The next database is created, and used ones are dropped, while a test runs.
    """

    def __init__(self, admin_dsn: str) -> None:
        self.admin_dsn = admin_dsn
        self._loop = LoopThread()
        self._admin: asyncpg.Pool = self._loop.run(self._connect())
        version: str = self._loop.run(self._admin.fetchval("show server_version_num"))
        # half the CPU of writing each block to the log, the default since PostgreSQL 15
        self._strategy = " strategy file_copy" if int(version) >= 15_00_00 else ""
        self._spares: dict[str | None, Future[str]] = {}

    async def _connect(self) -> asyncpg.Pool:
        return await asyncpg.create_pool(self.admin_dsn, min_size=1, max_size=2)

    def dsn(self, database: str) -> str:
        """Return the DSN of one of its databases."""
        return replace_database(self.admin_dsn, database)

    def execute(self, *statements: str) -> None:
        """Run statements one by one."""
        for statement in statements:
            self._loop.run(self._admin.execute(statement))

    def create(self, template: str | None = None) -> str:
        """Create a database, empty or as a clone of the template, and return its name."""
        name = (self._spares.pop(template, None) or self._loop.submit(self._create(template))).result()
        self._spares[template] = self._loop.submit(self._create(template))
        return name

    async def _create(self, template: str | None) -> str:
        name = f"jobfn_{uuid.uuid4().hex[:16]}"
        source = f" template {template}" if template else ""
        await self._admin.execute(f"create database {name}{source}{self._strategy}")
        return name

    def drop(self, name: str) -> "Future[str]":
        """Start to drop a database."""
        return self._loop.submit(self._admin.execute(f"drop database if exists {name} with (force)"))

    def close(self) -> None:
        """Drop the spare databases and disconnect."""
        for drop in [self.drop(spare.result()) for spare in self._spares.values()]:
            drop.result()
        self._loop.run(self._admin.close())
        self._loop.close()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Start the embedded server, or use the one of ``DATABASE_URL``."""
    with contextlib.ExitStack() as stack:
        dsn = os.environ.get("DATABASE_URL")
        embedded = None
        if not dsn:
            major = os.environ.get("JOBFN_TEST_POSTGRES")
            embedded = EmbeddedPostgres(major=int(major) if major else None, in_memory=True)
            embedded.start()
            stack.callback(embedded.stop)
            dsn = embedded.dsn()
        server = Server(dsn)
        stack.callback(server.close)
        if embedded is not None:
            server.execute(*NO_DURABILITY)
        yield server


@pytest.fixture(scope="session")
def jobs_server(server: Server) -> Iterator[JobsServer]:
    """Let the plugin's fixtures use this server instead of one of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JOBFN_TEST_DATABASE_URL", server.admin_dsn)
        stack = contextlib.ExitStack()
        jobs_server = stack.enter_context(JobsServer.start())
    with stack:
        yield jobs_server


@pytest.fixture(scope="session")
def template(server: Server) -> Iterator[str]:
    """Return the name of a database with an up-to-date ``app_jobs``."""
    name = server.create()

    async def prepare() -> None:
        connection = await asyncpg.connect(server.dsn(name))
        try:
            await migrate(connection, "app_jobs")
        finally:
            await connection.close()

    asyncio.run(prepare())
    yield name
    server.drop(name).result()


@pytest.fixture
def database(server: Server, template: str) -> Iterator[str]:
    """The DSN of a new database with an up-to-date ``app_jobs``."""
    name = server.create(template)
    yield server.dsn(name)
    server.drop(name)


@pytest.fixture
def empty_database(server: Server) -> Iterator[str]:
    """The DSN of a new, empty database."""
    name = server.create()
    yield server.dsn(name)
    server.drop(name)


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to ``database``."""
    opened = await asyncpg.connect(database)
    yield opened
    await opened.close()


@pytest.fixture
def jobs(connection: asyncpg.Connection) -> Jobs:
    """The jobs of ``database``."""
    return Jobs(connection)
