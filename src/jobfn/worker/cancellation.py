"""Stop the handlers of cancelled jobs: close their requests, or notify the functions that run them.

A cancelled job has ended in the database. A notification, or a lease that cannot be renewed, makes the worker look
which of its jobs these are.
"""

import asyncio
import functools
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from jobfn.database.connection import retry
from jobfn.database.records import Job
from jobfn.database.store import JobStore
from jobfn.telemetry import logs
from jobfn.worker.delivery import Deliverer
from jobfn.worker.in_flight import InFlightJob, InFlightJobs
from jobfn.worker.in_flight_states import DELIVERING, PREFETCHED, SETTLING
from jobfn.worker.telemetry.metrics import WorkerMetrics

#: Maximum number of accepted jobs to remember. Functions learn of the cancellation of others at their next heartbeat.
MAX_ACCEPTED_JOBS: Final = 1000
#: Interval at which a request with several jobs is closed if only a cancelled one is left.
_CLOSE_POLL_SECONDS: Final = 0.02

#: The jobs of each open request.
Deliveries = Mapping["asyncio.Task[None]", list[InFlightJob]]


class Cancellations:
    """Stops the handlers of one worker's cancelled jobs."""

    def __init__(
        self,
        store: JobStore,
        deliverer: Deliverer,
        jobs: InFlightJobs,
        *,
        deliveries: Deliveries,
        metrics: WorkerMetrics,
    ) -> None:
        self._store = store
        self._deliverer = deliverer
        self._jobs = jobs
        self._deliveries = deliveries
        self._metrics = metrics
        self._event = asyncio.Event()
        self._accepted: dict[int, Job] = {}
        self._closings: set[asyncio.Task[object]] = set()

    def look(self, _payload: str = "") -> None:
        """Look for cancelled jobs among those in flight."""
        self._event.set()

    def on_accepted(self, job: Job) -> None:
        """Remember a job that its function runs in the background, and that can be cancelled there."""
        self._accepted[job.id] = job
        if len(self._accepted) > MAX_ACCEPTED_JOBS:
            del self._accepted[next(iter(self._accepted))]

    def on_ended(self, job: Job) -> None:
        """Free what a cancelled job kept while its handler ran. Functions do so themselves, at the callback server."""
        self._start(
            retry(
                lambda: self._store.end_cancelled(self._jobs.worker_id, job.id, job.attempt),
                event="end of a cancelled job not recorded",
            )
        )

    async def run(self) -> None:
        """Stop handlers until cancelled."""
        while True:
            await self._event.wait()
            self._event.clear()
            known = self._accepted | {job.id: job for job in self._jobs.leased_jobs()}
            if not known:
                continue
            keys = [(job.id, job.attempt) for job in known.values()]
            for job_id in await retry(functools.partial(self._store.cancelled, keys), event="cancelled jobs not read"):
                self._cancel(known[job_id])

    def _cancel(self, job: Job) -> None:
        self._metrics.record_cancelled(job.task)
        logs.get_logger("jobfn.worker").warning("job cancelled", **job.ids(self._jobs.worker_id))
        if self._accepted.get(job.id) is job:
            del self._accepted[job.id]
            self._start(self._deliverer.cancel_accepted(job))
            return
        in_flight = self._jobs.get(job)
        if in_flight is None:
            return
        has_no_handler = in_flight.state in {PREFETCHED, SETTLING}
        if not in_flight.on_cancelled():
            if has_no_handler:
                self.on_ended(job)
            return
        if not self._deliverer.cancel(job):
            in_flight.is_awaited = True
            return
        delivery = next((delivery for delivery, batch in self._deliveries.items() if in_flight in batch), None)
        if delivery is not None:
            self._start(self._close(delivery, in_flight))

    async def _close(self, delivery: "asyncio.Task[None]", in_flight: InFlightJob) -> None:
        """Close the request of a cancelled job, once it carries no other: functions return those after some time."""
        while in_flight.is_delivering and not delivery.done():
            if not any(each.state is DELIVERING for each in self._deliveries[delivery]):
                delivery.cancel()
                return
            await asyncio.sleep(_CLOSE_POLL_SECONDS)

    def _start(self, closing: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(closing)
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)
