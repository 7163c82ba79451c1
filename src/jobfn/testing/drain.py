"""``drain_jobs``: works a queue off in this process, with the real worker, until nothing is due.

Worker, callback server, scheduler and function app are those of production, joined without a network
(``inprocess.py``). A store between worker and database (``watched.py``) writes down what happens.
"""

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Mapping
from types import ModuleType
from typing import Any

import asyncpg

from jobfn.database.connection import pool
from jobfn.database.jobs import open_store
from jobfn.database.records import Outcome
from jobfn.function.app import FunctionApp, create_app
from jobfn.function.task import Task
from jobfn.http.client import Response
from jobfn.scheduler.scheduler import open_poller
from jobfn.testing.asgi_transport import InProcess
from jobfn.testing.clock import JobsClock
from jobfn.testing.database import SCHEMA, JobsDatabase
from jobfn.testing.recording_store import Ended, Noted, WatchedStore
from jobfn.wire import JOB_ATTEMPT, JOB_ID
from jobfn.worker.callback_app import create_callback_app
from jobfn.worker.callbacks import Callbacks
from jobfn.worker.dispatch import Dispatcher, Routes
from jobfn.worker.http_dispatch import callback_config
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.settlement import SettlementBatcher
from jobfn.worker.worker import Worker

__all__ = ["Ended", "RunJobs"]

WORKER_ID = "jobfn-tests"
#: A handler that has not ended when the time is over is not waited for any longer.
_SHUTDOWN_SECONDS = 0.1
#: A pool for claims, settlements, what the store itself asks, and the scheduler.
_POOL_SIZE = 4
#: A schedule that makes jobs by a clock that was set on makes them in so many rounds at most.
_MAX_ROUNDS = 1000


class RunJobs:
    """The fixture ``drain_jobs``.

    Args:
        database: Whose jobs.
    """

    def __init__(self, database: JobsDatabase) -> None:
        self._database = database

    async def __call__(
        self,
        functions: "ModuleType | FunctionApp | Task[..., Any]",
        *more: "Task[..., Any]",
        concurrency: int = 1,
        max_jobs: int = 1000,
        timeout_seconds: float = 60.0,
        **options: Any,
    ) -> list[Ended]:
        """Work until nothing is due by the test's clock, schedules included.

        Args:
            functions: A module with tasks, one task, or an app that ``create_app`` made.
            more: More tasks, after the first.
            concurrency: How many at a time. One by one they run, and end, in the order of priority, time and id.
            max_jobs: So many deliveries at most.
            timeout_seconds: How long all of it may take.
            options: For ``create_app``.

        Returns:
            How each delivery ended, in that order; empty when nothing was due.

        Raises:
            AssertionError: ``max_jobs`` were not enough: a job that enqueues itself, perhaps.
            TimeoutError: The time was not enough; says what was still running.
        """
        async with contextlib.AsyncExitStack() as stack:
            connections = await stack.enter_async_context(
                pool(self._database.dsn, application_name=WORKER_ID, size=_POOL_SIZE)
            )
            schema, clock = self._database.schema, self._database.clock
            store = WatchedStore(await open_store(connections, schema), connections, clock, limit=max_jobs)
            poller = await open_poller(connections, schema, scheduler_id=WORKER_ID, clock=clock.now)
            working = _working(store, _app_of(functions, *more, **options), concurrency)
            results = await stack.enter_async_context(working)
            try:
                async with asyncio.timeout(timeout_seconds):
                    for _ in range(_MAX_ROUNDS):
                        before = len(store.noted)
                        await _date_schedules(connections, clock)
                        await poller.poll()
                        await _until_idle(store)
                        if store.is_exhausted or len(store.noted) == before:
                            break
            except TimeoutError:
                running = ", ".join(f"{job.id} ({job.task})" for job in store.held) or "nothing"
                raise TimeoutError(f"not done after {timeout_seconds:g} s; still running: {running}") from None
        if store.is_exhausted:
            raise AssertionError(
                f"{max_jobs} deliveries, and there may be more: does a job enqueue itself? Else give a larger max_jobs="
            )
        return [_ended(noted, results.get((noted.job.id, noted.job.attempt))) for noted in store.noted]


