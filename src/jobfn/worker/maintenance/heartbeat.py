"""Register the process in the list of workers, and keep it there with heartbeats."""

import asyncio
from collections.abc import Callable

from jobfn.database.worker_registry import WorkerProcess, WorkerRegistry
from jobfn.worker.maintenance.periodic import STATEMENT_TIMEOUT_SECONDS, FailureLogger

#: Interval between heartbeats. A process that misses three counts as dead.
HEARTBEAT_INTERVAL_SECONDS = 10.0


class WorkerHeartbeat:
    """Records that a process is alive, and how many requests it has in flight."""

    def __init__(
        self,
        registry: WorkerRegistry,
        process: WorkerProcess,
        *,
        in_flight: Callable[[], int],
        interval_seconds: float = HEARTBEAT_INTERVAL_SECONDS,
    ) -> None:
        self._registry = registry
        self._process = process
        self._in_flight = in_flight
        self._interval_seconds = interval_seconds
        self._failures = FailureLogger("worker heartbeat failed")

    async def start(self) -> None:
        """Send the first heartbeat, before the worker needs the connections."""
        await self._failures.run(self._send)

    async def run(self, stop: asyncio.Event) -> None:
        """Send heartbeats until ``stop`` is set, then deregister the process."""
        await self._failures.repeat(self._send, stop, interval_seconds=self._interval_seconds)
        await self._failures.run(self._deregister)

    async def _send(self) -> None:
        async with asyncio.timeout(STATEMENT_TIMEOUT_SECONDS):
            await self._registry.heartbeat(
                self._process, in_flight=self._in_flight(), interval_seconds=self._interval_seconds
            )

    async def _deregister(self) -> None:
        await asyncio.wait_for(self._registry.deregister(self._process), STATEMENT_TIMEOUT_SECONDS)
