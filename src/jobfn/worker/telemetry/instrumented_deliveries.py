"""Metrics and traces of deliveries, around any ``Deliverer``."""

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Final

from jobfn.database.records import Job
from jobfn.telemetry.tracing import DetachedSpan, Tracing
from jobfn.worker.delivery import (
    Accepted,
    Busy,
    Deliverer,
    DeliveryResult,
    Failed,
    NotStarted,
    OnResult,
    Succeeded,
    Unreachable,
)
from jobfn.worker.telemetry.metrics import WorkerMetrics

#: The label ``result`` of ``jobfn_deliveries_total``, and the status of spans.
_RESULTS: Final[Mapping[type, str]] = {
    Succeeded: "succeeded",
    Failed: "failed",
    Accepted: "accepted",
    Busy: "busy",
    Unreachable: "unreachable",
    NotStarted: "not_started",
}
#: The result of a delivery that was cancelled by the worker's shutdown.
_STOPPED: Final = "stopped"
#: The result of a delivery whose job was cancelled.
_CANCELLED: Final = "cancelled"


class InstrumentedDeliverer(Deliverer):
    """A ``Deliverer`` that counts and traces the deliveries of another one."""

    def __init__(self, deliverer: Deliverer, *, worker_id: str, metrics: WorkerMetrics, tracing: Tracing) -> None:
        self._deliverer = deliverer
        self._worker_id = worker_id
        self._metrics = metrics
        self._tracing = tracing
        self._cancelled: set[int] = set()  # ids of cancelled jobs that are being delivered

    def cancel(self, job: Job) -> bool:
        """See ``Deliverer.cancel``."""
        self._cancelled.add(job.id)
        return self._deliverer.cancel(job)

    async def cancel_accepted(self, job: Job) -> bool:
        """See ``Deliverer.cancel_accepted``."""
        return await self._deliverer.cancel_accepted(job)

    def _label(self, job: Job, label: str) -> str:
        if job.id not in self._cancelled:
            return label
        self._cancelled.discard(job.id)
        return _CANCELLED

    def batch_size(self, task: str, share: int) -> int:
        """See ``Deliverer.batch_size``."""
        return self._deliverer.batch_size(task, share)

    async def deliver(self, job: Job) -> DeliveryResult:
        """See ``Deliverer.deliver``."""
        started_at, label = perf_counter(), _STOPPED
        self._metrics.record_request()
        try:
            result = await (self._deliver_traced(job) if self._tracing.is_on else self._deliverer.deliver(job))
            label = _RESULTS[type(result)]
            return result
        finally:
            self._metrics.record_response()
            self._metrics.record_delivery(job.task, self._label(job, label), perf_counter() - started_at)

    async def deliver_batch(self, jobs: Sequence[Job], on_result: OnResult) -> None:
        """See ``Deliverer.deliver_batch``. Each job has its own span."""
        started_at = perf_counter()
        by_id = {job.id: job for job in jobs}
        spans = self._start_spans(jobs) if self._tracing.is_on else {}
        if spans:
            jobs = [job._replace(trace=spans[job.id].context) for job in jobs]

        def record(job: Job, result: DeliveryResult) -> None:
            label = self._label(job, _RESULTS[type(result)])
            self._metrics.record_delivery(job.task, label, perf_counter() - started_at)
            if spans:
                spans.pop(job.id).end(None if isinstance(result, Succeeded | Accepted) else label)
            on_result(by_id.pop(job.id), result)

        self._metrics.record_request()
        try:
            await self._deliverer.deliver_batch(jobs, record)
        finally:
            self._metrics.record_response()
            for job in by_id.values():
                self._metrics.record_delivery(job.task, self._label(job, _STOPPED), perf_counter() - started_at)
            for span in spans.values():
                span.end(_STOPPED)

    def _start_spans(self, jobs: Sequence[Job]) -> dict[int, DetachedSpan]:
        return {
            job.id: self._tracing.start(
                f"deliver {job.task}", kind="client", ids=job.ids(self._worker_id), parent=job.trace
            )
            for job in jobs
        }

    async def _deliver_traced(self, job: Job) -> DeliveryResult:
        ids = job.ids(self._worker_id)
        with self._tracing.open(f"deliver {job.task}", kind="client", ids=ids, parent=job.trace) as span:
            result = await self._deliverer.deliver(job)
            if not isinstance(result, Succeeded | Accepted):
                span.set_error(_RESULTS[type(result)])
            return result
