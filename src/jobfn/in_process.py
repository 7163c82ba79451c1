"""Run tasks in the worker's process: ``jobfn service --local``. Jobs reach their handlers without HTTP.

This is the only module that knows both sides: it makes a function app a ``Deliverer``. Settlements, retries, leases,
queues and schedules are the worker's. There are no reports; the handler's outcome settles the job.
"""

import asyncio
import contextlib
import contextvars
import functools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from time import perf_counter
from uuid import UUID

from jobfn.database.connection import retry
from jobfn.database.records import Heartbeat, Job
from jobfn.database.step_store import HeldJob
from jobfn.database.store import JobStore
from jobfn.errors import DurableError
from jobfn.function.app import FunctionApp
from jobfn.function.context import JobContext, Progress
from jobfn.function.durable.clients import JobNotHeld
from jobfn.function.durable.support import DurableSupport
from jobfn.function.isolated import run_in_context
from jobfn.telemetry import tracing
from jobfn.wire.delivery_batch import MAX_SECONDS, YIELD_SECONDS
from jobfn.wire.steps import StepPage, StepRecord
from jobfn.worker.batching import BatchSizes
from jobfn.worker.delivery import Deliverer, DeliveryResult, Failed, NotStarted, OnResult, Succeeded, Unreachable
from jobfn.worker.dispatch import AWAITED_RESULT_SECONDS
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.steps import InvalidStep, StepRecorder

_SUCCEEDED = Succeeded()


class LocalSteps:
    """A ``StepsClient`` without HTTP."""

    def __init__(self, recorder: StepRecorder, job: HeldJob) -> None:
        self._recorder = recorder
        self._job = job

    async def load(self, after: int) -> StepPage:
        """See ``StepsClient.load``."""
        return self._held(await self._until_recorded(lambda: self._recorder.load(self._job, after)))

    async def record(self, records: Sequence[StepRecord]) -> Sequence[StepRecord]:
        """See ``StepsClient.record``."""
        try:
            page = await self._until_recorded(lambda: self._recorder.record(self._job, records))
        except InvalidStep as error:
            raise DurableError(str(error)) from None
        return self._held(page).records

    async def _until_recorded(self, exchange: Callable[[], Awaitable[StepPage | None]]) -> StepPage | None:
        return await retry(exchange, event="step not recorded", only_transient=True)

    def _held(self, page: StepPage | None) -> StepPage:
        if page is None:
            raise JobNotHeld
        return page


