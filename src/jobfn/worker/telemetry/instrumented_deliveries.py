"""Deliveries as metrics and traces see them: around whatever takes jobs to their tasks, by HTTP or in this process."""

from collections.abc import Mapping
from time import perf_counter
from typing import Final

from jobfn.database.records import Job
from jobfn.telemetry.tracing import Tracing
from jobfn.worker.dispatch import Accepted, Busy, Deliverer, Delivery, Failed, Succeeded, Unreachable
from jobfn.worker.telemetry.metrics import WorkerMetrics

#: What each is called in metrics and traces.
_RESULTS: Final[Mapping[type, str]] = {
    Succeeded: "succeeded",
    Failed: "failed",
    Accepted: "accepted",
    Busy: "busy",
    Unreachable: "unreachable",
}
#: What came to nothing, because the worker did not wait any longer.
_STOPPED: Final = "stopped"


class ObservedDeliveries:
    """A ``Deliverer`` around another one.

    Args:
        deliverer: The other one.
        worker_id: Whose deliveries they are.
        measures: What is counted.
        tracing: Makes spans.
    """

    def __init__(self, deliverer: Deliverer, *, worker_id: str, measures: WorkerMetrics, tracing: Tracing) -> None:
        self._deliverer = deliverer
        self._worker_id = worker_id
        self._measures = measures
        self._tracing = tracing

    async def deliver(self, job: Job) -> Delivery:
        """See ``Deliverer.deliver``."""
        began, result = perf_counter(), _STOPPED
        self._measures.sent()
        try:
            delivery = await (self._traced(job) if self._tracing.is_on else self._deliverer.deliver(job))
            result = _RESULTS[type(delivery)]
            return delivery
        finally:
            self._measures.answered(job.task, result, perf_counter() - began)

    async def _traced(self, job: Job) -> Delivery:
        ids = job.ids(self._worker_id)
        with self._tracing.open(f"deliver {job.task}", kind="client", ids=ids, parent=job.trace) as span:
            delivery = await self._deliverer.deliver(job)
            if not isinstance(delivery, Succeeded | Accepted):
                span.set_error(_RESULTS[type(delivery)])
            return delivery
