"""Metrics and traces of deliveries, of one job or of several."""

import asyncio
from collections.abc import Sequence

import pytest

from jobfn.database.records import Job
from jobfn.telemetry.metrics import Counter
from jobfn.telemetry.tracing import Tracing
from jobfn.worker.delivery import Deliverer, DeliveryResult, Failed, NotStarted, OnResult, Succeeded
from jobfn.worker.telemetry.instrumented_deliveries import InstrumentedDeliverer
from jobfn.worker.telemetry.metrics import WorkerMetrics
from support.jobs import WORKER
from support.observability import Spans

JOBS = [Job(number, "t", "{}", attempt=1) for number in (1, 2, 3)]


class OneByOne(Deliverer):
    """A deliverer without batches, which fails job 2."""

    async def deliver(self, job: Job) -> DeliveryResult:
        """See ``Deliverer.deliver``."""
        return Failed("no") if job.id == 2 else Succeeded()


class Interrupted(OneByOne):
    """Has results for two jobs of a batch, sets ``waiting`` and never returns."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()

    async def deliver_batch(self, jobs: Sequence[Job], on_result: OnResult) -> None:
        """See ``Deliverer.deliver_batch``."""
        on_result(jobs[0], Succeeded())
        on_result(jobs[1], NotStarted())
        self.waiting.set()
        await asyncio.Event().wait()


def counts(metrics: WorkerMetrics) -> dict[str, object]:
    """Return the number of deliveries by result, and that of open requests."""
    by_name = {metric.name: metric.values for metric in metrics.collect()}
    deliveries = by_name["jobfn_deliveries_total"]
    assert isinstance(deliveries, Counter)
    return {labels[1]: value for labels, value in deliveries.samples()} | {"open": by_name["jobfn_in_flight"]}


@pytest.fixture(params=[False, True], ids=["untraced", "traced"])
def spans(request: pytest.FixtureRequest) -> Spans | None:
    return Spans() if request.param else None


def instrument(deliverer: Deliverer, metrics: WorkerMetrics, spans: Spans | None) -> InstrumentedDeliverer:
    tracing = Tracing(None if spans is None else spans.provider)
    return InstrumentedDeliverer(deliverer, worker_id=WORKER, metrics=metrics, tracing=tracing)


def statuses(spans: Spans) -> dict[object, str | None]:
    """Return the status of each job's span."""
    ended = spans.exporter.get_finished_spans()
    assert {span.name for span in ended} == {"deliver t"}
    return {(span.attributes or {})["jobfn.job"]: span.status.description for span in ended}


async def test_deliverer_without_batches_runs_jobs_one_by_one(spans: Spans | None) -> None:
    metrics, results = WorkerMetrics(), dict[int, DeliveryResult]()
    deliverer = instrument(OneByOne(), metrics, spans)
    assert deliverer.batch_size("t", 100) == 1
    await deliverer.deliver_batch(JOBS, lambda job, result: results.update({job.id: result}))
    assert results == {1: Succeeded(), 2: Failed("no"), 3: Succeeded()}
    assert counts(metrics) == {"succeeded": 2, "failed": 1, "open": {(): 0}}
    if spans is not None:
        assert statuses(spans) == {1: None, 2: "failed", 3: None}


async def test_jobs_of_a_batch_that_is_cancelled_are_counted_as_stopped(spans: Spans | None) -> None:
    metrics, seen = WorkerMetrics(), list[Job]()
    interrupted = Interrupted()
    deliverer = instrument(interrupted, metrics, spans)
    running = asyncio.create_task(deliverer.deliver_batch(JOBS, lambda job, _result: seen.append(job)))
    await interrupted.waiting.wait()
    assert counts(metrics)["open"] == {(): 1}
    running.cancel()
    await asyncio.wait({running})
    assert seen == JOBS[:2], "as the caller knows them, without the spans' traces"
    assert counts(metrics) == {"succeeded": 1, "not_started": 1, "stopped": 1, "open": {(): 0}}
    if spans is not None:
        assert statuses(spans) == {1: None, 2: "not_started", 3: "stopped"}
