"""Run ``background=True`` jobs: accepted at once, reported when they end.

While such a job runs, heartbeats keep its lease: one every third of the lease, each with the latest progress. If the
callback server answers 409, the job was cancelled, or another delivery of it has begun: the handler is cancelled, so
that the work is not done twice.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from jobfn.errors import TransportError
from jobfn.function.cancellation import cancel_handler
from jobfn.function.context import JobContext
from jobfn.function.reporter import HEARTBEATS_PER_LEASE, Reporter
from jobfn.telemetry import logs
from jobfn.wire import JobHeaders
from jobfn.wire.names import CONFLICT_STATUS


class BackgroundRunner:
    """Runs accepted jobs."""

    def __init__(self, reporter: Reporter, *, max_jobs: int, cancel_grace_seconds: float) -> None:
        self._reporter = reporter
        self._cancel_grace_seconds = cancel_grace_seconds
        self._max_jobs = max_jobs
        self._jobs: set[asyncio.Task[None]] = set()
        self._asked: dict[tuple[str | None, int | None, int | None], asyncio.Event] = {}

    @property
    def is_full(self) -> bool:
        """Whether ``max_jobs`` are running."""
        return len(self._jobs) >= self._max_jobs

    def start(self, run_job: Callable[[], Awaitable[Any]], context: JobContext, headers: JobHeaders) -> None:
        """Run a job, which sends its own report, and keep its lease meanwhile."""
        job = asyncio.create_task(self._run(run_job, context, headers))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    def ask(self, headers: JobHeaders) -> bool:
        """Send the next heartbeat of a job now: its answer says whether it was cancelled.

        Returns:
            Whether the job runs here.
        """
        asked = self._asked.get(_key(headers))
        if asked is not None:
            asked.set()
        return asked is not None

    async def drain(self, *, timeout_seconds: float) -> None:
        """Wait for the running jobs; cancel those that exceed the timeout, so that they are reported as stopped."""
        if not self._jobs:
            return
        _, unfinished = await asyncio.wait(set(self._jobs), timeout=timeout_seconds)
        for job in unfinished:
            job.cancel()
        if unfinished:
            await asyncio.wait(unfinished)

    async def _run(self, run_job: Callable[[], Awaitable[Any]], context: JobContext, headers: JobHeaders) -> None:
        job = asyncio.ensure_future(run_job())
        heartbeats = asyncio.create_task(self._send_heartbeats(context, headers, job))
        try:
            await asyncio.shield(job)
        except asyncio.CancelledError:  # shutdown: cancel the handler and let it report that
            job.cancel()
            await asyncio.wait({job})
        finally:
            heartbeats.cancel()

    async def _send_heartbeats(self, context: JobContext, headers: JobHeaders, job: "asyncio.Future[Any]") -> None:
        if headers.heartbeat_url is None or headers.lease_seconds is None:
            return
        asked = self._asked[_key(headers)] = asyncio.Event()
        try:
            await self._send_heartbeats_until_cancelled(context, headers, job, asked)
        finally:
            if self._asked.get(_key(headers)) is asked:
                del self._asked[_key(headers)]

    async def _send_heartbeats_until_cancelled(
        self, context: JobContext, headers: JobHeaders, job: "asyncio.Future[Any]", asked: asyncio.Event
    ) -> None:
        clock = asyncio.get_running_loop().time
        interval_seconds = (headers.lease_seconds or 0.0) / HEARTBEATS_PER_LEASE
        due_at = clock()
        while True:
            # Counted from the previous due time: a heartbeat that hung must not delay the next one.
            due_at = max(due_at + interval_seconds, clock())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due_at - clock()):
                    await asked.wait()
            asked.clear()
            try:
                reply = await self._reporter.send_heartbeat(headers, context.last_progress)
            except TransportError as error:
                context.log.warning("heartbeat failed", reason=str(error))
                continue
            if reply is not None and reply.is_cancelled:
                cancel_handler(context, self._cancel_grace_seconds)
                return
            if reply is not None and reply.status == CONFLICT_STATUS:
                logs.get_logger("jobfn.delivery").error("lease lost: cancelling the handler", **context.ids())
                context.lease_lost = True
                job.cancel()
                return


def _key(headers: JobHeaders) -> tuple[str | None, int | None, int | None]:
    return headers.worker_id, headers.job_id, headers.attempt
