"""Tasks in the worker's own process: what ``jobfn service --local`` runs. No HTTP lies between a job and its handler.

The one place that knows both sides: a function app becomes a ``Deliverer`` for the worker. Settlement, retries, leases,
queues and schedules are the worker's as ever; the response settles the job, as there is no report.
"""

import contextlib
from collections.abc import AsyncIterator
from uuid import UUID

from jobfn.database.records import Beat, Job, JobStore
from jobfn.function.app import FunctionApp
from jobfn.function.context import JobContext, Progress
from jobfn.worker.dispatch import Delivery, Failed, Succeeded
from jobfn.worker.settings import ServiceSettings, SettlementMode

_SUCCEEDED = Succeeded()


class InProcessDispatcher:
    """A function app's tasks as a ``Deliverer``.

    Args:
        app: Whose tasks.
        store: Hears how far a job is.
        settings: Who the worker is, and how long its leases are.
    """

    def __init__(self, app: FunctionApp, store: JobStore, settings: ServiceSettings) -> None:
        self._app = app
        self._store = store
        self._worker_id = settings.worker_id
        self._lease_seconds = settings.lease_seconds

    async def deliver(self, job: Job) -> Delivery:
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

        async def tell(progress: Progress) -> None:
            beat = Beat(self._worker_id, job.id, job.attempt, progress.fraction, progress.message)
            await self._store.beat(beat, lease_seconds=self._lease_seconds)

        context.on_progress = tell
        report = (await self._app.execute(job.task, job.payload.encode(), context)).report
        if report.status == "success":
            return _SUCCEEDED if report.stored_result is None else Succeeded(report.stored_result)
        return Failed(report.error or "", report.permanent, report.retry_after_seconds)


@contextlib.asynccontextmanager
async def local_tasks(
    app: FunctionApp, store: JobStore, settings: ServiceSettings
) -> AsyncIterator[InProcessDispatcher]:
    """The app's tasks, with its lifespan around the block."""
    async with app.lifespan_context():
        yield InProcessDispatcher(app, store, settings)


def local_settings(settings: ServiceSettings, app: FunctionApp) -> ServiceSettings:
    """The settings of a worker that runs this app's tasks: it takes no others, and no report is waited for."""
    known = sorted(app.tasks) if settings.support_any else sorted(set(app.tasks) & set(settings.supported))
    return settings.model_copy(update={"settle_on": SettlementMode.RESPONSE, "support_any": False, "supported": known})


def _uuid(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)
