"""One delivery as logs, metrics and traces see it. ``delivery.py`` opens it around what it does.

Every line that is written meanwhile, by whoever writes it, carries the ids of the job (``logs.job_ids``). With no
tracer provider a delivery costs some additions and nothing else.
"""

from collections.abc import Mapping
from contextvars import Token
from time import perf_counter
from types import TracebackType
from typing import Any, Final, Self

from starlette.types import Scope

from jobfn.function.context import JobContext
from jobfn.function.metrics import FunctionMetrics, outcome_label
from jobfn.function.outcome import Outcome
from jobfn.telemetry import logs
from jobfn.telemetry.tracing import OpenSpan, Tracing
from jobfn.wire import MAX_TASK_IDENTIFIER_CHARACTERS, JobHeaders, extract_job_headers, log_ids

_WELL: Final = frozenset({200, 202})


class Observer:
    """Sees the deliveries of one function app.

    Args:
        measures: What is counted.
        tracing: Makes spans.
    """

    def __init__(self, measures: FunctionMetrics, tracing: Tracing) -> None:
        self.measures = measures
        self.tracing = tracing

    def delivery(self, scope: Scope, task: str | None, path: str) -> "Delivery":
        """Around a whole delivery, its report and its answer too.

        Args:
            scope: The request's.
            task: Which of this function's; None: none.
            path: What was asked for.
        """
        return Delivery(self, scope, task, path)

    def handler(self, task: str, context: JobContext) -> "Handler":
        """A handler's run, which begins now."""
        return Handler(self, task, context)


class Delivery:
    """The block of ``Observer.delivery``. Tell it ``ended``."""

    __slots__ = ("_observer", "_scope", "_span", "_task", "_token", "_wanted")

    _token: Token[Any]

    def __init__(self, observer: Observer, scope: Scope, task: str | None, path: str) -> None:
        self._observer = observer
        self._scope = scope
        self._task = task
        self._wanted = path[1 : MAX_TASK_IDENTIFIER_CHARACTERS + 1] if task is None else task
        self._span = self._open() if observer.tracing.is_on else None

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

    def ended(self, outcome: Outcome) -> None:
        """So it ended or, in the background, began."""
        self._observer.measures.ended(self._task, outcome)
        if self._span is not None:
            _tell(self._span, outcome)

    def _open(self) -> OpenSpan:
        headers = JobHeaders.parse_lenient(self._scope["headers"])
        name = "receive" if self._task is None else f"receive {self._task}"
        return self._observer.tracing.open(name, kind="server", ids=self._ids(), parent=headers.trace)

    def _ids(self) -> Mapping[str, str | int | None]:
        """The ids of the delivery that this request is, as far as it says any; read only when somebody needs them."""
        return log_ids(extract_job_headers(self._scope["headers"]), self._wanted)


class Handler:
    """What ``Observer.handler`` gives. It must be told that it ``ended``."""

    __slots__ = ("_began", "_measures", "_span", "_task")

    def __init__(self, observer: Observer, task: str, context: JobContext) -> None:
        self._measures = observer.measures
        self._task = task
        self._span: OpenSpan | None = None
        if observer.tracing.is_on:
            self._span = observer.tracing.open(f"run {task}", kind="internal", ids=context.ids())
            self._span.__enter__()
        self._measures.began(task)
        self._began = perf_counter()

    def ended(self, outcome: Outcome) -> None:
        """So it ended; a handler that raised has an outcome, too."""
        self._measures.took(self._task, perf_counter() - self._began)
        if self._span is not None:
            _tell(self._span, outcome)
            self._span.__exit__(None, None, None)


def _tell(span: OpenSpan, outcome: Outcome) -> None:
    if outcome.status_code not in _WELL:
        span.set_error(outcome_label(outcome))
