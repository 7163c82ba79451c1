"""Notices when something stands still that nobody broke: on a busy machine, processes are not run for a while.

A lease that is lost so is nobody's fault, and has to be told from one that is lost for no reason.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import asyncpg

from chaos.cluster import Member
from chaos.exchange import BROKEN, LOOPBACK, Message, ask
from chaos.faults import POSTGRES
from chaos.ledger import Ledger
from jobfn.database.connection import CONNECTION_LOST

#: Without an answer for longer than this, it is a stall. A worker renews its leases every 0.7 seconds, for 2 seconds.
STALL_SECONDS = 0.5
_EVERY_SECONDS = 0.2
_HEALTH = Message("GET /healthz HTTP/1.1", (("Host", LOOPBACK),), b"")


@contextlib.asynccontextmanager
async def watched(ledger: Ledger, members: Sequence[Member], dsn: str, *, lease_seconds: float) -> AsyncIterator[None]:
    """Feel the pulse of this process, of the members and of the database, while the block runs."""
    beats: dict[str, Callable[[], Awaitable[object]]] = {
        "this process": functools.partial(asyncio.sleep, 0),
        POSTGRES: functools.partial(_commit, dsn),
    }
    beats |= {member.name: functools.partial(ask, member.port, _HEALTH) for member in members}
    feeling = [asyncio.create_task(_feel(name, beat, ledger, lease_seconds)) for name, beat in beats.items()]
    try:
        yield
    finally:
        for task in feeling:
            task.cancel()


async def _feel(name: str, beat: Callable[[], Awaitable[object]], ledger: Ledger, lease_seconds: float) -> None:
    while True:
        began_at = ledger.now()
        await asyncio.sleep(_EVERY_SECONDS)
        with contextlib.suppress(*BROKEN, *CONNECTION_LOST):  # it is dead, or dies: that is not standing still
            await beat()
            seconds = ledger.now() - began_at - _EVERY_SECONDS
            if seconds > STALL_SECONDS:
                ledger.stalled(name, since=began_at, lease_seconds=lease_seconds)


async def _commit(dsn: str) -> None:
    """Whatever a commit costs."""
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        await connection.execute("select pg_current_xact_id()")
    finally:
        connection.terminate()
