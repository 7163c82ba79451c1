"""Run sync handlers in a bounded thread pool, off the event loop.

A thread cannot be stopped from outside. A handler that has timed out or was cancelled runs on: its result is dropped,
and it occupies its thread until it ends.
"""

import asyncio
import contextvars
import functools
import inspect
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

THREAD_NAME_PREFIX = "jobfn-handler"


class ThreadPoolTimeout(Exception):
    """The handler was cancelled before a thread was free."""


class HandlerThreads:
    """A thread pool for sync handlers, created on first use."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._executor: ThreadPoolExecutor | None = None
        self._pending: set[Future[Any]] = set()
        _POOLS.add(self)

    async def run(self, handler: Callable[..., Any], *arguments: Any) -> Any:
        """Call a handler in a thread, with a copy of the caller's context variables."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self.size, thread_name_prefix=THREAD_NAME_PREFIX)
        call = functools.partial(contextvars.copy_context().run, _call, handler, *arguments)
        future = self._executor.submit(call)
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        try:
            result, error = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if future.cancel():
                raise ThreadPoolTimeout from None
            raise
        if error is not None:
            try:
                raise error
            finally:
                del error  # breaks the reference cycle between the traceback and this frame
        # A sync wrapper around an async handler returns a coroutine, which must run on the event loop.
        return await result if inspect.isawaitable(result) else result

    @property
    def pending(self) -> int:
        """Number of handlers that run in a thread or wait for one."""
        return len(self._pending)

    def close(self) -> None:
        """Shut the pool down without waiting for running handlers."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None


#: All pools of the process, for ``count_pending_handlers``.
_POOLS: "weakref.WeakSet[HandlerThreads]" = weakref.WeakSet()


def count_pending_handlers() -> int:
    """Return the number of sync handlers that this process still runs, in any app."""
    return sum(pool.pending for pool in _POOLS)


def _call(handler: Callable[..., Any], *arguments: Any) -> tuple[Any, BaseException | None]:
    """Return the handler's result or its exception: a StopIteration set on a future would hang the waiter."""
    try:
        return handler(*arguments), None
    except BaseException as error:  # noqa: BLE001  - a SystemExit fails the handler, not the process
        return None, error
