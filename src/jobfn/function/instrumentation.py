"""Logs, metrics and traces of deliveries. ``asgi_app.py`` and ``execution.py`` wrap their work in these spans.

Every line logged during a delivery carries the job's ids (``logs.job_ids``). Without a tracer provider the cost is a
few additions per delivery.
"""

from collections.abc import Mapping
from contextvars import Token
from time import perf_counter
from types import TracebackType
from typing import Any, Final, Self

from jobfn.function.context import JobContext
from jobfn.function.metrics import Instrumentation, outcome_label
from jobfn.function.outcome import DeliveryOutcome
from jobfn.telemetry import logs
from jobfn.telemetry.tracing import OpenSpan
from jobfn.wire import MAX_TASK_IDENTIFIER_CHARACTERS, JobHeaders, log_ids

SUCCESS_STATUSES: Final = frozenset({200, 202})


class DeliverySpan:
    """A context manager around a delivery, its report and its response; pass the outcome to ``record``.

    Args:
        instrumentation: The app's.
        headers: The delivery's job headers, from ``extract_job_headers``.
        task: The task's identifier; None if there is no such task.
        path: The path inside the app.
    """

    __slots__ = ("_headers", "_instrumentation", "_requested_task", "_span", "_task", "_token")

    _token: Token[Any]

    def __init__(
        self, instrumentation: Instrumentation, headers: Mapping[str, str], task: str | None, path: str
    ) -> None:
        self._instrumentation = instrumentation
        self._headers = headers
        self._task = task
        self._requested_task = path[1 : MAX_TASK_IDENTIFIER_CHARACTERS + 1] if task is None else task
        self._span = self._open_span() if instrumentation.tracing.is_on else None

    def __enter__(self) -> Self:
        self._token = logs.job_ids.set(self._ids)
        if self._span is not None:
            self._span.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._span is not None:
            self._span.__exit__(kind, error, traceback)
        logs.job_ids.reset(self._token)

    def record(self, outcome: DeliveryOutcome) -> None:
        """Record the delivery's outcome."""
        self._instrumentation.metrics.record_outcome(self._task, outcome)
        if self._span is not None:
            _record_status(self._span, outcome)

    def _open_span(self) -> OpenSpan:
        parent = JobHeaders.parse_lenient(self._headers).trace
        name = "receive" if self._task is None else f"receive {self._task}"
        return self._instrumentation.tracing.open(name, kind="server", ids=self._ids(), parent=parent)

    def _ids(self) -> Mapping[str, str | int | None]:
        """Return the request's job ids for log lines and spans."""
        return log_ids(self._headers, self._requested_task)


class HandlerSpan:
    """A handler call, which starts with the span; pass the outcome to ``finish``."""

    __slots__ = ("_metrics", "_span", "_started_at", "_task")

    def __init__(self, instrumentation: Instrumentation, task: str, context: JobContext) -> None:
        self._metrics = instrumentation.metrics
        self._task = task
        self._span: OpenSpan | None = None
        if instrumentation.tracing.is_on:
            self._span = instrumentation.tracing.open(f"run {task}", kind="internal", ids=context.ids())
            self._span.__enter__()
        self._metrics.handler_started(task)
        self._started_at = perf_counter()

    def finish(self, outcome: DeliveryOutcome) -> None:
        """End the span and record the handler's duration."""
        self._metrics.handler_finished(self._task, perf_counter() - self._started_at)
        if self._span is not None:
            _record_status(self._span, outcome)
            self._span.__exit__(None, None, None)


def _record_status(span: OpenSpan, outcome: DeliveryOutcome) -> None:
    if outcome.status_code not in SUCCESS_STATUSES:
        span.set_error(outcome_label(outcome))
