"""A worker without a listener, and a deliverer whose batches do what the test says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from jobfn.database.connection import open_pool
from jobfn.database.native_store import NativeJobStore
from jobfn.database.records import Job
from jobfn.worker.delivery import Deliverer, DeliveryResult, OnResult, Succeeded
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.settlement import SettlementBatcher
from jobfn.worker.worker import Worker
from support.jobs import WORKER


class ScriptedBatches(Deliverer):
    """Delivers all jobs of a claim in one batch, as the test says. Single jobs wait for ``gate``.

    Attributes:
        alone: Ids of the jobs that were delivered alone.
        batch_started: Set when a batch starts.
    """

    def __init__(self, deliver_batch: Callable[[Sequence[Job], OnResult], Awaitable[None]]) -> None:
        self.gate, self.batch_started = asyncio.Event(), asyncio.Event()
        self.alone: list[int] = []
        self._deliver_batch = deliver_batch

    def batch_size(self, _task: str, _share: int) -> int:
        """See ``Deliverer.batch_size``."""
        return 50

    async def deliver(self, job: Job) -> DeliveryResult:
        """See ``Deliverer.deliver``."""
        self.alone.append(job.id)
        await self.gate.wait()
        return Succeeded()

    async def deliver_batch(self, jobs: Sequence[Job], on_result: OnResult) -> None:
        """See ``Deliverer.deliver_batch``."""
        self.batch_started.set()
        await self._deliver_batch(jobs, on_result)


@contextlib.asynccontextmanager
async def running_worker(
    database: str, deliverer: Deliverer, wake_event: asyncio.Event, **settings: object
) -> AsyncIterator[Worker]:
    """Run a worker without a listener: it claims when the block starts and when the event is set."""
    stop = asyncio.Event()
    async with open_pool(database, application_name="test", size=4) as connections:
        store = NativeJobStore(connections, "app_jobs")
        worker = Worker(
            store=store,
            settlements=SettlementBatcher(store),
            deliverer=deliverer,
            settings=ServiceSettings.from_environ({}, **({"worker_id": WORKER} | settings)),
            wake_event=wake_event,
        )
        running = asyncio.create_task(worker.run(stop))
        try:
            yield worker
        finally:
            stop.set()
            await running
