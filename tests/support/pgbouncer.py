"""PgBouncer in front of a test's PostgreSQL."""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import pytest

from support.network import LOOPBACK, free_port

PoolMode = Literal["session", "transaction", "statement"]


@dataclass
class PgBouncer:
    """A running PgBouncer.

    Attributes:
        dsn: Address of the database behind it.
        process: Its process.
    """

    dsn: str
    process: asyncio.subprocess.Process

    async def stop(self) -> None:
        """End the process at once, which closes all connections."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGQUIT)  # SIGTERM waits for its clients
        await self.process.wait()


async def start_pgbouncer(
    folder: Path, dsn: str, *, mode: PoolMode = "transaction", max_prepared_statements: int = 200, port: int = 0
) -> PgBouncer:
    """Start PgBouncer in front of a database, and wait until it accepts connections."""
    program = shutil.which(os.environ.get("PGBOUNCER", "pgbouncer"), path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        (pytest.fail if "PGBOUNCER" in os.environ else pytest.skip)(  # CI sets it
            "PgBouncer is not installed: apt-get install pgbouncer, or set PGBOUNCER"
        )
    port = port or free_port()
    url = urlsplit(dsn)
    host = url.hostname or parse_qs(url.query)["host"][0]
    config = folder / f"pgbouncer-{port}.ini"
    password = f" password={url.password}" if url.password else ""
    config.write_text(
        f"""
        [databases]
        * = host={host} port={url.port or 5432} user={url.username or "postgres"}{password}
        [pgbouncer]
        listen_addr = {LOOPBACK}
        listen_port = {port}
        unix_socket_dir =
        auth_type = any
        pool_mode = {mode}
        max_prepared_statements = {max_prepared_statements}
        default_pool_size = 10
        """.replace(" " * 8, "")
    )
    as_user = _as_user(host) if os.geteuid() == 0 else []
    process = await asyncio.create_subprocess_exec(
        program, "-q", *as_user, str(config), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(LOOPBACK, port)
                writer.close()
                break
            assert process.returncode is None, f"pgbouncer ended with {process.returncode}"
            await asyncio.sleep(0.02)
    name = url.path.lstrip("/") or "postgres"
    return PgBouncer(f"postgresql://{url.username or 'postgres'}@{LOOPBACK}:{port}/{name}?sslmode=disable", process)


def _as_user(host: str) -> list[str]:
    """Return the options for root, as whom PgBouncer does not run. The embedded server's socket is its owner's only."""
    return ["-u", Path(host).owner() if host.startswith("/") else "nobody"]


@contextlib.asynccontextmanager
async def pgbouncer(
    folder: Path, dsn: str, *, mode: PoolMode = "transaction", max_prepared_statements: int = 200
) -> AsyncIterator[PgBouncer]:
    """Run PgBouncer while the block runs."""
    running = await start_pgbouncer(folder, dsn, mode=mode, max_prepared_statements=max_prepared_statements)
    try:
        yield running
    finally:
        await running.stop()
