"""Stop the handlers of cancelled jobs, and find out which ones these are.

A worker whose job was cancelled closes its connection. That alone does not stop a handler: workers also disconnect when
they stop or lose their network, and then the handler goes on and reports. So the app asks the callback server whether
the job was cancelled. Only the database decides that, so a stranger who connects or disconnects cannot cancel anything.
"""

import asyncio
import contextlib
from typing import TYPE_CHECKING

from starlette.types import Receive

from jobfn.errors import TransportError
from jobfn.function.context import JobContext
from jobfn.telemetry import logs
from jobfn.wire import JobHeaders

if TYPE_CHECKING:
    from jobfn.function.reporter import Reporter

#: Interval at which handlers that have run for one are watched. Shorter ones cost an entry in a dictionary.
WATCH_INTERVAL_SECONDS = 0.1


def cancel_handler(context: JobContext, grace_seconds: float) -> None:
    """Stop the handler of a cancelled job. Call it in the handler's event loop.

    ``ctx.cancelled`` becomes true. An async handler is cancelled; a sync one has to look at it. A handler that still
    runs after the grace time is cancelled (again), which interrupts its cleanup; a sync one is left to its thread.
    """
    if context.cancelled:
        return
    context.cancelled = True
    handler = context._handler  # noqa: SLF001  - not part of the context's public API
    if handler is None:
        return
    logs.get_logger("jobfn.delivery").warning("job cancelled: stopping the handler", **context.ids())
    if context._is_async:  # noqa: SLF001
        _cancel(context)
    context._grace_timer = asyncio.get_running_loop().call_later(grace_seconds, _cancel, context)  # noqa: SLF001


def _cancel(context: JobContext) -> None:
    if context._handler is not None:  # noqa: SLF001
        context._cancellations += 1  # noqa: SLF001
        context._handler.cancel()  # noqa: SLF001


async def undo_cancellation(context: JobContext) -> None:
    """Undo the cancellations of the current task by ``cancel_handler``: the task still has to respond."""
    if context._grace_timer is not None:  # noqa: SLF001
        context._grace_timer.cancel()  # noqa: SLF001
    if context._durable is not None:  # noqa: SLF001
        context._durable.ends_with(asyncio.CancelledError())  # noqa: SLF001
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)  # a cancellation that the handler has not met is raised here
    task = asyncio.current_task()
    for _ in range(context._cancellations):  # noqa: SLF001
        if task is not None:
            task.uncancel()


class DisconnectWatcher:
    """Watches the connections of running handlers, and stops those whose jobs were cancelled.

    Args:
        reporter: Asks the callback server.
        grace_seconds: Time that a handler has to clean up.
    """

    def __init__(self, reporter: "Reporter", *, grace_seconds: float) -> None:
        self._reporter = reporter
        self._grace_seconds = grace_seconds
        self._handlers: dict[int, tuple[Receive, JobHeaders, JobContext]] = {}  # by the id of the context
        self._watching: dict[int, asyncio.Task[None] | None] = {}  # those that have run for an interval
        self._timer: asyncio.TimerHandle | None = None

    def add(self, receive: Receive, headers: JobHeaders, context: JobContext) -> None:
        """Watch a handler until ``remove``."""
        self._handlers[id(context)] = receive, headers, context
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WATCH_INTERVAL_SECONDS, self._tick)

    def remove(self, context: JobContext) -> None:
        """Stop watching: the handler has ended."""
        key = id(context)
        del self._handlers[key]
        if self._watching and (watching := self._watching.pop(key, None)) is not None:
            watching.cancel()

    def _tick(self) -> None:
        self._timer = None
        if not self._handlers:
            return
        for key, (receive, headers, context) in self._handlers.items():
            if key not in self._watching:
                self._watching[key] = None
            elif self._watching[key] is None:
                self._watching[key] = asyncio.create_task(self._watch(receive, headers, context))
        self._timer = asyncio.get_running_loop().call_later(WATCH_INTERVAL_SECONDS, self._tick)

    async def _watch(self, receive: Receive, headers: JobHeaders, context: JobContext) -> None:
        message = await receive()
        if message["type"] != "http.disconnect":
            return
        try:
            is_cancelled = await self._reporter.ask_if_cancelled(headers)
        except TransportError as error:
            context.log.warning("worker disconnected, and cancellation is unknown", reason=str(error))
            return
        if is_cancelled:
            cancel_handler(context, self._grace_seconds)
