"""OpenTelemetry spans from enqueue through worker and function to report.

A job carries its W3C trace context, first in its row and then in HTTP headers, so that its whole path is one trace.
OpenTelemetry is only loaded if a tracer provider is passed, if the environment enables traces (``otel.py``) or if other
code in the process has loaded it. Without a provider no spans are created, and the job's trace context is passed on
unchanged.

Spans contain ids, tasks and outcomes, never payloads or exception messages.
"""

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self

from jobfn.wire.trace_context import TRACEPARENT, TRACESTATE, TraceContext

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer, TracerProvider

_TRACE_MODULE: Final = "opentelemetry.trace"
#: Span kinds, in OpenTelemetry's terms.
Kind = Literal["producer", "client", "server", "internal"]
#: Ids of a span, which become attributes with the prefix ``jobfn.``. None values are left out.
Ids = Mapping[str, str | int | None]


class OpenSpan:
    """Context manager of a span, which is the current span inside the block."""

    __slots__ = ("_manager", "_span")

    _span: "Span"

    def __init__(self, manager: "AbstractContextManager[Span]") -> None:
        self._manager = manager

    def __enter__(self) -> Self:
        self._span = self._manager.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.set_error(kind.__name__)
        self._manager.__exit__(kind, error, traceback)

    def set_attributes(self, ids: Ids) -> None:
        """Add ids to the span."""
        self._span.set_attributes(_attributes(ids))

    def set_error(self, description: str) -> None:
        """Set the status to error. The description must not be an exception message, which may contain payload data."""
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415  - already loaded

        self._span.set_status(Status(StatusCode.ERROR, description))


class DetachedSpan:
    """A span that is not the current one, for work that runs beside other work. Call ``end`` once."""

    __slots__ = ("_span", "context")

    def __init__(self, span: "Span") -> None:
        from opentelemetry.trace import set_span_in_context  # noqa: PLC0415  - already loaded

        self._span = span
        self.context = _trace_context(set_span_in_context(span))

    def end(self, error: str | None) -> None:
        """End the span, with status error if there is a description of one (see ``OpenSpan.set_error``)."""
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415  - as above

        if error is not None:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()


class Tracing:
    """Factory of spans. Without a provider, it uses the process's at the time of each span."""

    def __init__(self, provider: "TracerProvider | None" = None) -> None:
        self._provider = provider
        self._tracer_provider: TracerProvider | None = None  # the provider that created the cached tracer
        self._tracer: Tracer | None = None

    @property
    def is_on(self) -> bool:
        """Whether spans are created."""
        if self._provider is None and _TRACE_MODULE not in sys.modules:  # shortcut for the hot path
            return False
        return self._current_tracer() is not None

    def open(self, name: str, *, kind: Kind, ids: Ids, parent: TraceContext | None = None) -> OpenSpan:
        """Return a new span, by default as a child of the current one. Check ``is_on`` first."""
        from opentelemetry.trace import SpanKind  # noqa: PLC0415  - loaded with the tracer

        tracer = self._current_tracer()
        assert tracer is not None, "check is_on first"  # noqa: S101
        return OpenSpan(
            tracer.start_as_current_span(
                name,
                context=None if parent is None else _remote_context(parent),
                kind=SpanKind[kind.upper()],
                attributes=_attributes(ids),
                record_exception=False,  # message and traceback may contain payload data
                set_status_on_exception=False,
            )
        )

    def start(self, name: str, *, kind: Kind, ids: Ids, parent: TraceContext | None = None) -> DetachedSpan:
        """Return a new span that does not become the current one. Check ``is_on`` first."""
        from opentelemetry.trace import SpanKind  # noqa: PLC0415  - loaded with the tracer

        tracer = self._current_tracer()
        assert tracer is not None, "check is_on first"  # noqa: S101
        context = None if parent is None else _remote_context(parent)
        return DetachedSpan(
            tracer.start_span(name, context=context, kind=SpanKind[kind.upper()], attributes=_attributes(ids))
        )

    def propagate(self, incoming: TraceContext | None) -> TraceContext | None:
        """Return the trace context to pass on: the current span's, or the incoming one."""
        if self._current_tracer() is None:
            return incoming
        return current() or incoming

    def _current_tracer(self) -> "Tracer | None":
        provider = self._provider
        if provider is None:
            module = sys.modules.get(_TRACE_MODULE)
            if module is None:
                return None
            provider = module.get_tracer_provider()
            if isinstance(provider, module.ProxyTracerProvider):  # no provider was set
                return None
        if provider is not self._tracer_provider:
            self._tracer_provider, self._tracer = provider, provider.get_tracer("jobfn")
        return self._tracer


#: Default ``Tracing``, which follows the provider of the process.
GLOBAL: Final = Tracing()


def attach(trace: TraceContext | None) -> None:
    """Make a trace context the current one, until the end of the current context variables."""
    if trace is not None and _TRACE_MODULE in sys.modules:
        from opentelemetry import context  # noqa: PLC0415  - already loaded

        context.attach(_remote_context(trace))


def add_event(name: str, ids: Ids) -> None:
    """Add an event to the current span. Check ``is_on`` first."""
    from opentelemetry.trace import get_current_span  # noqa: PLC0415  - loaded with the tracer

    get_current_span().add_event(name, _attributes(ids))


def current() -> TraceContext | None:
    """Return the trace context of the current span, or None."""
    return None if _TRACE_MODULE not in sys.modules else _trace_context(None)


def _trace_context(context: "Context | None") -> TraceContext | None:
    """Return the trace context of the span in a context; None: in the current one."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, context=context)
    return TraceContext.parse(carrier.get(TRACEPARENT), carrier.get(TRACESTATE))


def _attributes(ids: Ids) -> dict[str, str | int]:
    return {f"jobfn.{name}": value for name, value in ids.items() if value is not None}


def _remote_context(parent: TraceContext) -> "Context":
    from opentelemetry.context import Context  # noqa: PLC0415  - as above
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    return TraceContextTextMapPropagator().extract(parent.headers(), context=Context())
