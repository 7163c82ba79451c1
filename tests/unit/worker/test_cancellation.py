"""How a worker stops the handlers of cancelled jobs, without a database."""

import asyncio
from collections.abc import Sequence

from jobfn.database.records import Job
from jobfn.worker.cancellation import MAX_ACCEPTED_JOBS, Cancellations
from jobfn.worker.delivery import Deliverer, DeliveryResult, Succeeded
from jobfn.worker.in_flight import InFlightJobs
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.settlement import SettlementBatcher
from jobfn.worker.telemetry.metrics import WorkerMetrics
from support.clock import ManualClock
from support.jobs import WORKER
from support.store import RecordingStore


class AllCancelled(RecordingStore):
    """A store in which every job was cancelled."""

    async def cancelled(self, jobs: Sequence[tuple[int, int]]) -> set[int]:
        return {job_id for job_id, _ in jobs}


class Messages(Deliverer):
    """Records the jobs whose functions get a message."""

    def __init__(self) -> None:
        self.ids: list[int] = []

    async def deliver(self, _job: Job) -> DeliveryResult:
        return Succeeded()

    async def cancel_accepted(self, job: Job) -> bool:
        self.ids.append(job.id)
        return True


async def test_number_of_remembered_accepted_jobs_is_limited() -> None:
    store, deliverer = AllCancelled(), Messages()
    settings = ServiceSettings.from_environ({}, worker_id=WORKER)
    jobs = InFlightJobs(SettlementBatcher(store), settings, call_later=ManualClock().call_later)
    cancellations = Cancellations(store, deliverer, jobs, deliveries={}, metrics=WorkerMetrics())
    for number in range(MAX_ACCEPTED_JOBS + 2):
        cancellations.on_accepted(Job(number, "t", "{}", 1, 25))
    running = asyncio.create_task(cancellations.run())
    cancellations.look()
    async with asyncio.timeout(10):
        while len(deliverer.ids) < MAX_ACCEPTED_JOBS:  # noqa: ASYNC110  - each message is sent in a separate task
            await asyncio.sleep(0)
    running.cancel()
    assert sorted(deliverer.ids) == list(range(2, MAX_ACCEPTED_JOBS + 2))
