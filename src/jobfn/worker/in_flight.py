"""The jobs that a worker has in hand: each from its claim until its end is written down, or left to a report.

A function's report, on its way perhaps, goes before what its response said: the response waits
``report_grace_seconds`` for it, and settles the job if none comes. Until an end is committed the job's lock is kept.
"""

import asyncio
import functools
from dataclasses import dataclass

from jobfn.database.records import Job, Settlement
from jobfn.telemetry import logs
from jobfn.worker.settings import ServiceSettings, SettlementMode
from jobfn.worker.settlement import SettlementBatcher

#: So long, at least, may the last settlements take.
_SETTLE_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class InFlightJob:
    """One job on its way.

    Attributes:
        job: The job.
        reported: Whether its report was committed.
        decision: What the response said, to be settled by ``timer`` unless a report comes.
        timer: Runs out when a report has had its time.
    """

    job: Job
    reported: bool = False
    decision: Settlement | None = None
    timer: asyncio.TimerHandle | None = None


class InFlightJobs:
    """See the module.

    Args:
        settler: Where ends go.
        settings: Who the worker is, and how long a report may take.
    """

    def __init__(self, settler: SettlementBatcher, settings: ServiceSettings) -> None:
        self._settler = settler
        self._settings = settings
        self._log = logs.get_logger("jobfn.worker").bind(worker=settings.worker_id)
        self._clock = asyncio.get_running_loop().time
        self._deliveries: dict[int, InFlightJob] = {}
        self._settling: dict[asyncio.Future[bool], Job] = {}

    def take(self, job: Job) -> InFlightJob:
        """A job was claimed."""
        delivery = self._deliveries[job.id] = InFlightJob(job)
        return delivery

    def held(self) -> list[Job]:
        """The jobs whose locks are this worker's to keep."""
        return [delivery.job for delivery in self._deliveries.values() if not delivery.reported]

    def known(self, job_id: int) -> Job | None:
        """The job of this id, while it is in hand."""
        delivery = self._deliveries.get(job_id)
        return None if delivery is None else delivery.job

    def heard(self, settlement: Settlement) -> None:
        """A report was committed: the response of that delivery need not decide any more."""
        if settlement.worker_id != self._settings.worker_id:
            return
        delivery = self._deliveries.get(settlement.job_id)
        if delivery is not None and settlement.attempt in {None, delivery.job.attempt}:
            delivery.reported = True
            if delivery.timer is not None:
                delivery.timer.cancel()
                del self._deliveries[settlement.job_id]

    def give_back(self, delivery: InFlightJob) -> None:
        """Nothing of it was sent: as if it had not been claimed."""
        job = delivery.job
        self._finish(delivery, Settlement(self._settings.worker_id, job.id, job.attempt, given_back=True))

    def answered(self, delivery: InFlightJob, decision: Settlement) -> None:
        """The function has answered. Its report goes first; where none was asked for, the response decides at once."""
        delivery.decision = decision
        if self._settings.settle_on is SettlementMode.RESPONSE:
            self._finish(delivery, decision)
            return
        seconds = self._settings.report_grace_seconds
        delivery.timer = asyncio.get_running_loop().call_later(seconds, self._decide, delivery)

    async def settle(self, delivery: InFlightJob, settlement: Settlement) -> None:
        """No report will come: write this down, and let go of the job.

        Raises:
            Exception: What the store refused with; the job is still in hand.
        """
        await self._settle_soon(delivery.job, settlement)
        self.forget(delivery)

    def abandon(self, delivery: InFlightJob, error: BaseException) -> None:
        """An error that nobody foresaw: the lock is kept alive no longer, so that the job is free when it expires."""
        self.forget(delivery)
        ids = delivery.job.ids(self._settings.worker_id)
        self._log.error("not settled; the job is free again when its lock expires", **ids, exc_info=error)

    def forget(self, delivery: InFlightJob) -> None:
        """Let go of a job: its end is written down, or its lock is somebody else's to keep."""
        if self._deliveries.get(delivery.job.id) is delivery:  # not a later delivery of the same job
            del self._deliveries[delivery.job.id]

    async def let_go(self, *, deadline: float) -> None:
        """End all that is left: by what the response said, or by freeing the job.

        Args:
            deadline: Of the shutdown, by the event loop's clock. The last settlements have a few seconds in any case.
        """
        for delivery in list(self._deliveries.values()):
            if delivery.decision is None:
                self._interrupt(delivery.job)
            else:
                self._decide(delivery)
        if not self._settling:
            return
        _, left = await asyncio.wait(set(self._settling), timeout=max(deadline - self._clock(), _SETTLE_SECONDS))
        for settling in left:
            ids = self._settling[settling].ids(self._settings.worker_id)
            self._log.error("not settled: no database; the job is free when its lease ends", **ids)
            settling.cancel()

    def _interrupt(self, job: Job) -> None:
        """Free a job that outlasts the shutdown, to run again at once.

        Its attempt counts: the function may still be at work on it, and the report of this delivery is told from that
        of the next one by the attempt. A job that was accepted (202) is left alone: its own signs of life keep it.
        """
        error = "the worker was stopped before the function answered"
        self._settle_soon(job, Settlement(self._settings.worker_id, job.id, job.attempt, error, delay_seconds=0.0))

    def _decide(self, delivery: InFlightJob) -> None:
        """No report came in time: the response decides."""
        if delivery.timer is None or delivery.decision is None:
            return  # it is being written down
        delivery.timer.cancel()
        delivery.timer = None
        self._finish(delivery, delivery.decision)

    def _finish(self, delivery: InFlightJob, settlement: Settlement) -> None:
        settling = self._settle_soon(delivery.job, settlement)
        settling.add_done_callback(functools.partial(self._settled, delivery))

    def _settled(self, delivery: InFlightJob, settling: "asyncio.Future[bool]") -> None:
        self.forget(delivery)
        if not settling.cancelled() and (error := settling.exception()) is not None:
            self.abandon(delivery, error)

    def _settle_soon(self, job: Job, settlement: Settlement) -> "asyncio.Future[bool]":
        settling = self._settler.submit(settlement, patient=True)
        self._settling[settling] = job
        settling.add_done_callback(self._written)
        return settling

    def _written(self, settling: "asyncio.Future[bool]") -> None:
        self._settling.pop(settling, None)
        if not settling.cancelled():
            settling.exception()  # which its waiter has seen
