"""The durable methods of ``JobContext``: ``await ctx.step("charge", charge_card, order)``.

They are thin, so that a function without durable calls loads nothing more.
"""

from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from jobfn.function.durable.support import DurableSupport, seconds_of

if TYPE_CHECKING:
    from jobfn.function.durable.children import CallableTask, ChildCall
    from jobfn.function.durable.run import DurableRun
    from jobfn.function.durable.transaction import TransactionContext
    from jobfn.function.retry_policy import RetryPolicy

R = TypeVar("R")


class DurableMethods:
    """Steps, sleeps, signals and children of a job: see ``docs/durable.md``.

    The handler runs from its top in every delivery. What was recorded in an earlier one is returned instead of
    executed, by its name: the same name must mean the same thing. Everything outside steps may run several times.
    """

    _durable: "DurableRun | None" = None
    _support: DurableSupport | None = None

    if TYPE_CHECKING:

        def ids(self) -> dict[str, str | int | None]:
            """Return the ids of the job: see ``JobContext``."""

    @overload
    def step(
        self, name: str, function: Callable[..., Awaitable[R]], *arguments: Any, retry: "RetryPolicy | None" = None
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def step(
        self, name: str, function: Callable[..., R], *arguments: Any, retry: "RetryPolicy | None" = None
    ) -> Coroutine[Any, Any, R]: ...
    def step(
        self, name: str, function: Callable[..., Any], *arguments: Any, retry: "RetryPolicy | None" = None
    ) -> Coroutine[Any, Any, Any]:
        """Run a function once, and keep its result for the later deliveries of the job.

        The step runs again only if its process dies before the result is stored. Its result must be JSON-serializable,
        at most 1 MiB; it is validated into the return annotation of the function, the first time as well.

        Args:
            name: The step's name, 1 to 190 characters without ``#``. A repetition gets a number: ``charge#2``.
            function: A sync or async function. A sync one runs in a thread.
            arguments: Its arguments.
            retry: Try again in this delivery, with this policy. When its attempts are used up, the failure is final.
                Default: the job's retries run the step again.

        Raises:
            StepFailed: The function raised an exception, which is the ``__cause__``. Uncaught, it fails the attempt. If
                the handler catches it and makes another durable call, the failure is final.
            DurableError: The call is invalid, or the worker does not record steps.
        """
        from jobfn.function.durable.step import run_step  # noqa: PLC0415  - see the module

        return run_step(self._run(), name, function, arguments, retry)

    def transaction(
        self, name: str, function: "Callable[..., Awaitable[R]]", *arguments: Any
    ) -> Coroutine[Any, Any, R]:
        """Run a step whose effect is in your own database exactly once: its record is committed with it.

        ``await function(connection, *arguments)`` runs in a transaction of ``ctx.db``. The jobs schema must be in the
        same database, and the role of ``ctx.db`` needs ``jobfn db migrate --grant-steps ROLE``.

        Args:
            name: As in ``step``.
            function: An async function of an asyncpg connection. It must not end the transaction.
            arguments: Its further arguments.

        Raises:
            StepFailed: As in ``step``. The transaction is rolled back.
            DurableError: The schema is not in this database, or the right is missing.
            Exception: The commit failed. Let it pass: the next delivery knows whether the step has been committed.
        """
        from jobfn.function.durable.transaction import run_transaction  # noqa: PLC0415  - as above

        return run_transaction(self._run(), cast("TransactionContext", self), name, function, arguments)

    def sleep(self, duration: timedelta | float, *, name: str = "sleep") -> Coroutine[Any, Any, None]:
        """End the delivery and go on after this time, by the database's clock. No process or connection waits.

        Args:
            duration: A timedelta, or seconds.
            name: The name of the sleep.
        """
        return self._run().sleep(name, {"seconds": max(seconds_of(duration), 0.0)})

    def sleep_until(self, time: datetime, *, name: str = "sleep") -> Coroutine[Any, Any, None]:
        """End the delivery and go on at this time, at once if it is past.

        Raises:
            DurableError: The time has no time zone.
        """
        return self._run().sleep_until(name, time)

    @overload
    def wait_for(
        self, event: str, *, timeout: timedelta | float | None = None, payload_type: type[R], name: str | None = None
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def wait_for(
        self,
        event: str,
        *,
        timeout: timedelta | float | None = None,
        payload_type: None = None,
        name: str | None = None,
    ) -> Coroutine[Any, Any, Any]: ...
    def wait_for(
        self,
        event: str,
        *,
        timeout: timedelta | float | None = None,
        payload_type: Any = None,
        name: str | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """End the delivery until a signal comes: ``app_jobs.signal('order-42', 'approved', '{"by": "ada"}')``.

        A signal that came before is returned at once. Several are returned in order, one by each wait.

        Args:
            event: The name of the signal.
            timeout: A timedelta, or seconds. Default: no deadline.
            payload_type: The type to validate the signal's payload into. Default: JSON types.
            name: The name of the wait. Default: ``wait:`` and the event.

        Returns:
            The payload of the signal.

        Raises:
            WaitTimeout: No signal came in time.
        """
        seconds = None if timeout is None else seconds_of(timeout)
        return self._run().wait_for(event, seconds, payload_type, name)

    def call(
        self,
        task: "CallableTask | str",
        payload: Any = None,
        *,
        queue: str | None = None,
        priority: int | None = None,
        max_attempts: int | None = None,
        delay: timedelta | float = 0.0,
        name: str | None = None,
    ) -> "ChildCall":
        """Run another task as a child job, and end the delivery until it has ended. Await it, or pass it to ``gather``.

        The child may run anywhere. It has the tenant, actor, entity and trace of this job.

        Args:
            task: The task or its identifier.
            payload: JSON types or a model.
            queue: Named queue of the child.
            priority: Default: this job's.
            max_attempts: Maximum number of attempts of the child. Default: 25.
            delay: A timedelta, or seconds, before the child may start.
            name: The name of the call. Default: ``call:`` and the task.

        Returns:
            An awaitable with the child's result: at most 64 KiB of JSON; None from a Node function.

        Raises:
            ChildFailed: The child has failed permanently, or was cancelled.
        """
        from jobfn.function.durable.children import ChildCall, child_spec  # noqa: PLC0415  - as above

        spec = child_spec(task, payload, queue=queue, priority=priority, max_attempts=max_attempts, delay=delay)
        return ChildCall(self._run(), spec, name)

    def gather(
        self, *awaitables: "ChildCall | Awaitable[Any]", return_exceptions: bool = False
    ) -> Awaitable[list[Any]]:
        """Run children and other awaitables together, and return their results in order.

        The delivery ends once until all of the children have ended, so prefer it to ``asyncio.gather``.

        Args:
            awaitables: Calls of ``call``; also steps, sleeps and waits.
            return_exceptions: Return exceptions as results, instead of raising the first one when all have ended.
        """
        from jobfn.function.durable.children import gather  # noqa: PLC0415  - as above

        return gather(self._run(), awaitables, return_exceptions=return_exceptions)

    def then(
        self,
        task: "CallableTask | str",
        payload: Any = None,
        *,
        queue: str | None = None,
        priority: int | None = None,
        max_attempts: int | None = None,
        delay: timedelta | float = 0.0,
    ) -> None:
        """Add a job when this one completes, in the same transaction, or not at all. Arguments as in ``call``."""
        from jobfn.function.durable.children import child_spec  # noqa: PLC0415  - as above

        self._run().add_then(
            child_spec(task, payload, queue=queue, priority=priority, max_attempts=max_attempts, delay=delay)
        )

    def version(self, name: str) -> Coroutine[Any, Any, bool]:
        """Return whether this run may take the new path of a change of the code: ``if await ctx.version("new-tax")``.

        False if the run had gone beyond this place when it first met it: then it began with the old code. The answer is
        kept for the later deliveries.
        """
        return self._run().version(name)

    def run(self, awaitable: Coroutine[Any, Any, R]) -> R:
        """Make a durable call from a sync handler: ``charge = ctx.run(ctx.step("charge", charge_card, order))``.

        Raises:
            DurableError: This is not the thread of a sync handler.
        """
        return self._run().run_from_thread(awaitable)

    async def _end_durable_calls(self) -> None:
        if self._durable is not None:
            await self._durable.complete()

    def _run(self) -> "DurableRun":
        if self._durable is None:
            from jobfn.function.durable.run import open_run  # noqa: PLC0415  - see the module

            self._durable = open_run(self._support, self.ids())
        return self._durable