class InProcessDispatcher(Deliverer):
    """A ``Deliverer`` that runs the tasks of a function app.

    Args:
        app: The app.
        store: The job store, for the progress of jobs.
        settings: The worker's id, the duration of its leases, and whether jobs of quick tasks share a slot.
        installation_id: Identity of the jobs schema.
    """

    def __init__(self, app: FunctionApp, store: JobStore, settings: ServiceSettings, installation_id: str) -> None:
        self._app = app
        self._store = store
        self._installation_id = installation_id
        self._steps = None if store.steps is None else StepRecorder(store.steps, lease_seconds=settings.lease_seconds)
        self._worker_id = settings.worker_id
        self._lease_seconds = settings.lease_seconds
        self._sizes = BatchSizes()
        self._is_batching = settings.delivery_batch
        self._running: dict[int, JobContext] = {}
        self._waiting: dict[int, bool] = {}  # jobs of batches that have not started: whether they were cancelled

    async def deliver(self, job: Job) -> DeliveryResult:
        """See ``Deliverer.deliver``."""
        context = JobContext(
            task=job.task,
            job_id=job.id,
            worker_id=self._worker_id,
            database_id=_uuid(job.database_id),
            actor_id=_uuid(job.actor_id),
            entity_id=_uuid(job.entity_id),
            execution_id=None if job.node is None else UUID(job.node.execution_id),
            node_name=None if job.node is None else job.node.name,
            attempt=job.attempt - job.snoozes,
            snoozes=job.snoozes,
            organization_id=_uuid(job.organization_id),
            installation_id=self._installation_id,
            created_at=None if job.created_at is None else str(job.created_at),
        )

        async def send_heartbeat(progress: Progress) -> None:
            heartbeat = Heartbeat(self._worker_id, job.id, job.attempt, progress.fraction, progress.message)
            await self._store.heartbeat(heartbeat, lease_seconds=self._lease_seconds)

        context.on_progress = send_heartbeat
        support = context._support = DurableSupport(None)  # noqa: SLF001  - not part of the context's public API
        if self._steps is not None and job.node is None:
            held = HeldJob(self._worker_id, job.id, job.attempt)
            support.open_steps = functools.partial(LocalSteps, self._steps, held)
            support.has_steps = job.attempt > 1
        if job.is_awaited:
            support.awaited_seconds = float(AWAITED_RESULT_SECONDS)
        started_at = perf_counter()
        self._running[job.id] = context
        try:
            outcome = await self._app.execute(job.task, job.payload.encode(), context)
        finally:
            del self._running[job.id]
        if context._runs_on:  # noqa: SLF001  - not part of the context's public API
            return Unreachable("the job was cancelled, and its handler runs on in its thread")
        report = outcome.report
        self._sizes.record(job.task, outcome.planned_seconds(perf_counter() - started_at))
        if report.status == "parked":
            return Succeeded(waiting_for=report.waiting_for)
        if report.status == "success" and job.node is not None:
            return Succeeded(report.stored_result, output=outcome.body.decode() if outcome.body != b"null" else "{}")
        if report.status == "success":
            return _SUCCEEDED if report.stored_result is None else Succeeded(report.stored_result)
        return Failed(
            report.error or "",
            report.permanent,
            report.retry_after_seconds,
            snooze_max_age_seconds=report.snooze_max_age_seconds,
            traceback=report.traceback,
        )

    def cancel(self, job: Job) -> bool:
        """See ``Deliverer.cancel``. The handler has the app's grace time to clean up."""
        if (context := self._running.get(job.id)) is not None:
            self._app.cancel(context)
        elif job.id in self._waiting:
            self._waiting[job.id] = True
        return False

    def batch_size(self, task: str, share: int) -> int:
        """See ``Deliverer.batch_size``."""
        return self._sizes.size(task, share) if self._is_batching else 1

    async def deliver_batch(self, jobs: Sequence[Job], on_result: OnResult) -> None:
        """See ``Deliverer.deliver_batch``. If it takes longer than ``MAX_SECONDS``, no further job is started."""
        waiting = deque(jobs)
        self._waiting.update((job.id, False) for job in jobs)

        def return_waiting() -> None:
            while waiting:
                job = waiting.popleft()
                del self._waiting[job.id]
                on_result(job, NotStarted())

        current = asyncio.current_task()
        timer = asyncio.get_running_loop().call_later(MAX_SECONDS, return_waiting)
        started_at = yielded_at = perf_counter()
        try:
            while waiting:
                job = waiting.popleft()
                if self._waiting.pop(job.id):
                    on_result(job, NotStarted())
                    continue
                # In its own context, as in its own task: handlers bind log fields and set variables.
                result = await run_in_context(contextvars.copy_context(), self._deliver_in_trace(job))
                on_result(job, result)
                now = perf_counter()
                if now - started_at > MAX_SECONDS or (current is not None and current.cancelling()):
                    return
                if now - yielded_at > YIELD_SECONDS:
                    await asyncio.sleep(0)
                    yielded_at = perf_counter()
        finally:
            timer.cancel()
            return_waiting()

    async def _deliver_in_trace(self, job: Job) -> DeliveryResult:
        tracing.attach(job.trace)
        return await self.deliver(job)


@contextlib.asynccontextmanager
async def local_tasks(
    app: FunctionApp, store: JobStore, settings: ServiceSettings
) -> AsyncIterator[InProcessDispatcher]:
    """Run the app's lifespan around the block, with a dispatcher for its tasks."""
    installation_id = await retry(store.installation_id, event="service not started", only_transient=True)
    limits = {name: task.retry_policy.max_attempts for name, task in app.tasks.items()}
    await retry(
        functools.partial(store.record_learned_attempts, limits), event="service not started", only_transient=True
    )
    async with app.lifespan_context():
        yield InProcessDispatcher(app, store, settings, installation_id)


def local_settings(settings: ServiceSettings, app: FunctionApp) -> ServiceSettings:
    """Return the settings of a worker that claims this app's tasks only."""
    tasks = sorted(app.tasks) if settings.support_any else sorted(set(app.tasks) & set(settings.supported))
    return settings.model_copy(update={"support_any": False, "supported": tasks})


def _uuid(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)
