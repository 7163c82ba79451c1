"""``drain_jobs``: run jobs in this process, with the real worker, until none is due.

Worker, callback server, scheduler and function app are those of production, connected without a network
(``asgi_transport.py``). A store between worker and database records the settlements (``recording_store.py``).
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import ModuleType
from typing import Any, Literal, cast

import asyncpg

from jobfn.database.connection import open_pool
from jobfn.database.open_store import open_store
from jobfn.database.store import JobStore
from jobfn.function.app import FunctionApp
from jobfn.function.task import Task
from jobfn.http.client import Response
from jobfn.scheduler.scheduler import open_poller
from jobfn.testing.app import app_of
from jobfn.testing.asgi_transport import ASGITransport
from jobfn.testing.buffered_transport import BufferedTransport
from jobfn.testing.clock import JobsClock
from jobfn.testing.database import SCHEMA, JobsDatabase
from jobfn.testing.memory_steps import RecordedStep
from jobfn.testing.recording_steps import Crashes
from jobfn.testing.recording_store import Record, RecordingStore
from jobfn.wire import JOB_ATTEMPT, JOB_ID
from jobfn.worker.callback_app import create_callback_app
from jobfn.worker.callbacks import Callbacks
from jobfn.worker.dispatch import Dispatcher
from jobfn.worker.http_dispatch import callback_configs
from jobfn.worker.routes import Routes
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.settlement import SettlementBatcher
from jobfn.worker.worker import Worker

WORKER_ID = "jobfn-tests"
#: Shutdown timeout: after ``timeout_seconds`` a handler gets no more time.
SHUTDOWN_TIMEOUT_SECONDS = 0.1
#: Connections for claims, settlements, the recording store and the scheduler.
_POOL_SIZE = 4
RunOutcome = Literal["completed", "failed", "permanently_failed", "snoozed", "parked", "released", "lost"]


@dataclass(frozen=True)
class JobRun:
    """An attempt that ``drain_jobs`` ran.

    Attributes:
        job_id: ``jobs.id``.
        task: The task identifier.
        payload: The job's payload.
        attempt: Number of the attempt.
        outcome: ``completed``; ``failed``: will be retried; ``permanently_failed``: ``PermanentError``, or the last
            attempt; ``snoozed``: ``RetryLater``; ``parked``: a durable handler waits; ``released``: the function was
            too busy; ``lost``: the test's crash.
        error: The error, if it failed.
        result: What the handler returned; None for background tasks.
        retry_at: When it is retried, or its wait ends, by the test's clock; None: not before a signal, or never.
        waiting_for: The names of the steps that a parked job waits for, such as ``wait:approved``.
        steps: What the delivery recorded, in order.
    """

    job_id: int
    task: str
    payload: Any
    attempt: int
    outcome: RunOutcome
    error: str | None = None
    result: Any = None
    retry_at: datetime | None = None
    waiting_for: tuple[str, ...] = ()
    steps: tuple[RecordedStep, ...] = ()


class DrainJobs:
    """The fixture ``drain_jobs``."""

    def __init__(self, database: JobsDatabase) -> None:
        self._database = database

    async def __call__(
        self,
        functions: "ModuleType | FunctionApp | Task[..., Any]",
        *more: "Task[..., Any]",
        concurrency: int = 1,
        max_jobs: int = 1000,
        timeout_seconds: float = 60.0,
        skip_sleeps: bool = True,
        skip_timeouts: bool = False,
        crash_in: str | Sequence[str] = (),
        crash_after: str | Sequence[str] = (),
        **options: Any,
    ) -> list[JobRun]:
        """Run jobs until none is due by the test's clock, including those of schedules.

        Durable handlers run until they end or wait for a signal. See ``JobsDatabase.signal``.

        Args:
            functions: A module with tasks, one task, or the app of ``create_app``.
            more: More tasks.
            concurrency: Maximum number of concurrent jobs. With 1 they run in the order of priority, time and id.
            max_jobs: Maximum number of attempts.
            timeout_seconds: Timeout of the whole call.
            skip_sleeps: If no job is due but one sleeps (``ctx.sleep``), move the test's clock to the end of its sleep.
            skip_timeouts: The same for the timeout of a wait for a signal.
            crash_in: Names of steps. The first delivery that runs such a step dies before the result is stored.
            crash_after: Names of steps. The first delivery that runs such a step dies when the result is stored.
            options: Options for ``create_app``.

        Returns:
            The attempts in the order in which they ended; empty if no job was due.

        Raises:
            AssertionError: ``max_jobs`` was reached: perhaps a job enqueues itself. Or no delivery recorded a step of
                ``crash_in`` or ``crash_after``.
            TimeoutError: ``timeout_seconds`` was reached; names the running jobs.
        """
        async with contextlib.AsyncExitStack() as stack:
            connections = await stack.enter_async_context(
                open_pool(self._database.dsn, application_name=WORKER_ID, size=_POOL_SIZE)
            )
            schema, clock = self._database.schema, self._database.clock
            crashes = Crashes(crash_in, crash_after)
            store = RecordingStore(
                await open_store(connections, schema), connections, clock, crashes, max_claims=max_jobs
            )
            skipped = [kind for kind, is_skipped in (("sleep", skip_sleeps), ("wait", skip_timeouts)) if is_skipped]
            poller = await open_poller(connections, schema, scheduler_id=WORKER_ID, clock=clock.now)
            app = app_of(functions, *more, **options)
            results = await stack.enter_async_context(_running_worker(store, app, concurrency))
            try:
                async with asyncio.timeout(timeout_seconds):
                    count = -1
                    while not store.is_exhausted and (len(store.records) != count or await store.skip_waits(skipped)):
                        count = len(store.records)
                        await _date_new_schedules(connections, clock)
                        await poller.poll()
                        store.wake()
                        await store.idle.wait()
            except TimeoutError:
                running = ", ".join(f"{job.id} ({job.task})" for job in store.claimed_jobs) or "nothing"
                raise TimeoutError(f"not done after {timeout_seconds:g} s; still running: {running}") from None
        if store.is_exhausted:
            raise AssertionError(
                f"max_jobs={max_jobs} was reached: raise it, unless a job enqueues itself or never stops sleeping"
            )
        steps = store.steps.recorded
        if crashes.remaining:
            names = ", ".join(dict.fromkeys(step.name for each in steps.values() for step in each)) or "none"
            raise AssertionError(f"no delivery recorded the step {crashes.remaining[0]!r}; recorded: {names}")
        return [_job_run(record, results, steps) for record in store.records]


async def _date_new_schedules(connections: "asyncpg.Pool[Any]", clock: JobsClock) -> None:
    """Date new and changed schedules by the test's clock."""
    async with connections.acquire() as connection, connection.transaction():
        changed = f"select id, rule_changed_at from {SCHEMA}.scheduled_jobs where due_at is null"  # noqa: S608  - a constant
        for row in await connection.fetch(changed):
            await connection.execute(
                f"update {SCHEMA}.scheduled_jobs set rule_changed_at = $2 where id = $1",  # noqa: S608  - a constant
                row["id"],
                clock.at(row["rule_changed_at"]),
            )


