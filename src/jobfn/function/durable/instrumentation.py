"""Spans, events and counts of durable calls. Imported by the first durable call of a process.

Spans and events contain names, states and numbers, never results or payloads.
"""

import contextlib
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from jobfn.telemetry.tracing import Ids, add_event

if TYPE_CHECKING:
    from jobfn.function.metrics import Instrumentation


class RunObserver:
    """Observes the durable calls of one delivery.

    Args:
        instrumentation: The app's; None for a context that a unit test has built.
        ids: The ids of the delivery, for log lines and spans.
    """

    def __init__(self, instrumentation: "Instrumentation | None", ids: Ids) -> None:
        self._instrumentation = instrumentation
        self._task = str(ids.get("task"))
        self._attempt = ids.get("attempt")

    def step(self, name: str, *, is_recorded: bool) -> "AbstractContextManager[object]":
        """Return a context manager around a step, which counts it and is its span."""
        instrumentation = self._instrumentation
        if instrumentation is None:
            return contextlib.nullcontext()
        instrumentation.metrics.steps.add(self._task, "replayed" if is_recorded else "executed")
        if not instrumentation.tracing.is_on:
            return contextlib.nullcontext()
        ids: Ids = {"step": name, "attempt": self._attempt, "recorded": is_recorded}
        return instrumentation.tracing.open(f"step {name.partition('#')[0]}", kind="internal", ids=ids)

    def event(self, kind: str, ids: Ids) -> None:
        """Add an event to the current span: a sleep, a wait, or calls of children."""
        if self._instrumentation is not None and self._instrumentation.tracing.is_on:
            add_event(kind, {**ids, "attempt": self._attempt})
