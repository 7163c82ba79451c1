"""``DurableSupport``: what a delivery offers to the durable calls of its handler."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobfn.function.durable.clients import StepsClient
    from jobfn.function.metrics import Instrumentation
    from jobfn.function.threads import HandlerThreads


@dataclass(slots=True)
class DurableSupport:
    """The support of durable calls by a delivery, set by the app. A context that is built by hand runs steps inline.

    Attributes:
        open_steps: Opens a client for the job's steps; None: the worker does not record any.
        has_steps: Whether earlier deliveries may have recorded steps.
        awaited_seconds: For how long the result must be stored, because another job waits for it; None: none does.
        handler_task: The task that runs an async handler.
        event_loop: The app's, for a sync handler.
        threads: Where sync steps run.
        instrumentation: The app's metrics and traces.
    """

    open_steps: "Callable[[], StepsClient] | None"
    has_steps: bool = False
    awaited_seconds: float | None = None
    handler_task: "asyncio.Task[Any] | None" = None
    event_loop: asyncio.AbstractEventLoop | None = None
    threads: "HandlerThreads | None" = None
    instrumentation: "Instrumentation | None" = None

    def bind(self, threads: "HandlerThreads", instrumentation: "Instrumentation", *, is_async: bool) -> None:
        """Set what the calls of a handler need, in the task that runs it."""
        self.threads = threads
        self.instrumentation = instrumentation
        if is_async:
            self.handler_task = asyncio.current_task()
        else:
            self.event_loop = asyncio.get_running_loop()

    def keep_seconds(self, task_seconds: float | None) -> float | None:
        """Return for how long a result is stored that the task keeps for this time, or not (None)."""
        return task_seconds if self.awaited_seconds is None else max(self.awaited_seconds, task_seconds or 0.0)


def seconds_of(duration: timedelta | float) -> float:
    """Return a timedelta, or a number of seconds, in seconds."""
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
