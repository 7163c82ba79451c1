"""The worker: takes jobs, delivers them, and sees that each one's end is written down.

It claims as many jobs as it has free slots, wakes at notifications, at the time of the next delayed job, and every
``poll_seconds`` in case a notification was lost. A slot is free again when the function has answered; the job itself
is settled by the function's report or, if none comes within ``report_grace_seconds``, by the response.
"""

import asyncio
from dataclasses import dataclass

from jobfn import logs
from jobfn.database.connection import CONNECTION_LOST, until_connected
from jobfn.database.jobs import Job, JobStore, Settlement
from jobfn.worker.dispatch import Accepted, Dispatcher, Failed, Succeeded, Unreachable
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.settle import Settler

_RELEASE_SECONDS = 5.0


@dataclass(slots=True)
class _Unreported:
    """A delivery that was answered and whose report may still come."""

    settlement: Settlement
    timer: asyncio.TimerHandle


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
        self._running: dict[int, asyncio.Task[None]] = {}
        self._attempts: dict[int, int] = {}
        self._reported: set[int] = set()
        self._unreported: dict[int, _Unreported] = {}
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
        waiting = self._unreported.pop(settlement.job_id, None)
        if waiting is not None:
            waiting.timer.cancel()
        elif settlement.job_id in self._running:
            self._reported.add(settlement.job_id)

    async def _claim_forever(self) -> None:
        await until_connected(lambda: self._store.release(self._settings.worker_id))
        self._log.info("looking for jobs", tasks=self._settings.tasks or "all", concurrency=self._settings.concurrency)
        while not self._stopping:
            self._bell.clear()
            free = self._settings.concurrency - len(self._running)
            if free > 0:
                jobs = await until_connected(lambda free=free: self._claim(free))  # type: ignore[misc]
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
        self._attempts[job.id] = job.attempt
        running = asyncio.create_task(self._deliver(job))
        self._running[job.id] = running
        running.add_done_callback(lambda _task, job_id=job.id: self._ended(job_id))  # type: ignore[misc]

    def _ended(self, job_id: int) -> None:
        self._running.pop(job_id, None)
        self._reported.discard(job_id)
        if self._more_waits:
            self._bell.set()

    async def _deliver(self, job: Job) -> None:
        delivery = await self._dispatcher.deliver(job)
        settings = self._settings
        match delivery:
            case Unreachable(error) | Failed(error):
                self._log.warning("job failed", job=job.id, task=job.task, attempt=job.attempt, error=error)
                settlement = Settlement(settings.worker_id, job.id, job.attempt, error)
            case Succeeded():
                self._log.debug("job done", job=job.id, task=job.task, attempt=job.attempt)
                settlement = Settlement(settings.worker_id, job.id, job.attempt)
            case Accepted():
                self._log.debug("job accepted", job=job.id, task=job.task, attempt=job.attempt)
                return
        if job.id in self._reported:
            return
        if isinstance(delivery, Unreachable):
            await self._settle(settlement)
        else:
            timer = asyncio.get_running_loop().call_later(settings.report_grace_seconds, self._decide, job.id)
            self._unreported[job.id] = _Unreported(settlement, timer)

    def _decide(self, job_id: int) -> None:
        """No report came in time: the response decides."""
        waiting = self._unreported.pop(job_id, None)
        if waiting is not None:
            waiting.timer.cancel()
            settling = asyncio.create_task(self._settle(waiting.settlement))
            self._settling.add(settling)
            settling.add_done_callback(self._settling.discard)

    async def _settle(self, settlement: Settlement) -> None:
        if await until_connected(lambda: self._settler.settle(settlement)):
            self._log.info("settled without a report", job=settlement.job_id, error=settlement.error)

    async def _wind_down(self, loop: asyncio.Task[None]) -> None:
        settings = self._settings
        clock = asyncio.get_running_loop().time
        deadline = clock() + settings.shutdown_seconds
        await asyncio.wait({loop}, timeout=1.0)
        loop.cancel()
        if self._running:
            self._log.info("waiting for running jobs", jobs=len(self._running))
            await asyncio.wait(set(self._running.values()), timeout=deadline - clock())
        for running in list(self._running.values()):
            running.cancel()
        for job_id in list(self._unreported):
            self._decide(job_id)
        if self._settling:
            await asyncio.wait(set(self._settling), timeout=max(deadline - clock(), 1.0))
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await until_connected(lambda: self._store.release(settings.worker_id))
        except (TimeoutError, *CONNECTION_LOST):
            self._log.error("jobs not released: no database; they are free again when their locks expire")
        self._log.info("worker stopped")
