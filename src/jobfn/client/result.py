"""Wait for a job's result: ``await job.result(timeout=30)``.

A completed job's row is deleted, so its end is visible only to a wait that has begun before, or if the task stores its
result (``@task(..., keep_result=True)``). On asyncpg a notification ends the wait at once; the other drivers poll, with
pauses that grow to a second. Commit before you wait: until then no worker sees the job.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Self, TypeVar

from jobfn.client.drivers import Driver, driver_for
from jobfn.client.statements import Statement
from jobfn.client.validation import validate_timeout
from jobfn.errors import EnqueueError, JobCancelled, JobExpired, ResultTimeout, ResultUnavailable
from jobfn.sql.pooler import is_pooled

CHANNEL = "jobs:result"
#: Pause after the first poll, growth factor of the next pauses, and maximum pause.
_FIRST_PAUSE_SECONDS, _PAUSE_GROWTH, _MAX_PAUSE_SECONDS = 0.05, 1.5, 1.0

#: Errors of values by outcome.
_ERRORS = {"cancelled": JobCancelled, "expired": JobExpired}

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class JobResult(Generic[V]):
    """How a job ended.

    Attributes:
        job_id: The job's id.
        outcome: ``completed``, ``failed``, ``cancelled`` or ``expired``. A job that has failed is not tried again.
        error: Why it failed, was cancelled or has expired; None if it completed.
        attempts: Number of attempts; None if it is no longer known.
        problem: Why ``value`` is not available; None if it is.
    """

    job_id: int
    outcome: Literal["completed", "failed", "cancelled", "expired"]
    error: str | None = None
    attempts: int | None = None
    problem: str | None = None
    _value: Any = field(default=None, repr=False)

    @property
    def value(self) -> V:
        """The handler's return value, as JSON.

        Raises:
            JobCancelled: The job was cancelled.
            JobExpired: The job was not started before its expiry.
            ResultUnavailable: The job failed, or its result was not stored.
        """
        if self.problem is not None:
            raise _ERRORS.get(self.outcome, ResultUnavailable)(f"job {self.job_id}: {self.problem}")
        value: V = self._value
        return value


class EnqueuedJobs(list[int]):
    """The ids of the jobs of one ``enqueue_many``, in the order of the payloads.

    Attributes:
        are_duplicates: Whether each of them existed, because of ``unique``.
    """

    are_duplicates: list[bool]

    @classmethod
    def create(cls, ids: list[int]) -> Self:
        """Return the ids that a statement returned, in which those of duplicates are negative."""
        jobs = cls(map(abs, ids))
        jobs.are_duplicates = [job_id < 0 for job_id in ids]
        return jobs


class _JobHandle(int, Generic[V]):
    """A job's id, with the connection that added it.

    Attributes:
        is_duplicate: Whether the job existed, because of ``unique``.
    """

    is_duplicate: bool
    _connection: Any
    _schema: str
    _keep_result: bool | None

    @classmethod
    def create(cls, job_id: int, connection: Any, schema: str, *, keep_result: bool | None) -> Self:
        """Return the handle of a job that was added on this connection. The id of a duplicate is negative."""
        job = cls(abs(job_id))
        job.is_duplicate = job_id < 0
        job._connection, job._schema, job._keep_result = connection, schema, keep_result
        return job

    def _waiter(self, connection: Any, timeout_seconds: float | None, *, is_async: bool) -> "_Waiter":
        validate_timeout(timeout_seconds)
        connection = self._connection if connection is None else connection
        driver = driver_for(connection)
        if driver.is_async is not is_async:
            kind = "async" if is_async else "sync"
            raise EnqueueError(f"the connection ({driver.name}) must be {kind}, like the one that added the job")
        if driver.in_transaction(connection):
            raise ResultUnavailable(
                f"job {int(self)}: the connection is in a transaction, and no worker sees a job before its commit: "
                "commit first, or wait on another connection (result(connection=...))"
            )
        statement = Statement("job_result", self._schema, (str(int(self)),))
        return _Waiter(int(self), driver, connection, statement, timeout_seconds, keep_result=self._keep_result)


class EnqueuedJob(_JobHandle[V]):
    """The id of a job that was added on an async connection; an ``int``."""

    async def result(self, *, timeout: float | None = None, connection: Any = None) -> JobResult[V]:  # noqa: ASYNC109
        """Wait until the job has completed, permanently failed, been cancelled or expired.

        Args:
            timeout: Maximum wait in seconds. Default None: no limit.
            connection: A connection or pool outside a transaction. Default None: the one that added the job.

        Returns:
            How the job ended. Its ``value`` is what the handler returned, if the task has ``keep_result=True``.

        Raises:
            ResultTimeout: The job has not ended within the timeout. It keeps running.
            ResultUnavailable: The connection is in a transaction, or there is no row and no stored result of the job.
            EnqueueError: ``connection`` is not an async connection.
            ValueError: The timeout is not a number of seconds, 0 or more.
            SchemaError: The schema is out of date, or is the platform's, which stores no results.
        """
        waiter = self._waiter(connection, timeout, is_async=True)
        async with waiter.notifications() as changed:
            while (result := await waiter.poll_async()) is None:
                pause_seconds = waiter.next_pause()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_seconds):
                        await changed.wait()
                changed.clear()
        return result


class SyncEnqueuedJob(_JobHandle[V]):
    """The id of a job that was added on a sync connection; an ``int``."""

    def result(self, *, timeout: float | None = None, connection: Any = None) -> JobResult[V]:
        """Block this thread until the job has completed, permanently failed, been cancelled or expired.

        Arguments, result and errors are those of ``EnqueuedJob.result``.
        """
        waiter = self._waiter(connection, timeout, is_async=False)
        while (result := waiter.poll()) is None:
            time.sleep(waiter.next_pause())
        return result


class _Waiter:
    """One wait for a job's result."""

    def __init__(
        self,
        job_id: int,
        driver: Driver,
        connection: Any,
        statement: Statement,
        timeout_seconds: float | None,
        *,
        keep_result: bool | None,
    ) -> None:
        self._driver = driver
        self._connection = connection
        self._statement = statement
        self._job_id = job_id
        self._timeout_seconds = timeout_seconds
        self._keep_result = keep_result
        self._deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self._pause_seconds = _MAX_PAUSE_SECONDS if driver.supports_listen else _FIRST_PAUSE_SECONDS
        self._last_state: dict[str, Any] | None = None

    def poll(self) -> JobResult[Any] | None:
        """Return the result; None if the job has not ended."""
        state = self._driver.fetch_value(self._connection, self._statement)
        if self._driver.rollback is not None:
            self._driver.rollback(self._connection)
        return self._parse(state)

    async def poll_async(self) -> JobResult[Any] | None:
        """Do the same as ``poll`` on an async connection."""
        state = await self._driver.fetch_value(self._connection, self._statement)
        if self._driver.rollback is not None:
            await self._driver.rollback(self._connection)
        return self._parse(state)

    def next_pause(self) -> float:
        """Return the seconds until the next poll, limited by the timeout.

        Raises:
            ResultTimeout: The timeout has expired.
        """
        pause_seconds = self._pause_seconds
        self._pause_seconds = min(pause_seconds * _PAUSE_GROWTH, _MAX_PAUSE_SECONDS)
        if self._deadline is None:
            return pause_seconds
        seconds_left = self._deadline - time.monotonic()
        if seconds_left > 0:
            return min(pause_seconds, seconds_left)
        state = self._last_state or {}
        error = f"; the last attempt failed: {state['error']}" if state.get("error") else ""
        raise ResultTimeout(
            f"job {self._job_id} is still {state.get('state')} after {self._timeout_seconds:g} s{error}"
        )

    @contextlib.asynccontextmanager
    async def notifications(self) -> AsyncIterator[asyncio.Event]:
        """Yield an event that is set when the job ends, or never if the driver cannot listen."""
        changed = asyncio.Event()
        if not self._driver.supports_listen:
            yield changed
            return

        def on_notification(_connection: object, _pid: int, _channel: str, payload: str) -> None:
            if payload == str(self._job_id):
                changed.set()

        async with contextlib.AsyncExitStack() as stack:
            if hasattr(self._connection, "acquire"):
                self._connection = await stack.enter_async_context(self._connection.acquire())
            if await is_pooled(self._connection):  # in transaction mode, no notification would arrive
                self._pause_seconds = _FIRST_PAUSE_SECONDS
                yield changed
                return
            await self._connection.add_listener(CHANNEL, on_notification)
            stack.push_async_callback(self._connection.remove_listener, CHANNEL, on_notification)
            yield changed

    def _parse(self, text: str) -> JobResult[Any] | None:
        state = json.loads(text)
        match state["state"]:
            case "completed":
                return JobResult(self._job_id, "completed", problem=state["storage_error"], _value=state["result"])
            case "failed":
                return self._ended(state.get("ended_as") or "failed", state["error"], state["attempts"])
            case "gone":
                return self._deleted()
        self._last_state = state
        return None

    def _ended(self, outcome: Literal["failed", "cancelled", "expired"], error: str, attempts: int) -> JobResult[Any]:
        """Return the result of a job that keeps its row."""
        match outcome:
            case "failed":
                problem = f"it failed: {error}"
            case "cancelled":
                problem = f"it was cancelled: {error}" if error else "it was cancelled"
            case "expired":
                problem = f"it {error}"  # "expired: ..."
        return JobResult(self._job_id, outcome, error, attempts, problem=problem)

    def _deleted(self) -> JobResult[Any]:
        """Return the result of a job that has no row and no stored result."""
        if self._last_state is None:
            hint = "" if self._keep_result else ": set @task(..., keep_result=True) to store how a job ended"
            raise ResultUnavailable(
                f"job {self._job_id} has no row and no stored result, because it ended before the wait began, was "
                f"removed, or its transaction was rolled back{hint}"
            )
        problem = (
            "neither its report nor its response contained the result"
            if self._keep_result
            else "its result was not stored: set @task(..., keep_result=True)"
        )
        return JobResult(self._job_id, "completed", problem=problem)
