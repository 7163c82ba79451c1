"""The packets between two parts are dropped without a word, for a while or, with a replacement, forever.

No job may be lost or stuck. A job that runs twice needs a cause: its first delivery was cut off.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chaos.cluster import PostgresServer, run_primary
from chaos.namespace import MISSING, Namespace
from chaos.silence import (
    CALLBACKS,
    CALLBACKS_TO_DATABASE,
    DATABASE_PORT,
    ENQUEUER_TO_DATABASE,
    FUNCTION,
    FUNCTION_TO_DATABASE,
    INSERTING,
    WORKER_TO_DATABASE,
    Installation,
    Timing,
    measure,
    run_installation,
)
from chaos.table import check

pytestmark = pytest.mark.skipif(MISSING is not None, reason=f"network namespaces: {MISSING}")


@pytest.fixture
async def primary(namespace: Namespace, data: Path) -> AsyncIterator[PostgresServer]:
    async with run_primary(namespace, data, port=DATABASE_PORT) as server:
        yield server


class Silence:
    """A fault that drops the packets of an address for a while."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def __call__(self, installation: Installation) -> float:
        await installation.namespace.drop(self._address)
        await asyncio.sleep(installation.timing.fault_seconds)
        await installation.namespace.heal()
        return time.monotonic()


async def replace_function(installation: Installation) -> float:
    """Let the function's machine vanish, and start another one at its address."""
    await installation.namespace.drop_connections(FUNCTION)
    await installation.restart("function")
    return time.monotonic()


async def test_worker_and_database(
    namespace: Namespace, primary: PostgresServer, timing: Timing, tmp_path: Path
) -> None:
    hosts = f"{CALLBACKS_TO_DATABASE}:{DATABASE_PORT}"
    async with run_installation(namespace, primary, tmp_path, timing, callback_hosts=hosts) as installation:
        result = await measure(installation, "worker - PostgreSQL", Silence(WORKER_TO_DATABASE))
    assert "Traceback" not in installation.log_of("worker")
    check(result, timing)


@pytest.mark.long
async def test_callback_server_and_database(
    namespace: Namespace, primary: PostgresServer, timing: Timing, tmp_path: Path
) -> None:
    hosts = f"{CALLBACKS_TO_DATABASE}:{DATABASE_PORT}"
    async with run_installation(
        namespace, primary, tmp_path, timing, callback_hosts=hosts, JOBS_SETTLE_ON="report"
    ) as installation:
        result = await measure(installation, "callback server - PostgreSQL", Silence(CALLBACKS_TO_DATABASE))
    assert "Traceback" not in installation.log_of("callbacks")
    check(result, timing)


async def test_worker_and_function(
    namespace: Namespace, primary: PostgresServer, timing: Timing, tmp_path: Path
) -> None:
    """The machine held the only slot: it is free in time, and the job that it ran is repeated."""
    async with run_installation(namespace, primary, tmp_path, timing, JOBS_CONCURRENCY="1") as installation:
        result = await measure(installation, "worker - function, replaced", replace_function)
    check(result, timing, doubled_because="its response was cut off")


async def test_function_and_callback_server(
    namespace: Namespace, primary: PostgresServer, timing: Timing, tmp_path: Path
) -> None:
    async with run_installation(namespace, primary, tmp_path, timing, JOBS_SETTLE_ON="report") as installation:
        result = await measure(installation, "function - callback server", Silence(CALLBACKS))
    check(result, timing)


async def test_function_and_database(
    namespace: Namespace, primary: PostgresServer, timing: Timing, tmp_path: Path
) -> None:
    """The function's own connections are silent: attempts fail and are retried, and each insert is committed once."""
    admin = await primary.connect()
    await admin.execute("create table effects (number int)")
    async with run_installation(namespace, primary, tmp_path, timing, function=INSERTING) as installation:
        result = await measure(installation, "function - PostgreSQL", Silence(FUNCTION_TO_DATABASE))
    inserted = Counter([row["number"] for row in await admin.fetch("select number from effects")])
    failed = await admin.fetchval("select count(*) from app_jobs.job_runs where outcome = 'failed'")
    await admin.close()
    check(result, timing)
    assert inserted == dict.fromkeys(installation.committed, 1)
    assert failed > 0


@pytest.mark.long
async def test_enqueuer_and_database(
    namespace: Namespace, primary: PostgresServer, timing: Timing, tmp_path: Path
) -> None:
    address = f"{ENQUEUER_TO_DATABASE}:{DATABASE_PORT}"
    async with run_installation(namespace, primary, tmp_path, timing) as installation:
        result = await measure(
            installation, "enqueuer - PostgreSQL", Silence(ENQUEUER_TO_DATABASE), enqueuer_address=address
        )
    check(result, timing)
