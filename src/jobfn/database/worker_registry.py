"""The list of running processes in the table ``workers``, kept up to date by heartbeats.

``jobfn.operations`` reads it.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import asyncpg

from jobfn.database.statements import query


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A process of ``jobfn service``.

    Attributes:
        worker_id: Its worker id.
        host: Its host name.
        pid: Its process id.
        version: The version of jobfn.
        roles: Its service roles.
        concurrency: Maximum number of concurrent requests to functions.
        tasks: The tasks that it claims; None: all.
        queues: The queues that it claims from, ``""`` for the jobs without one; None: all.
        max_in_flight_bytes: Maximum size of the large payloads of its jobs in flight.
    """

    worker_id: str
    host: str
    pid: int
    version: str
    roles: Sequence[str]
    concurrency: int
    tasks: Sequence[str] | None = None
    queues: Sequence[str] | None = None
    max_in_flight_bytes: int | None = None


class WorkerRegistry:
    """The processes that are registered in jobfn's schema.

    Args:
        pool: Connections.
        schema: The jobs schema.
    """

    def __init__(self, pool: asyncpg.Pool, schema: str) -> None:
        self._pool = pool
        self._query = functools.partial(query, schema=schema)

    async def heartbeat(self, process: WorkerProcess, *, in_flight: int, interval_seconds: float) -> None:
        """Record that a process is alive; register it if it is new.

        Args:
            process: The process.
            in_flight: Number of its jobs in flight.
            interval_seconds: Interval until its next heartbeat.
        """
        await self._pool.execute(
            self._query("heartbeat_worker"),
            process.worker_id,
            process.host,
            process.pid,
            process.version,
            list(process.roles),
            process.concurrency,
            in_flight,
            timedelta(seconds=interval_seconds),
            process.tasks,
            process.queues,
            process.max_in_flight_bytes,
        )

    async def deregister(self, process: WorkerProcess) -> None:
        """Remove a process from the list."""
        await self._pool.execute(self._query("deregister_worker"), process.worker_id, process.host, process.pid)
