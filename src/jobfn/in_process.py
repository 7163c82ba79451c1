"""Run tasks in the worker's process: ``jobfn service --local``. Jobs reach their handlers without HTTP.

This is the only module that knows both sides: it makes a function app a ``Deliverer``. Settlements, retries, leases,
queues and schedules are the worker's. There are no reports; the handler's outcome settles the job.
"""

import contextlib
from collections.abc import AsyncIterator
from uuid import UUID

from jobfn.database.records import Heartbeat, Job
from jobfn.database.store import JobStore
from jobfn.function.app import FunctionApp
from jobfn.function.context import JobContext, Progress
from jobfn.worker.delivery import Deliverer, DeliveryResult, Failed, Succeeded
from jobfn.worker.settings import ServiceSettings

_SUCCEEDED = Succeeded()


class InProcessDispatcher(Deliverer):
    """A ``Deliverer`` that runs the tasks of a function app.

    Args:
        app: The app.
        store: The job store, for the progress of jobs.
        settings: The worker's id and the duration of its leases.
    """

    def __init__(self, app: FunctionApp, store: JobStore, settings: ServiceSettings) -> None:
        self._app = app
        self._store = store
        self._worker_id = settings.worker_id
        self._lease_seconds = settings.lease_seconds

    async def deliver(self, job: Job) -> DeliveryResult:
        """See ``Deliverer.deliver``."""
        context = JobContext(
            task=job.task,
            job_id=job.id,
            worker_id=self._worker_id,
            database_id=_uuid(job.database_id),
            actor_id=_uuid(job.actor_id),
            entity_id=_uuid(job.entity_id),
            attempt=job.attempt,
        )

        async def send_heartbeat(progress: Progress) -> None:
            heartbeat = Heartbeat(self._worker_id, job.id, job.attempt, progress.fraction, progress.message)
            await self._store.heartbeat(heartbeat, lease_seconds=self._lease_seconds)

        context.on_progress = send_heartbeat
        report = (await self._app.execute(job.task, job.payload.encode(), context)).report
        if report.status == "success":
            return _SUCCEEDED if report.stored_result is None else Succeeded(report.stored_result)
        return Failed(report.error or "", report.permanent, report.retry_after_seconds)


@contextlib.asynccontextmanager
async def local_tasks(
    app: FunctionApp, store: JobStore, settings: ServiceSettings
) -> AsyncIterator[InProcessDispatcher]:
    """Run the app's lifespan around the block, with a dispatcher for its tasks."""
    async with app.lifespan_context():
        yield InProcessDispatcher(app, store, settings)


def local_settings(settings: ServiceSettings, app: FunctionApp) -> ServiceSettings:
    """Return the settings of a worker that claims this app's tasks only."""
    tasks = sorted(app.tasks) if settings.support_any else sorted(set(app.tasks) & set(settings.supported))
    return settings.model_copy(update={"support_any": False, "supported": tasks})


def _uuid(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)
