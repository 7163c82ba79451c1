"""Waiting for a job's end: ``await job.result(timeout=30)``.

A completed job's row is deleted, so its end can be told only while somebody looks, or where the task keeps it
(``@task(..., keep_result=True)``). On asyncpg a notification ends the wait at once; the other drivers look again, with
pauses that grow to a second. The wait begins after the commit: before it, no worker sees the job.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Self, TypeVar

from jobfn.client.drivers import Driver, driver_of
from jobfn.client.statements import Statement
from jobfn.client.validation import check_timeout
from jobfn.errors import EnqueueError, ResultTimeout, ResultUnavailable

CHANNEL = "jobs:result"
#: The first pause between two looks, how it grows, and how long it gets.
_FIRST_PAUSE_SECONDS, _GROWTH, _MAX_PAUSE_SECONDS = 0.05, 1.5, 1.0

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class JobResult(Generic[V]):
    """How a job ended.

    Attributes:
        job_id: Which.
        outcome: ``completed``, or ``failed``: for good, its attempts are used up.
        error: Why it failed; None where it did not.
        attempts: How often it was tried; None where it is not known any more.
        problem: Why there is no ``value``, where there is none.
    """

    job_id: int
    outcome: Literal["completed", "failed"]
    error: str | None = None
    attempts: int | None = None
    problem: str | None = None
    _value: Any = field(default=None, repr=False)

    @property
    def value(self) -> V:
        """What the handler returned, as JSON holds it.

        Raises:
            ResultUnavailable: The job failed, or its result was not kept; says which and why.
        """
        if self.problem is not None:
            raise ResultUnavailable(f"job {self.job_id}: {self.problem}")
        found: V = self._value
        return found


class _Job(int, Generic[V]):
    """A job's id, and what is needed to ask about it."""

    _connection: Any
    _schema: str
    _keep_result: bool | None

    @classmethod
    def of(cls, job_id: int, connection: Any, schema: str, keep_result: bool | None) -> Self:  # noqa: FBT001
        """The id of a job that was added on this connection."""
        job = cls(job_id)
        job._connection, job._schema, job._keep_result = connection, schema, keep_result
        return job

    def _waiter(self, connection: Any, seconds: float | None, *, is_async: bool) -> "_Waiter":
        check_timeout(seconds)
        connection = self._connection if connection is None else connection
        driver = driver_of(connection)
        if driver.is_async is not is_async:
            kind = "an async" if is_async else "a sync"
            raise EnqueueError(f"{driver.name} cannot wait here: give {kind} connection, as the job was added on")
        if driver.in_transaction(connection):
            raise ResultUnavailable(
                f"job {int(self)}: this connection is in a transaction, and no worker sees a job before its commit: "
                "commit first, or wait on another connection (result(on=...))"
            )
        statement = Statement("job_result", self._schema, (str(int(self)),))
        return _Waiter(int(self), driver, connection, statement, seconds, keep_result=self._keep_result)


class EnqueuedJob(_Job[V]):
    """The id of a job that was just added; an ``int``. Of an async connection."""

    async def result(self, *, timeout: float | None = None, on: Any = None) -> JobResult[V]:  # noqa: ASYNC109
        """Wait until the job has completed, or failed for good.

        Args:
            timeout: Seconds to wait at most. Default None: as long as it takes.
            on: The connection or pool to ask on, outside a transaction. Default: the one that the job was added on.

        Returns:
            The outcome. Its ``value`` is what the handler returned, where the task has ``keep_result=True``.

        Raises:
            ResultTimeout: The time is over; the job runs on.
            ResultUnavailable: The connection is in a transaction, or there is no trace of the job.
            EnqueueError: ``on`` is no connection that can be waited on here.
            ValueError: The timeout is no number of seconds, 0 or more.
            SchemaError: The schema is older than this jobfn, or the platform's own, and cannot tell.
        """
        waiter = self._waiter(on, timeout, is_async=True)
        async with waiter.notifications() as changed:
            for pause in waiter.pauses():
                changed.clear()
                result = waiter.look(await waiter.driver.value(waiter.connection, waiter.statement))
                await waiter.let_go_async()
                if result is not None:
                    return result
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(waiter.pause_of(pause)):
                        await changed.wait()
        raise waiter.too_late()


