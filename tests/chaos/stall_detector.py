"""Detect stalls that the run did not cause: on a busy machine, processes do not run for a while.

A lease that is lost during a stall is not an error of jobfn.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import asyncpg

from chaos.delivery_log import DeliveryLog
from chaos.faults import POSTGRES
from chaos.http_messages import DISCONNECTED, LOOPBACK, Message, send_request
from chaos.processes import ManagedProcess
from jobfn.database.connection import CONNECTION_ERRORS

#: Maximum response time of a probe. Workers renew their leases of 2 seconds every 0.7 seconds.
STALL_THRESHOLD_SECONDS = 0.5
PROBE_INTERVAL_SECONDS = 0.2
_HEALTH_REQUEST = Message("GET /healthz HTTP/1.1", (("Host", LOOPBACK),), b"")

Probe = Callable[[], Awaitable[object]]


@contextlib.asynccontextmanager
async def detect_stalls(
    log: DeliveryLog, processes: Sequence[ManagedProcess], dsn: str, *, lease_seconds: float
) -> AsyncIterator[None]:
    """Probe this process, the other processes and the database while the block runs."""
    probes: dict[str, Probe] = {
        "this process": functools.partial(asyncio.sleep, 0),
        POSTGRES: functools.partial(_commit, dsn),
    }
    probes |= {process.name: functools.partial(send_request, process.port, _HEALTH_REQUEST) for process in processes}
    tasks = [asyncio.create_task(_probe(name, probe, log, lease_seconds)) for name, probe in probes.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


async def _probe(name: str, probe: Probe, log: DeliveryLog, lease_seconds: float) -> None:
    while True:
        started_at = log.now()
        await asyncio.sleep(PROBE_INTERVAL_SECONDS)
        with contextlib.suppress(*DISCONNECTED, *CONNECTION_ERRORS):  # A killed process is not stalled.
            await probe()
            if log.now() - started_at - PROBE_INTERVAL_SECONDS > STALL_THRESHOLD_SECONDS:
                log.on_stalled(name, since=started_at, lease_seconds=lease_seconds)


async def _commit(dsn: str) -> None:
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        await connection.execute("select pg_current_xact_id()")
    finally:
        connection.terminate()
