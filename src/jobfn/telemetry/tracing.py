"""Traces: OpenTelemetry spans from enqueue through worker and function to report, where somebody wants them.

A job carries its W3C trace context, first in its row and then in HTTP headers, so that its whole way is one trace.
Nothing of OpenTelemetry is loaded unless a tracer provider is handed in, the environment asks for traces
(``tracing_setup.py``), or somebody in this process loaded it. Without a provider no span is made, and what a job
carries is handed on as it came.

Spans tell of ids, tasks and outcomes, never of a payload, nor of what an exception says.
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

_TRACE: Final = "opentelemetry.trace"
#: Whom a span speaks to: who enqueues, who calls, who is called, or nobody.
Kind = Literal["producer", "client", "server", "internal"]
#: What a span is about; in OpenTelemetry's attributes they begin with ``jobfn.``.
#: None: it has none of that kind.
Ids = Mapping[str, str | int | None]


class OpenSpan:
    """A span for as long as a block runs, and the current one within it.

    Args:
        manager: OpenTelemetry's.
    """

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
        """More about it."""
        self._span.set_attributes(_attributes(ids))

    def set_error(self, what: str) -> None:
        """It went wrong, in one or two words: not the words of an exception, which may hold anything."""
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415  - a span is there, so is this

        self._span.set_status(Status(StatusCode.ERROR, what))


class Tracing:
    """Makes spans.

    Args:
        provider: Makes the tracer. Default: whatever provider this process has set, at the time of the span.
    """

    def __init__(self, provider: "TracerProvider | None" = None) -> None:
        self._given = provider
        self._seen: TracerProvider | None = None
        self._tracer: Tracer | None = None

    @property
    def is_on(self) -> bool:
        """Whether spans are made now."""
        if self._given is None and _TRACE not in sys.modules:  # as below, for who asks at each job
            return False
        return self._current_tracer() is not None

    def open(self, name: str, *, kind: Kind, ids: Ids, parent: TraceContext | None = None) -> OpenSpan:
        """A span. Only where ``is_on``: who is in a hurry asks that first, and need not put the arguments together.

        Args:
            name: Such as ``deliver process_invoice``.
            kind: Whom it speaks to.
            ids: What it is about.
            parent: What it is a part of, elsewhere. Default: the current span, if there is one.
        """
        from opentelemetry.trace import SpanKind  # noqa: PLC0415  - loaded with the tracer

        tracer = self._current_tracer()
        assert tracer is not None, "ask is_on first"  # noqa: S101
        return OpenSpan(
            tracer.start_as_current_span(
                name,
                context=None if parent is None else _remote(parent),
                kind=SpanKind[kind.upper()],
                attributes=_attributes(ids),
                record_exception=False,  # its message and its traceback may hold anything
                set_status_on_exception=False,
            )
        )

    def propagate(self, otherwise: TraceContext | None) -> TraceContext | None:
        """What to hand on: the current span's context, else what came."""
        if self._current_tracer() is None:
            return otherwise
        return current() or otherwise

    def _current_tracer(self) -> "Tracer | None":
        provider = self._given
        if provider is None:
            module = sys.modules.get(_TRACE)
            if module is None:  # nobody here can have set one
                return None
            provider = module.get_tracer_provider()
            if isinstance(provider, module.ProxyTracerProvider):  # nobody has
                return None
        if provider is not self._seen:
            self._seen, self._tracer = provider, provider.get_tracer("jobfn")
        return self._tracer


#: For code that is handed no other: it follows the provider of the process.
GLOBAL: Final = Tracing()


def current() -> TraceContext | None:
    """The current span's context, whoever made it; None where there is none."""
    if _TRACE not in sys.modules:  # nobody here can have made one
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return TraceContext.parse(carrier.get(TRACEPARENT), carrier.get(TRACESTATE))


def _attributes(ids: Ids) -> dict[str, str | int]:
    return {f"jobfn.{name}": value for name, value in ids.items() if value is not None}


def _remote(parent: TraceContext) -> "Context":
    from opentelemetry.context import Context  # noqa: PLC0415  - as above
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    return TraceContextTextMapPropagator().extract(parent.headers(), context=Context())
