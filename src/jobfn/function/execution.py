"""Run one job through one task: validate the payload, call the handler, return a ``DeliveryOutcome``.

Both ways to run a task end here: a delivery over HTTP (``asgi_app.py``), and a worker that runs tasks in its own
process. Whatever a handler raises becomes an outcome.
"""

import asyncio
import contextlib
import functools
import inspect
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from jobfn.errors import PermanentError, RequestError, RetryLater, TaskDefinitionError, error_text
from jobfn.function import outcome as outcomes
from jobfn.function.cancellation import undo_cancellation
from jobfn.function.context import JobContext
from jobfn.function.database import DatabasePool
from jobfn.function.dependencies import ResourceRegistry
from jobfn.function.instrumentation import HandlerSpan
from jobfn.function.metrics import Instrumentation
from jobfn.function.outcome import DeliveryOutcome
from jobfn.function.retry_policy import DEFAULT_RETRY, NO_RETRY, RetryDecision
from jobfn.function.task import Task
from jobfn.function.threads import HandlerThreads, ThreadPoolTimeout
from jobfn.telemetry import logs

AnyTask = Task[..., Any]
#: ``async def middleware(ctx, call_next)``: awaits ``call_next()``, which returns the handler's result, and returns it.
TaskMiddleware = Callable[[JobContext, Callable[[], Awaitable[Any]]], Awaitable[Any]]