@contextlib.asynccontextmanager
async def _running_worker(
    store: RecordingStore, app: FunctionApp, concurrency: int
) -> AsyncIterator[dict[tuple[int, int], Any]]:
    """Run a worker for an app; yields the results of handlers, by job and attempt."""
    settings = ServiceSettings.from_environ(
        {},
        gateway_url="http://functions",
        own_callback_url="http://callbacks/callback",
        worker_id=WORKER_ID,
        concurrency=concurrency,
        shutdown_timeout_seconds=SHUTDOWN_TIMEOUT_SECONDS,
    )
    job_store = cast("JobStore", store)  # by __getattr__
    settler = SettlementBatcher(job_store)
    transport = _RecordingTransport(ASGITransport({"functions": app}))
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(transport.aclose)
        dispatcher = Dispatcher(
            transport,
            routes=Routes.from_settings(settings),
            worker_id=WORKER_ID,
            callback_config=callback_configs(settings, None, await job_store.installation_id(), records_steps=True),
            request_timeout_seconds=settings.request_timeout_seconds,
        )
        worker = Worker(
            store=job_store, settlements=settler, deliverer=dispatcher, settings=settings, wake_event=store.wake_event
        )
        callbacks = create_callback_app(
            Callbacks(settler, job_store, lease_seconds=settings.lease_seconds, on_report=worker.on_report)
        )
        app.use_report_transport(ASGITransport({"callbacks": callbacks}))
        await stack.enter_async_context(app.lifespan_context())
        stop = asyncio.Event()
        running = asyncio.create_task(worker.run(stop))
        stack.push_async_callback(asyncio.wait, {running})
        stack.callback(stop.set)
        running.add_done_callback(lambda _task: store.idle.set())
        yield transport.results
        if running.done():
            running.result()


class _RecordingTransport(BufferedTransport):
    """A ``Transport`` that records the results of handlers."""

    def __init__(self, inner: ASGITransport) -> None:
        self._inner = inner
        self.results: dict[tuple[int, int], Any] = {}

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> Response:
        """See ``Transport.post``."""
        response = await self._inner.post(url, body=body, headers=headers, timeout_seconds=timeout_seconds)
        if response.status == 200:
            self.results[int(headers[JOB_ID]), int(headers[JOB_ATTEMPT])] = json.loads(response.body)
        return response

    async def aclose(self) -> None:
        """See ``Transport.aclose``."""
        await self._inner.aclose()


def _job_run(
    record: Record,
    results: Mapping[tuple[int, int], Any],
    steps: Mapping[tuple[int, int], Sequence[RecordedStep]],
) -> JobRun:
    job, settlement = record.job, record.settlement
    delivery = (job.id, job.attempt)
    outcome: RunOutcome = "lost" if record.is_lost else settlement.outcome.value
    if record.is_last and outcome in {"failed", "snoozed"}:
        outcome = "permanently_failed"
    return JobRun(
        job_id=job.id,
        task=job.task,
        payload=json.loads(job.payload),
        attempt=job.attempt,
        outcome=outcome,
        error=settlement.error,
        result=results.get(delivery) if outcome == "completed" else None,
        retry_at=record.retry_at,
        waiting_for=record.waiting_for,
        steps=tuple(steps.get(delivery, ())),
    )
