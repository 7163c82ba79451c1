"""Metrics and traces of deliveries, around any ``Deliverer``."""

from collections.abc import Mapping
from time import perf_counter
from typing import Final

from jobfn.database.records import Job
from jobfn.telemetry.tracing import Tracing
from jobfn.worker.dispatch import Accepted, Busy, Deliverer, DeliveryResult, Failed, Succeeded, Unreachable
from jobfn.worker.telemetry.metrics import WorkerMetrics

#: The label ``result`` of ``jobfn_deliveries_total``, and the status of spans.
_RESULTS: Final[Mapping[type, str]] = {
    Succeeded: "succeeded",
    Failed: "failed",
    Accepted: "accepted",
    Busy: "busy",
    Unreachable: "unreachable",
}
#: The result of a delivery that was cancelled by the worker's shutdown.
_STOPPED: Final = "stopped"


class InstrumentedDeliverer:
    """A ``Deliverer`` that counts and traces the deliveries of another one."""

    def __init__(self, deliverer: Deliverer, *, worker_id: str, metrics: WorkerMetrics, tracing: Tracing) -> None:
        self._deliverer = deliverer
        self._worker_id = worker_id
        self._metrics = metrics
        self._tracing = tracing

    async def deliver(self, job: Job) -> DeliveryResult:
        """See ``Deliverer.deliver``."""
        started_at, label = perf_counter(), _STOPPED
        self._metrics.record_request()
        try:
            result = await (self._deliver_traced(job) if self._tracing.is_on else self._deliverer.deliver(job))
            label = _RESULTS[type(result)]
            return result
        finally:
            self._metrics.record_response(job.task, label, perf_counter() - started_at)

    async def _deliver_traced(self, job: Job) -> DeliveryResult:
        ids = job.ids(self._worker_id)
        with self._tracing.open(f"deliver {job.task}", kind="client", ids=ids, parent=job.trace) as span:
            result = await self._deliverer.deliver(job)
            if not isinstance(result, Succeeded | Accepted):
                span.set_error(_RESULTS[type(result)])
            return result
