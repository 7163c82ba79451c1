"""What all tests share: a real PostgreSQL, and for each test a fresh database, cloned from a migrated template.

The server is embedded, or the one of ``DATABASE_URL``. ``JOBFN_TEST_POSTGRES`` chooses the embedded major (16, 18).
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from jobfn.database.migrate import migrate
from jobfn.devserver.postgres import EmbeddedPostgres
from support.jobs import Jobs

pytest_plugins = ["support.processes"]

#: Durability is what these databases do not need: each lives for one test.
UNSAFE_AND_FAST = ("alter system set fsync = off", "alter system set full_page_writes = off", "select pg_reload_conf()")


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server that tests may create databases on."""

    admin_dsn: str

    def dsn(self, database: str) -> str:
        parts = urlsplit(self.admin_dsn)
        # put together here, since urlunsplit drops the empty host of postgresql:///name?host=/socket
        return f"{parts.scheme}://{parts.netloc}/{database}" + (f"?{parts.query}" if parts.query else "")

    def execute(self, *statements: str) -> None:
        async def run() -> None:
            connection = await asyncpg.connect(self.admin_dsn)
            try:
                for statement in statements:
                    await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(run())

    def create(self, template: str | None = None) -> str:
        name = f"jobfn_{uuid.uuid4().hex[:16]}"
        # file_copy is the quicker strategy for a small template; older servers know no other
        self.execute(f"create database {name}" + (f" template {template}" if template else ""))
        return name

    def drop(self, name: str) -> None:
        self.execute(f"drop database if exists {name} with (force)")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    given = os.environ.get("DATABASE_URL")
    if given:
        yield Server(given)
        return
    major = os.environ.get("JOBFN_TEST_POSTGRES")
    embedded = EmbeddedPostgres(major=int(major) if major else None)
    embedded.start()
    try:
        found = Server(embedded.dsn())
        found.execute(*UNSAFE_AND_FAST)
        yield found
    finally:
        embedded.stop()


@pytest.fixture(scope="session")
def template(server: Server) -> Iterator[str]:
    name = server.create()

    async def prepare() -> None:
        connection = await asyncpg.connect(server.dsn(name))
        try:
            await migrate(connection, "app_jobs")
        finally:
            await connection.close()

    asyncio.run(prepare())
    yield name
    server.drop(name)


@pytest.fixture
def database(server: Server, template: str) -> Iterator[str]:
    """The DSN of a fresh database with an up-to-date ``app_jobs``."""
    name = server.create(template)
    yield server.dsn(name)
    server.drop(name)


@pytest.fixture
def empty_database(server: Server) -> Iterator[str]:
    """The DSN of a fresh database without any schema of ours."""
    name = server.create()
    yield server.dsn(name)
    server.drop(name)


@pytest.fixture
async def connection(database: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """A connection to ``database``."""
    opened = await asyncpg.connect(database)
    yield opened
    await opened.close()


@pytest.fixture
def jobs(connection: "asyncpg.Connection[Any]") -> Jobs:
    """The jobs of ``database``."""
    return Jobs(connection)
