"""Where sync handlers run: threads of a set number, never the event loop.

A thread cannot be ended from outside. A handler that is not waited for any longer runs on; its result is dropped,
and until it ends it keeps its place among the threads.
"""

import asyncio
import contextvars
import functools
import inspect
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

THREAD_NAME = "jobfn-handler"


class ThreadPoolTimeout(Exception):
    """The wait ended before a thread was free."""


class HandlerThreads:
    """Runs sync handlers. Opens when first used, so that an app without any has no threads.

    Args:
        size: How many run at once; further ones wait their turn.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._executor: ThreadPoolExecutor | None = None
        self._running: set[Future[Any]] = set()
        _POOLS.add(self)

    async def run(self, handler: Callable[..., Any], *arguments: Any) -> Any:
        """Call a handler in a thread, in a copy of the caller's context variables.

        Raises:
            ThreadPoolTimeout: The wait was cancelled before a thread was free.
            BaseException: What the handler raised, whatever it is.
        """
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self.size, thread_name_prefix=THREAD_NAME)
        call = functools.partial(contextvars.copy_context().run, _attempt, handler, *arguments)
        future = self._executor.submit(call)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
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
                del error  # its traceback holds this frame
        # a sync wrapper around an async handler gives its coroutine, which belongs on the loop
        return await result if inspect.isawaitable(result) else result

    @property
    def running(self) -> int:
        """How many handlers are in a thread or wait for one."""
        return len(self._running)

    def close(self) -> None:
        """Take no more. Handlers that still run are not waited for."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None


#: For the end of the process alone: it must not wait for handlers that nobody waits for.
_POOLS: "weakref.WeakSet[HandlerThreads]" = weakref.WeakSet()


def handlers_still_running() -> int:
    """How many sync handlers run in this process, in whatever app."""
    return sum(pool.running for pool in _POOLS)


def _attempt(handler: Callable[..., Any], *arguments: Any) -> tuple[Any, BaseException | None]:
    """The handler's result or its error, as values: a StopIteration set on a future would hang who awaits it."""
    try:
        return handler(*arguments), None
    except BaseException as error:  # noqa: BLE001  - a SystemExit, too, is the handler's failure and not the process's
        return None, error
