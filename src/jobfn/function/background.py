"""Jobs that outlive their request: accepted at once, reported when they end.

While such a job runs, its signs of life keep its lock: one every third of the lease, each with the progress that the
handler told last. Where the callback server says that the job is no longer ours (409), another delivery has begun,
and the handler is cancelled: it must not do the work a second time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from jobfn.errors import TransportError
from jobfn.function.context import JobContext
from jobfn.function.reporter import CONFLICT, HEARTBEATS_PER_LEASE, Reporter
from jobfn.telemetry import logs
from jobfn.wire import JobHeaders


class BackgroundRunner:
    """Runs accepted jobs.

    Args:
        reporter: Sends signs of life.
        limit: How many may run at once; further ones are refused until one has ended.
    """

    def __init__(self, reporter: Reporter, *, limit: int) -> None:
        self._reporter = reporter
        self._limit = limit
        self._running: set[asyncio.Task[None]] = set()

    @property
    def is_full(self) -> bool:
        """Whether no further job is accepted now."""
        return len(self._running) >= self._limit

    def start(self, work: Callable[[], Awaitable[Any]], context: JobContext, headers: JobHeaders) -> None:
        """Run ``work``, which ends with its own report, and keep the job's lock meanwhile."""
        running = asyncio.create_task(self._run(work, context, headers))
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def drain(self, *, seconds: float) -> None:
        """Wait for what runs, at most for so many seconds; then stop it, so that it is reported as stopped."""
        if not self._running:
            return
        _, left = await asyncio.wait(set(self._running), timeout=seconds)
        for running in left:
            running.cancel()
        if left:
            await asyncio.wait(left)

    async def _run(self, work: Callable[[], Awaitable[Any]], context: JobContext, headers: JobHeaders) -> None:
        working = asyncio.ensure_future(work())
        beating = asyncio.create_task(self._beat(context, headers, working))
        try:
            await asyncio.shield(working)
        except asyncio.CancelledError:  # the process stops: so does the handler, and reports that
            working.cancel()
            await asyncio.wait({working})
        finally:
            beating.cancel()

    async def _beat(self, context: JobContext, headers: JobHeaders, working: "asyncio.Future[Any]") -> None:
        if headers.heartbeat_url is None or headers.lease_seconds is None:
            return
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            # from the time when the last one was due: one that hung must not delay the next
            due = max(due + headers.lease_seconds / HEARTBEATS_PER_LEASE, clock())
            await asyncio.sleep(due - clock())
            try:
                status = await self._reporter.beat(headers, context.last_progress)
            except TransportError as error:
                context.log.warning("sign of life not heard", reason=str(error))
                continue
            if status == CONFLICT:
                logs.get_logger("jobfn.delivery").error(
                    "the job is no longer ours: stopping its handler", **context.ids()
                )
                context.lost = True
                working.cancel()
                return
