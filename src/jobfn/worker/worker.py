"""The worker: takes jobs, delivers them, and sees that each one's end is written down.

It claims as many jobs as it has free slots, wakes at notifications, at the time of the next delayed job, and every
``poll_seconds`` in case a notification was lost. A slot is free again when the function has answered; the job itself
is settled by the function's report or, if none comes within ``report_grace_seconds``, by the response.
"""

import asyncio
import functools
from dataclasses import dataclass, replace

from jobfn import logs
from jobfn.database.connection import CONNECTION_LOST, until_connected
from jobfn.database.jobs import Job, JobStore, Settlement
from jobfn.worker.dispatch import Accepted, Dispatcher, Failed, Succeeded, Unreachable
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.settle import Settler

_RELEASE_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class _Delivery:
    """A job on its way: from its claim until its end is written down or left to a report.

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


class Worker:
    """See the module. One ``run`` per instance.

    Args:
        store: Where jobs come from.
        settler: Where their ends go.
        dispatcher: What delivers them.
        settings: Who this worker is and how much it takes.
        bell: Set by whoever knows that there may be work: a ``Listener``.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        settler: Settler,
        dispatcher: Dispatcher,
        settings: ServiceSettings,
        bell: asyncio.Event,
    ) -> None:
        self._store = store
        self._settler = settler
        self._dispatcher = dispatcher
        self._settings = settings
        self._bell = bell
        self._log = logs.get_logger("jobfn.worker").bind(worker=settings.worker_id)
        self._running: set[asyncio.Task[None]] = set()
        self._deliveries: dict[int, _Delivery] = {}
        self._settling: set[asyncio.Task[None]] = set()
        self._more_waits = True
        self._stopping = False

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set; then take nothing new, wait for what runs, release the rest."""
        loop = asyncio.create_task(self._claim_forever())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({loop, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            self._stopping = True
            self._bell.set()
            await self._wind_down(loop)
        if loop.done() and not loop.cancelled():
            loop.result()  # a failure of ours ends the process rather than leaving it idle

    def heard(self, settlement: Settlement) -> None:
        """A report was committed: the response of that delivery need not decide any more."""
        if settlement.worker_id != self._settings.worker_id:
            return
        self._log.info("job failed" if settlement.error else "job done", job=settlement.job_id, error=settlement.error)
        delivery = self._deliveries.get(settlement.job_id)
        if delivery is not None and settlement.attempt in {None, delivery.job.attempt}:
            delivery.reported = True
            if delivery.timer is not None:
                delivery.timer.cancel()
                del self._deliveries[settlement.job_id]

    async def _claim_forever(self) -> None:
        await until_connected(lambda: self._store.release(self._settings.worker_id))
        self._log.info("looking for jobs", tasks=self._settings.tasks or "all", concurrency=self._settings.concurrency)
        while not self._stopping:
            self._bell.clear()
            free = self._settings.concurrency - len(self._running)
            if free > 0:
                jobs = await until_connected(functools.partial(self._claim, free))
                self._more_waits = len(jobs) == free
                for job in jobs:
                    self._start(job)
            if self._more_waits:
                await self._bell.wait()
            else:
                await self._rest()

    async def _claim(self, limit: int) -> list[Job]:
        return await self._store.claim(self._settings.worker_id, tasks=self._settings.tasks, limit=limit)

    async def _rest(self) -> None:
        """Nothing is ready: sleep until the bell, the next delayed job, or the next poll."""
        seconds = self._settings.poll_seconds
        following = await until_connected(self._store.seconds_to_next)
        if following is not None:
            seconds = min(seconds, max(following, 0.0))
        try:
            async with asyncio.timeout(seconds):
                await self._bell.wait()
        except TimeoutError:
            pass

    def _start(self, job: Job) -> None:
        if self._stopping:
            return  # claimed while the signal came: released with the rest, its attempt given back
        delivery = self._deliveries[job.id] = _Delivery(job)
        running = asyncio.create_task(self._deliver(delivery))
        self._running.add(running)
        running.add_done_callback(self._ended)

    def _ended(self, running: "asyncio.Task[None]") -> None:
        self._running.discard(running)
        if not running.cancelled() and (error := running.exception()) is not None:
            self._log.error("a delivery broke off; its job is free again when the lock expires", exc_info=error)
        if self._more_waits:
            self._bell.set()

    async def _deliver(self, delivery: _Delivery) -> None:
        job = delivery.job
        done = Settlement(self._settings.worker_id, job.id, job.attempt)
        match await self._dispatcher.deliver(job):
            case Accepted():
                self._forget(delivery)
            case _ if delivery.reported:
                self._forget(delivery)
            case Unreachable(error):
                self._forget(delivery)
                await self._settle(replace(done, error=error))
            case Failed(error):
                self._wait_for_report(delivery, replace(done, error=error))
            case Succeeded():
                self._wait_for_report(delivery, done)

    def _wait_for_report(self, delivery: _Delivery, decision: Settlement) -> None:
        """The function has answered. Its report, on its way perhaps, goes before what the response said."""
        delivery.decision = decision
        seconds = self._settings.report_grace_seconds
        delivery.timer = asyncio.get_running_loop().call_later(seconds, self._decide, delivery)

    def _decide(self, delivery: _Delivery) -> None:
        """No report came in time: the response decides."""
        self._forget(delivery)
        if delivery.timer is not None and delivery.decision is not None:
            delivery.timer.cancel()
            settling = asyncio.create_task(self._settle(delivery.decision))
            self._settling.add(settling)
            settling.add_done_callback(self._settling.discard)

    def _forget(self, delivery: _Delivery) -> None:
        if self._deliveries.get(delivery.job.id) is delivery:  # not a later delivery of the same job
            del self._deliveries[delivery.job.id]

    async def _settle(self, settlement: Settlement) -> None:
        if await until_connected(lambda: self._settler.settle(settlement)):
            outcome = "job failed" if settlement.error else "job done"
            self._log.info(f"{outcome}, without a report", job=settlement.job_id, error=settlement.error)

    async def _wind_down(self, loop: asyncio.Task[None]) -> None:
        settings = self._settings
        clock = asyncio.get_running_loop().time
        deadline = clock() + settings.shutdown_seconds
        await asyncio.wait({loop}, timeout=1.0)
        loop.cancel()
        if self._running:
            self._log.info("waiting for running jobs", jobs=len(self._running))
            await asyncio.wait(set(self._running), timeout=deadline - clock())
        for running in set(self._running):
            running.cancel()
        for delivery in list(self._deliveries.values()):
            self._decide(delivery)
        if self._settling:
            await asyncio.wait(set(self._settling), timeout=max(deadline - clock(), 1.0))
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await until_connected(lambda: self._store.release(settings.worker_id))
        except (TimeoutError, *CONNECTION_LOST):
            self._log.error("jobs not released: no database; they are free again when their locks expire")
        self._log.info("worker stopped")
