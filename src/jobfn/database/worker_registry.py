"""What a service writes down beside jobs: for how long their history is kept, and that it is at work.

The functions that end attempts write the history itself (``schema/0007_settle.sql`` and others). People read it through
``jobfn.operations``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg

from jobfn.database.statements import query


class History:
    """The retention of attempts.

    Args:
        pool: Connections.
        schema: The jobs schema, one of jobfn's.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]", schema: str) -> None:
        self._pool = pool
        self._set = query("set_history_retention", schema)
        self._sweep = query("prune_job_runs", schema)

    async def keep(self, days: float) -> None:
        """Keep attempts for so many days from now on; 0: write none down."""
        await self._pool.execute(self._set, days)

    async def sweep(self, *, limit: int) -> int:
        """Delete up to so many attempts that are kept no longer, the oldest first. Returns how many went."""
        swept: int = await self._pool.fetchval(self._sweep, limit)
        return swept


@dataclass(frozen=True, slots=True)
class Process:
    """A process of ``jobfn service``.

    Attributes:
        worker_id: Under which id it works.
        host: Where it runs.
        pid: Its process id.
        version: Of jobfn.
        parts: What it runs.
        concurrency: Requests to functions at a time.
    """

    worker_id: str
    host: str
    pid: int
    version: str
    parts: Sequence[str]
    concurrency: int


class Processes:
    """Who is at work.

    Args:
        pool: Connections.
        schema: The jobs schema, one of jobfn's.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]", schema: str) -> None:
        self._pool = pool
        self._note = query("heartbeat_worker", schema)
        self._forget = query("deregister_worker", schema)

    async def note(self, process: Process, *, in_flight: int, beat_seconds: float) -> None:
        """Say that this process is at work, with so many requests, and that it will say so again in so long."""
        await self._pool.execute(
            self._note,
            process.worker_id,
            process.host,
            process.pid,
            process.version,
            list(process.parts),
            process.concurrency,
            in_flight,
            timedelta(seconds=beat_seconds),
        )

    async def forget(self, process: Process) -> None:
        """Say that it has ended."""
        await self._pool.execute(self._forget, process.worker_id, process.host, process.pid)
