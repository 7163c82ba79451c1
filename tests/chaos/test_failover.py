"""The primary vanishes without a word, and its standby is promoted: by addresses with two hosts, and behind HAProxy.

With synchronous replication no job may be lost or stuck, or run twice. With asynchronous replication, the new primary
may lack the last commits of the old one: jobs whose addition or settlement was not replicated are lost or run again.
"""

import asyncio
import contextlib
import shutil
import time
from pathlib import Path

import pytest

from chaos.cluster import run_primary, run_standby
from chaos.haproxy import run_haproxy
from chaos.namespace import MISSING, Namespace
from chaos.silence import (
    DATABASE_PORT,
    HAPROXY,
    HAPROXY_PORT,
    STANDBY,
    STANDBY_PORT,
    WORKER_TO_DATABASE,
    Installation,
    Timing,
    measure,
    run_installation,
)
from chaos.table import check

MISSING_HERE = MISSING or (None if shutil.which("haproxy") else "needs haproxy")
pytestmark = pytest.mark.skipif(MISSING_HERE is not None, reason=f"failover: {MISSING_HERE}")

PRIMARY = f"{WORKER_TO_DATABASE}:{DATABASE_PORT}"
#: Time between the end of the primary and the promotion of its standby.
PROMOTION_DELAY_SECONDS = 2.0
NOT_REPLICATED = "the commit was not replicated"


@pytest.mark.parametrize(
    ("replication", "route"),
    [
        ("synchronous", "two hosts"),
        pytest.param("synchronous", "HAProxy", marks=pytest.mark.long),
        pytest.param("asynchronous", "two hosts", marks=pytest.mark.long),
        pytest.param("asynchronous", "HAProxy", marks=pytest.mark.long),
    ],
)
async def test_primary_that_vanishes(
    namespace: Namespace, data: Path, timing: Timing, replication: str, route: str, tmp_path: Path
) -> None:
    is_synchronous = replication == "synchronous"
    standby_host = f"{STANDBY}:{STANDBY_PORT}"
    hosts = f"{PRIMARY},{standby_host}" if route == "two hosts" else f"{HAPROXY}:{HAPROXY_PORT}"
    async with contextlib.AsyncExitStack() as stack:
        primary = await stack.enter_async_context(run_primary(namespace, data, port=DATABASE_PORT))
        standby = await stack.enter_async_context(
            run_standby(
                namespace,
                primary,
                primary_address=WORKER_TO_DATABASE,
                port=STANDBY_PORT,
                synchronous=is_synchronous,
            )
        )
        if route == "HAProxy":
            await stack.enter_async_context(
                run_haproxy(
                    namespace, tmp_path, address=HAPROXY, port=HAPROXY_PORT, primary=PRIMARY, standby=standby_host
                )
            )

        async def fail_over(installation: Installation) -> float:
            installation.server = standby
            await namespace.drop(WORKER_TO_DATABASE)
            await asyncio.sleep(PROMOTION_DELAY_SECONDS)
            promoting = await standby.connect()
            assert await promoting.fetchval("select pg_promote()")
            await promoting.close()
            return time.monotonic()

        async with run_installation(namespace, primary, tmp_path, timing, hosts=hosts) as installation:
            result = await measure(installation, f"failover, {replication}, {route}", fail_over)
        assert "Traceback" not in installation.log_of("worker")
        because = None if is_synchronous else NOT_REPLICATED
        check(result, timing, lost_because=because, doubled_because=because)