async def _date_schedules(connections: "asyncpg.Pool[Any]", clock: JobsClock) -> None:
    """Schedules that are new, or changed, count from when that was by the test's clock."""
    async with connections.acquire() as connection, connection.transaction():
        for row in await connection.fetch(f"select id, rule_since from {SCHEMA}.scheduled_jobs where due_at is null"):  # noqa: S608  - a constant
            await connection.execute(
                f"update {SCHEMA}.scheduled_jobs set rule_since = $2 where id = $1",  # noqa: S608  - a constant
                row["id"],
                clock.at(row["rule_since"]),
            )


async def _until_idle(store: WatchedStore) -> None:
    store.ask()
    await store.idle.wait()


@contextlib.asynccontextmanager
async def _working(
    store: WatchedStore, app: FunctionApp, concurrency: int
) -> AsyncIterator[dict[tuple[int, int], Any]]:
    """Run a worker for this app; gives the handlers' results, by job and attempt."""
    settings = ServiceSettings.from_environ(
        {},
        gateway_url="http://functions",
        own_callback_url="http://callbacks/callback",
        worker_id=WORKER_ID,
        concurrency=concurrency,
        shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
    )
    settler = SettlementBatcher(store)
    results: dict[tuple[int, int], Any] = {}
    to_functions = _NotingAnswers(InProcess({"functions": app}), results)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(to_functions.aclose)
        dispatcher = Dispatcher(
            to_functions,
            routes=Routes(settings.gateway_url, {}),
            worker_id=WORKER_ID,
            callback_config=functools.partial(callback_config, settings, None),
            request_timeout_seconds=settings.request_timeout_seconds,
        )
        worker = Worker(
            store=store, settlements=settler, deliverer=dispatcher, settings=settings, wake_event=store.wake
        )
        callbacks = create_callback_app(
            Callbacks(settler, store, lease_seconds=settings.lease_seconds, on_report=worker.on_report)
        )
        app.use_report_transport(InProcess({"callbacks": callbacks}))
        await stack.enter_async_context(app.lifespan_context())
        stop = asyncio.Event()
        running = asyncio.create_task(worker.run(stop))
        stack.push_async_callback(asyncio.wait, {running})
        stack.callback(stop.set)
        running.add_done_callback(lambda _ended: store.idle.set())
        yield results
        if running.done():
            running.result()


class _NotingAnswers:
    """A ``Transport`` that remembers what functions answered."""

    def __init__(self, inner: InProcess, results: dict[tuple[int, int], Any]) -> None:
        self._inner = inner
        self._results = results

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> Response:
        """See ``Transport.post``."""
        answer = await self._inner.post(url, body=body, headers=headers, timeout_seconds=timeout_seconds)
        if answer.status == 200:
            self._results[int(headers[JOB_ID]), int(headers[JOB_ATTEMPT])] = json.loads(answer.body)
        return answer

    async def aclose(self) -> None:
        """See ``Transport.aclose``."""
        await self._inner.aclose()


def _ended(noted: Noted, result: Any) -> Ended:
    settlement, job = noted.settlement, noted.job
    outcome = settlement.outcome
    if outcome is Outcome.FAILED and noted.is_last:
        outcome = Outcome.FAILED_FOR_GOOD
    return Ended(
        job_id=job.id,
        task=job.task,
        payload=json.loads(job.payload),
        attempt=job.attempt,
        outcome=outcome.value,
        error=settlement.error,
        result=result if outcome is Outcome.COMPLETED else None,
        retry_at=noted.retry_at,
    )


def _app_of(
    functions: "ModuleType | FunctionApp | Task[..., Any]", *more: "Task[..., Any]", **options: Any
) -> FunctionApp:
    if isinstance(functions, FunctionApp):
        return functions
    if isinstance(functions, Task):
        return create_app(tasks=[functions, *more], **options)
    return create_app(functions, tasks=more, **options)