class SyncEnqueuedJob(_Job[V]):
    """The id of a job that was just added; an ``int``. Of a sync connection."""

    def result(self, *, timeout: float | None = None, on: Any = None) -> JobResult[V]:
        """Wait until the job has completed, or failed for good; this thread meanwhile does nothing else.

        Arguments, result and errors as ``EnqueuedJob.result``.
        """
        waiter = self._waiter(on, timeout, is_async=False)
        for pause in waiter.pauses():
            result = waiter.look(waiter.driver.value(waiter.connection, waiter.statement))
            waiter.let_go()
            if result is not None:
                return result
            time.sleep(waiter.pause_of(pause))
        raise waiter.too_late()


class _Waiter:
    """One wait: when to look, and what a look says."""

    def __init__(
        self,
        job_id: int,
        driver: Driver,
        connection: Any,
        statement: Statement,
        seconds: float | None,
        *,
        keep_result: bool | None,
    ) -> None:
        self.driver = driver
        self.connection = connection
        self.statement = statement
        self._job_id = job_id
        self._seconds = seconds
        self._keep_result = keep_result
        self._ends_at = None if seconds is None else time.monotonic() + seconds
        self._seen: dict[str, Any] | None = None

    def pauses(self) -> Iterator[float]:
        """The pauses between looks, as long as there is time; there is always time for one look."""
        pause = _MAX_PAUSE_SECONDS if self.driver.listens else _FIRST_PAUSE_SECONDS
        while True:
            yield pause
            if self._ends_at is not None and time.monotonic() >= self._ends_at:
                return
            pause = min(pause * _GROWTH, _MAX_PAUSE_SECONDS)

    def pause_of(self, seconds: float) -> float:
        """A pause that is no longer than the time that is left."""
        return seconds if self._ends_at is None else max(min(seconds, self._ends_at - time.monotonic()), 0.0)

    def look(self, told: str) -> JobResult[Any] | None:
        """What one look says; None: it has not ended."""
        found = json.loads(told)
        match found["state"]:
            case "completed":
                problem = found["problem"]
                return JobResult(self._job_id, "completed", problem=problem, _value=found["result"])
            case "failed":
                problem = f"it failed: {found['error']}"
                return JobResult(self._job_id, "failed", found["error"], found["attempts"], problem)
            case "gone":
                return self._gone()
        self._seen = found
        return None

    def too_late(self) -> ResultTimeout:
        """The error that the time is over."""
        seen = self._seen or {}
        last = f"; the last attempt said: {seen['error']}" if seen.get("error") else ""
        return ResultTimeout(
            f"job {self._job_id} is still {seen.get('state', 'there')} after {self._seconds:g} s{last}"
        )

    def _gone(self) -> JobResult[Any]:
        """Its row is gone and no result was kept."""
        if self._seen is None:
            help_ = "" if self._keep_result else "; @task(..., keep_result=True) keeps how a job ended"
            raise ResultUnavailable(
                f"there is no trace of job {self._job_id}: it ended before anybody looked, was removed, or its "
                f"transaction was rolled back{help_}"
            )
        problem = (
            "neither a report nor a response has brought its result"
            if self._keep_result
            else "its result was not kept: @task(..., keep_result=True) keeps it"
        )
        return JobResult(self._job_id, "completed", problem=problem)

    def let_go(self) -> None:
        """End the transaction that looking has begun."""
        if self.driver.end is not None:
            self.driver.end(self.connection)

    async def let_go_async(self) -> None:
        """As ``let_go``."""
        if self.driver.end is not None:
            await self.driver.end(self.connection)

    @contextlib.asynccontextmanager
    async def notifications(self) -> AsyncIterator[asyncio.Event]:
        """An event that is set when the job's result is there; where the driver cannot listen, it never is."""
        changed = asyncio.Event()
        if not self.driver.listens:
            yield changed
            return
        async with contextlib.AsyncExitStack() as stack:
            if hasattr(self.connection, "acquire"):
                self.connection = await stack.enter_async_context(self.connection.acquire())
            heard = _bell(changed, str(self._job_id))
            await self.connection.add_listener(CHANNEL, heard)
            stack.push_async_callback(self.connection.remove_listener, CHANNEL, heard)
            yield changed


def _bell(changed: asyncio.Event, job_id: str) -> Callable[..., None]:
    def heard(_connection: object, _pid: int, _channel: str, payload: str) -> None:
        if payload == job_id:
            changed.set()

    return heard
