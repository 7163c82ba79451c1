"""Reports as metrics and traces see them, where the database does not answer."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from jobfn.database.records import Settlement
from jobfn.telemetry.tracing import Tracing
from jobfn.worker.telemetry.instrumented_callbacks import ObservedCallbacks
from jobfn.worker.telemetry.metrics import WorkerMetrics


class Gone:
    """A settler, and a store, whose database is away."""

    async def settle(self, _settlement: Settlement) -> bool:
        """Fail as a lost connection does."""
        raise ConnectionResetError("gone")


@pytest.mark.parametrize("traced", [False, True])
async def test_a_report_without_a_database_is_counted_as_such(traced: bool) -> None:  # noqa: FBT001  - a column
    """The error goes on to whoever answers it; the span says that there was one."""
    measures, spans, provider = WorkerMetrics(), InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    gone = Gone()
    callbacks = ObservedCallbacks(
        gone,  # type: ignore[arg-type]  # it settles, and is asked for nothing else
        gone,  # type: ignore[arg-type]  # as above: for signs of life
        lease_seconds=30,
        measures=measures,
        tracing=Tracing(provider if traced else None),
    )
    with pytest.raises(ConnectionResetError):
        await callbacks.report("/callback", {"X-Worker-Id": "worker-1", "X-Job-Id": "7"}, b"")
    reports = next(family for family in measures.families() if family.name == "jobfn_reports_total").values
    assert (("no_database",), 1) in list(reports.samples())  # type: ignore[union-attr]  # a counter's values
    assert [span.status.description for span in spans.get_finished_spans()] == ["ConnectionResetError"] * traced
