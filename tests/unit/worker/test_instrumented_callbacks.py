"""Metrics and traces of reports while the database is not reachable."""

import pytest

from jobfn.telemetry.metrics import Counter
from jobfn.telemetry.tracing import Tracing
from jobfn.worker.callbacks import Callbacks
from jobfn.worker.settlement import SettlementBatcher
from jobfn.worker.telemetry.instrumented_callbacks import InstrumentedCallbacks
from jobfn.worker.telemetry.metrics import WorkerMetrics
from support.observability import Spans
from support.store import RecordingStore


@pytest.mark.parametrize("is_traced", [False, True])
async def test_report_without_a_database_is_counted_as_unavailable(*, is_traced: bool) -> None:
    metrics, spans, store = WorkerMetrics(), Spans(), RecordingStore()
    store.error = ConnectionResetError("gone")
    callbacks = InstrumentedCallbacks(
        Callbacks(SettlementBatcher(store), store, lease_seconds=30),
        metrics=metrics,
        tracing=Tracing(spans.provider if is_traced else None),
    )
    with pytest.raises(ConnectionResetError):
        await callbacks.report("/callback", {"X-Worker-Id": "worker-1", "X-Job-Id": "7"}, b"")
    reports = next(metric.values for metric in metrics.collect() if metric.name == "jobfn_reports_total")
    assert isinstance(reports, Counter)
    assert (("unavailable",), 1) in reports.samples()
    ended = spans.exporter.get_finished_spans()
    assert [span.status.description for span in ended] == ["ConnectionResetError"] * is_traced
