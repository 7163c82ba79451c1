"""One job through one task: its payload validated, its handler run, its end as an ``Outcome``.

Both ways to a task end here: a delivery over HTTP (``delivery.py``), and a worker that runs tasks in its own process.
Whatever a handler does, it ends as a value.
"""

import asyncio
import contextlib
import functools
import inspect
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from jobfn.errors import PermanentError, RequestError, RetryLater, TaskDefinitionError
from jobfn.function import outcome
from jobfn.function.context import JobContext
from jobfn.function.database import DatabasePool
from jobfn.function.dependencies import Resources
from jobfn.function.instrumentation import Observer
from jobfn.function.outcome import Outcome
from jobfn.function.retry_policy import DEFAULT_RETRY, NO_RETRY, Verdict
from jobfn.function.task import Task
from jobfn.function.threads import HandlerThreads, ThreadPoolTimeout
from jobfn.telemetry import logs

AnyTask = Task[..., Any]
#: ``async def middleware(ctx, call_next)``: awaits ``call_next()``, which gives the handler's result, and returns it.
TaskMiddleware = Callable[[JobContext, Callable[[], Awaitable[Any]]], Awaitable[Any]]

_STOPPED = "task stopped: the process did not wait any longer"
_LOST = "task stopped: the job was given to somebody else"


class Executor:
    """Runs tasks.

    Args:
        threads: How many sync handlers run at once.
        observer: Sees each run, for metrics and traces.
        resources: What handlers get beside payload and context. Default: none by name.
        middleware: Wrapped around every handler, the first one outermost.

    Raises:
        TaskDefinitionError: One of these is no middleware.
    """

    def __init__(
        self,
        *,
        threads: int,
        observer: Observer,
        resources: Resources | None = None,
        middleware: Sequence[TaskMiddleware] = (),
    ) -> None:
        self._observer = observer
        self._threads = HandlerThreads(threads)
        self._databases = DatabasePool()
        self._resources = resources or Resources({})
        self._middleware = _checked(middleware)

    def decode(self, task: AnyTask, body: bytes, context: JobContext) -> "Any | Outcome":
        """The payload that a body holds; an ``Outcome`` where it holds none that fits."""
        try:
            return task.decode(body)
        except RequestError as error:  # the same payload will never fit
            return refused(error, NO_RETRY)
        except BaseException as error:
            context.log.error("validation broke", exc_info=error)
            return outcome.validator_error(task.identifier, error)

    async def handle(self, task: AnyTask, payload: Any, context: JobContext) -> Outcome:
        """Run the task's handler on a payload."""
        context.bind_pool(self._databases)
        limit: asyncio.Timeout | None = None
        observed = self._observer.handler(task.identifier, context)
        try:
            if task.is_async and task.timeout is None and not task.needs and not self._middleware:
                # what most tasks are: the ways below would come to the same
                result = await (task.handler(payload, context) if task.takes_context else task.handler(payload))
            elif task.timeout is None:
                result = await self._run(task, payload, context)
            else:
                async with asyncio.timeout(task.timeout) as limit:
                    result = await self._run(task, payload, context)
        except BaseException as error:  # noqa: BLE001  - a handler may raise anything, SystemExit included
            ended = self._failed(task, context, error, timed_out=limit is not None and limit.expired())
        else:
            ended = outcome.succeeded(result, keep_seconds=task.keep_seconds)
            if ended.problem is not None:
                context.log.error(ended.problem)
        try:
            if context.has_opened:
                await _close(context)
        finally:
            observed.ended(ended)
        return ended

    async def _run(self, task: AnyTask, payload: Any, context: JobContext) -> Any:
        if task.needs or self._middleware:
            return await self._call_with_middleware(task, payload, context)
        return await self._call(task, payload, context)

    async def _call_with_middleware(self, task: AnyTask, payload: Any, context: JobContext) -> Any:
        """Call the handler with its resources, inside the middleware."""

        async def handle() -> Any:
            async with contextlib.AsyncExitStack() as stack:
                resources = await self._resources.provide(task.needs, context, stack)
                return await self._call(task, payload, context, resources)

        call: Callable[[], Awaitable[Any]] = handle
        for middleware in reversed(self._middleware):
            call = functools.partial(middleware, context, call)
        return await call()

    async def _call(
        self, task: AnyTask, payload: Any, context: JobContext, resources: Mapping[str, Any] | None = None
    ) -> Any:
        arguments = (payload, context) if task.takes_context else (payload,)
        handler = functools.partial(task.handler, **resources) if resources else task.handler
        if task.is_async:
            return await handler(*arguments)
        return await self._threads.run(handler, *arguments)

    def close(self) -> None:
        """Let the threads go."""
        self._threads.close()

    async def disconnect(self) -> None:
        """Close the connections that handlers have used."""
        await self._databases.aclose()

    def _failed(self, task: AnyTask, context: JobContext, error: BaseException, *, timed_out: bool) -> Outcome:
        """What a handler's exception means: the time was over, the process stops, or the handler failed."""
        verdict = task.retries.after(error, context.attempt, random.random())  # noqa: S311  - spreads retries, hides nothing
        if timed_out:
            seconds = task.timeout or 0.0
            thread_pool_timeout = isinstance(error, ThreadPoolTimeout)
            context.log.error(
                "task timed out", timeout=seconds, started=not thread_pool_timeout, sync=not task.is_async
            )
            if thread_pool_timeout:
                return outcome.thread_pool_timeout(task.identifier, seconds, self._threads.size)
            return outcome.timed_out(task.identifier, seconds, verdict)
        running = asyncio.current_task()
        if isinstance(error, ThreadPoolTimeout) or (running is not None and running.cancelling()):
            context.log.error(_LOST if context.lost else _STOPPED)
            return outcome.stopped(task.identifier)
        if isinstance(error, PermanentError | RetryLater):  # the handler's word, not its breaking
            context.log.warning("task failed", reason=str(error), permanent=verdict.permanent)
        else:
            context.log.error("task failed", exc_info=error)
        return outcome.raised(error, verdict)


def _checked(middleware: Iterable[TaskMiddleware]) -> tuple[TaskMiddleware, ...]:
    """A list of what can be called with a context and what comes next."""
    try:
        given = tuple(middleware)
    except TypeError:
        raise TaskDefinitionError(f"task_middleware={middleware!r}: give a list, such as [around]") from None
    for each in given:
        try:
            inspect.signature(each).bind(None, None)
        except (TypeError, ValueError):
            raise TaskDefinitionError(
                f"{each!r} is no middleware around tasks: give async def around(ctx, call_next), "
                "which returns await call_next()"
            ) from None
    return given


async def _close(context: JobContext) -> None:
    """Close what the handler has opened. Its work is done: that this fails does not fail it."""
    try:
        await context.aclose()
    except Exception as error:
        context.log.warning("a connection of the handler's could not be closed well", exc_info=error)


def refused(error: RequestError, verdict: Verdict = DEFAULT_RETRY) -> Outcome:
    """A job that could not be begun; the log has why."""
    logs.get_logger("jobfn.delivery").warning("refused", status=error.status_code, reason=error.message)
    return outcome.refused(error, verdict)


def names_of(tasks: Mapping[str, AnyTask]) -> str:
    """The tasks that there are, for whoever asked for another."""
    return ", ".join(sorted(tasks))