class Executor:
    """Runs tasks."""

    def __init__(
        self,
        *,
        max_threads: int,
        instrumentation: Instrumentation,
        resources: ResourceRegistry | None = None,
        middleware: Sequence[TaskMiddleware] = (),
        default_database_id: UUID | None = None,
        tracebacks: bool | None = None,
    ) -> None:
        self._instrumentation = instrumentation
        self._threads = HandlerThreads(max_threads)
        self._step_threads = HandlerThreads(max_threads)
        self._databases = DatabasePool()
        self._resources = resources or ResourceRegistry({})
        self._middleware = _check_middleware(middleware)
        self._default_database_id = default_database_id
        self._tracebacks = tracebacks

    def decode(self, task: AnyTask, body: bytes, context: JobContext) -> "Any | DeliveryOutcome":
        """Return the validated payload of a body, or the outcome of an invalid one."""
        try:
            return task.decode(body)
        except RequestError as error:
            return refused(error, NO_RETRY)  # the payload stays invalid
        except BaseException as error:
            context.log.error("payload validator crashed", exc_info=error)
            # the exception's message may hold values
            problem = f"validating {task.identifier}'s payload raised {type(error).__name__}: see the function's log"
            return outcomes.failed(500, problem)

    async def run(self, task: AnyTask, payload: Any, context: JobContext) -> DeliveryOutcome:
        """Run the task's handler."""
        if context.database_id is None:
            context.database_id = self._default_database_id
        context._bind_pool(self._databases)  # noqa: SLF001  - not part of the context's public API
        support = context._support  # noqa: SLF001
        if support is not None:
            support.bind(self._step_threads, self._instrumentation, is_async=task.is_async)
        context._handler, context._is_async = asyncio.current_task(), task.is_async  # noqa: SLF001
        timeout: asyncio.Timeout | None = None
        span = HandlerSpan(self._instrumentation, task.identifier, context)
        try:
            if task.is_async and task.timeout is None and not task.dependencies and not self._middleware:
                # most tasks: fewer calls than below, with the same effect
                result = await (task.handler(payload, context) if task.takes_context else task.handler(payload))
            elif task.timeout is None:
                result = await self._call(task, payload, context)
            else:
                async with asyncio.timeout(task.timeout) as timeout:
                    result = await self._call(task, payload, context)
            await context._end_durable_calls()  # noqa: SLF001
        except BaseException as error:  # noqa: BLE001  - a handler may raise anything, SystemExit included
            outcome = self._failure(task, context, error, timed_out=timeout is not None and timeout.expired())
        else:
            keep_seconds = task.keep_seconds if support is None else support.keep_seconds(task.keep_seconds)
            outcome = outcomes.succeeded(result, keep_seconds=keep_seconds)
            if outcome.problem is not None:
                context.log.error(outcome.problem)
        context._handler = None  # noqa: SLF001
        if context.cancelled:
            await undo_cancellation(context)
            outcome = outcomes.cancelled()
        try:
            if context._clients:  # noqa: SLF001  - as above
                await _close(context)
        finally:
            span.finish(outcome)
        return outcome if context._durable is None else outcome._replace(is_durable=True)  # noqa: SLF001

    async def aclose(self) -> None:
        """Close the database connections and stop the threads, without waiting for running sync handlers."""
        try:
            await self._databases.aclose()
        finally:
            self._threads.close()
            self._step_threads.close()

    async def _call(self, task: AnyTask, payload: Any, context: JobContext) -> Any:
        if task.dependencies or self._middleware:
            return await self._call_with_middleware(task, payload, context)
        return await self._call_handler(task, payload, context)

    async def _call_with_middleware(self, task: AnyTask, payload: Any, context: JobContext) -> Any:
        async def call_handler() -> Any:
            async with contextlib.AsyncExitStack() as stack:
                resources = await self._resources.resolve(task.dependencies, context, stack)
                return await self._call_handler(task, payload, context, resources)

        call: Callable[[], Awaitable[Any]] = call_handler
        for middleware in reversed(self._middleware):
            call = functools.partial(middleware, context, call)
        return await call()

    async def _call_handler(
        self, task: AnyTask, payload: Any, context: JobContext, resources: Mapping[str, Any] | None = None
    ) -> Any:
        arguments = (payload, context) if task.takes_context else (payload,)
        handler = functools.partial(task.handler, **resources) if resources else task.handler
        if task.is_async:
            return await handler(*arguments)
        return await self._threads.run(handler, *arguments)

    def _failure(self, task: AnyTask, context: JobContext, error: BaseException, *, timed_out: bool) -> DeliveryOutcome:
        """Return the outcome of an exception: a timeout, a shutdown, a lost lease, or the handler's own."""
        if context.cancelled:
            return outcomes.cancelled()
        durable = context._durable  # noqa: SLF001
        if durable is not None and durable.ends_with(error):
            if not durable.is_lost:
                return outcomes.parked(durable.waiting_for)
            context.lease_lost = True
            context.log.error("task cancelled: lease lost")
            return outcomes.failed(503, f"another delivery of this job runs {task.identifier}")
        decision = task.retry_policy.decide(error, context.attempt, random.random())  # noqa: S311  - jitter, not a secret
        if timed_out:
            return self._timed_out(task, context, decision, error)
        current = asyncio.current_task()
        if isinstance(error, ThreadPoolTimeout) or (current is not None and current.cancelling()):
            context.log.error("task cancelled: lease lost" if context.lease_lost else "task cancelled")
            return outcomes.failed(503, f"the function was stopped before {task.identifier} finished")
        if isinstance(error, PermanentError | RetryLater):  # raised on purpose: no traceback
            event = "task failed" if decision.snooze_max_age_seconds is None else "task snoozed"
            context.log.warning(event, reason=error_text(error), permanent=decision.permanent)
        else:
            context.log.error("task failed", exc_info=error)
        return outcomes.raised(error, decision, self._traceback(error, context))

    def _traceback(self, error: BaseException, context: JobContext) -> str | None:
        """Return the traceback of a failure, if the settings and the caller's rights allow to send it."""
        is_trusted = not context._is_db_refused  # noqa: SLF001  - not part of the context's public API
        if not (is_trusted if self._tracebacks is None else self._tracebacks) or isinstance(error, RetryLater):
            return None
        from jobfn.function.tracebacks import format_traceback  # noqa: PLC0415  - loaded with the first failure

        return format_traceback(error)

    def _timed_out(
        self, task: AnyTask, context: JobContext, decision: RetryDecision, error: BaseException
    ) -> DeliveryOutcome:
        seconds = task.timeout or 0.0
        is_started = not isinstance(error, ThreadPoolTimeout)
        context.log.error("task timed out", timeout=seconds, started=is_started, sync=not task.is_async)
        if is_started:
            problem = f"{task.identifier} did not finish within its timeout of {seconds:g} seconds"
            traceback = self._traceback(error, context) if task.is_async else None  # a thread's frames are not in it
            return outcomes.failed(504, problem, decision, traceback=traceback)
        problem = f"{task.identifier} did not start within its timeout of {seconds:g} seconds: "
        return outcomes.failed(504, f"{problem}all {self._threads.size} threads were busy (JOBFN_MAX_THREADS)")


def _check_middleware(middleware: Iterable[TaskMiddleware]) -> tuple[TaskMiddleware, ...]:
    try:
        functions = tuple(middleware)
    except TypeError:
        raise TaskDefinitionError(f"task_middleware={middleware!r} must be a list, for example [around]") from None
    for function in functions:
        try:
            inspect.signature(function).bind(None, None)
        except (TypeError, ValueError):
            raise TaskDefinitionError(
                f"{function!r} is not a task middleware: pass async def around(ctx, call_next), "
                "which returns await call_next()"
            ) from None
    return functions


async def _close(context: JobContext) -> None:
    """Close the handler's clients. An error does not fail the job, whose work is done."""
    try:
        await context.aclose()
    except Exception as error:
        context.log.warning("closing a client failed", exc_info=error)


def refused(error: RequestError, decision: RetryDecision = DEFAULT_RETRY) -> DeliveryOutcome:
    """Log an invalid request and return its outcome."""
    logs.get_logger("jobfn.delivery").warning("request refused", status=error.status_code, reason=error.message)
    return outcomes.refused(error, decision)
