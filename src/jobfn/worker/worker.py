"""The worker: takes jobs, delivers them, and sees that each one's end is written down.

It claims as many jobs as it has free slots (``throttle.py`` says of which tasks), and some ahead where jobs are quick
(``pace.py``). It wakes at notifications, at the
time of the next delayed job, and every ``poll_interval_seconds`` in case a notification was lost. A slot is free again when the
function has answered; how the job itself ends is ``in_flight.py``.
"""

import asyncio
import functools
from collections import deque
from dataclasses import replace

from jobfn.database.connection import until_connected
from jobfn.database.records import Job, JobStore, Settlement
from jobfn.telemetry import logs
from jobfn.worker.dispatch import Accepted, Busy, Deliverer, Failed, Succeeded, Unreachable
from jobfn.worker.in_flight import InFlightJob, InFlightJobs
from jobfn.worker.lease_renewer import LeaseRenewer
from jobfn.worker.prefetch import PREFETCH_TTL_SECONDS, Pace
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.settlement import SettlementBatcher
from jobfn.worker.telemetry.metrics import WorkerMetrics
from jobfn.worker.telemetry.settlement_log import log_unlocked
from jobfn.worker.throttle import Ask, Throttle


class Worker:
    """See the module. One ``run`` per instance.

    Args:
        store: Where jobs come from.
        settler: Where their ends go.
        deliverer: What takes them to their tasks.
        settings: Who this worker is and how much it takes.
        bell: Set by whoever knows that there may be work: a ``Listener``.
        measures: What is counted. Default: nobody looks.

    Attributes:
        at_work: Set when it has taken back what it held when it died, and looks for jobs.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        settler: SettlementBatcher,
        deliverer: Deliverer,
        settings: ServiceSettings,
        bell: asyncio.Event,
        measures: WorkerMetrics | None = None,
    ) -> None:
        self._store = store
        self._measures = measures or WorkerMetrics()
        self._deliverer = deliverer
        self._settings = settings
        self._bell = bell
        self._log = logs.get_logger("jobfn.worker").bind(worker=settings.worker_id)
        self._clock = asyncio.get_running_loop().time
        self._throttle = Throttle(settings.concurrency, self._clock)
        self._pace = Pace(self._clock)
        self._ahead: deque[InFlightJob] = deque()
        self._in_hand = InFlightJobs(settler, settings)
        self._low_watermark = 0
        self._leases = LeaseRenewer(
            store, worker_id=settings.worker_id, lease_seconds=settings.lease_seconds, held=self._in_hand.held
        )
        self._running: set[asyncio.Task[None]] = set()
        self._has_backlog = True
        self._self_woken = False
        self._stopping = False
        self.at_work = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set; then take nothing new, wait for what runs, free the rest."""
        loop = asyncio.create_task(self._claim_forever())
        keeping = asyncio.create_task(self._leases.run())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({loop, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            self._stopping = True
            self._bell.set()
            await self._drain(loop)
            keeping.cancel()
        if loop.done() and not loop.cancelled():
            loop.result()  # a failure of ours ends the process rather than leaving it idle

    @property
    def in_flight(self) -> int:
        """How many requests to functions are under way."""
        return len(self._running)

    def known(self, job_id: int) -> Job | None:
        """The job of this id, while this worker has it in hand."""
        return self._in_hand.known(job_id)

    def heard(self, settlement: Settlement) -> None:
        """A report was committed: the response of that delivery need not decide any more."""
        self._in_hand.heard(settlement)

    async def _claim_forever(self) -> None:
        taken_back = await until_connected(lambda: self._store.take_back(self._settings.worker_id))
        await log_unlocked(self._log.warning, "taken back: this worker held it when it died", taken_back)
        self.at_work.set()
        self._log.info("looking for jobs", tasks=self._settings.tasks or "all", concurrency=self._settings.concurrency)
        while not self._stopping:
            if self._bell.is_set() and not self._self_woken:
                self._throttle.on_notification()
            self._self_woken = False
            self._bell.clear()
            looked_at = self._clock()
            await self._fill()
            await self._rest(looked_at)

    async def _fill(self) -> None:
        """Claim until the slots are full, or nothing more is ready for those that are free."""
        found_all = False
        while not found_all and not self._stopping and (asks := self._throttle.plan(ahead=self._prefetch_budget())):
            found_all = True
            for ask in asks:
                jobs = await until_connected(functools.partial(self._claim, ask))
                found_all = found_all and len(jobs) < ask.limit
                if not jobs and ask.exclude_tasks:
                    self._throttle.on_empty_claim()
                for job in jobs:
                    self._take(job)
        # Where all slots are taken, or some task has all it may have, a slot that gets free is worth a look.
        self._has_backlog = not found_all or any(ask.exclude_tasks for ask in asks)

    def _prefetch_budget(self) -> int:
        """How many more jobs to take ahead now. Few at a time are not worth a claim of their own."""
        most = self._pace.ahead()
        self._low_watermark = most // 2
        return most - len(self._ahead) if len(self._ahead) <= self._low_watermark else 0

    async def _claim(self, ask: Ask) -> list[Job]:
        settings = self._settings
        tasks = settings.tasks if ask.only is None else ask.only
        jobs = await self._store.claim(
            settings.worker_id,
            tasks=tasks,
            limit=ask.limit,
            lease_seconds=settings.lease_seconds,
            exclude_tasks=ask.exclude_tasks,
        )
        self._measures.claimed(jobs)
        return jobs

    async def _rest(self, looked_at: float) -> None:
        """Sleep until the bell, the next delayed job, the end of a pause, or the next poll.

        Args:
            looked_at: When the look for ready jobs began: what became due since then was not seen.
        """
        waits: list[float | None] = [self._settings.poll_interval_seconds]
        if len(self._running) < self._settings.concurrency:
            following = await until_connected(
                lambda: self._store.seconds_to_next(looked_seconds_ago=self._clock() - looked_at)
            )
            waits += [following, self._throttle.seconds_to_resume()]
        if self._ahead:
            waits.append(PREFETCH_TTL_SECONDS)
        try:
            async with asyncio.timeout(max(min(wait for wait in waits if wait is not None), 0.0)):
                await self._bell.wait()
        except TimeoutError:
            pass
        if self._pace.is_stale:
            self._release_prefetched()

    def _take(self, job: Job) -> None:
        """Start a claimed job, or keep it until a slot is free."""
        delivery = self._in_hand.take(job)
        if self._stopping:  # claimed while the signal came
            self._in_hand.give_back(delivery)
        elif self._throttle.has_capacity(job.task):
            self._start(delivery)
        else:
            self._ahead.append(delivery)

    def _start_prefetched(self) -> None:
        """Start the first of those taken ahead whose task may have a slot."""
        for place, delivery in enumerate(self._ahead):
            if self._throttle.has_capacity(delivery.job.task):
                del self._ahead[place]
                self._start(delivery)
                return

    def _release_prefetched(self) -> None:
        while self._ahead:
            self._in_hand.give_back(self._ahead.popleft())

    def _start(self, delivery: InFlightJob) -> None:
        self._throttle.started(delivery.job.task)
        running = asyncio.create_task(self._deliver(delivery))
        self._running.add(running)
        running.add_done_callback(functools.partial(self._ended, delivery))

    def _ended(self, delivery: InFlightJob, running: "asyncio.Task[None]") -> None:
        self._running.discard(running)
        self._throttle.ended(delivery.job.task)
        self._pace.ended()
        if not self._stopping:
            self._start_prefetched()
        if not running.cancelled() and (error := running.exception()) is not None:
            self._in_hand.abandon(delivery, error)
        if self._has_backlog and len(self._ahead) <= self._low_watermark and not self._bell.is_set():
            self._self_woken = True
            self._bell.set()

    async def _deliver(self, delivery: InFlightJob) -> None:
        job = delivery.job
        logs.job_ids.set(functools.partial(job.ids, self._settings.worker_id))  # a delivery has a task of its own
        settlement = Settlement(self._settings.worker_id, job.id, job.attempt)
        answer = await self._deliverer.deliver(job)
        if not isinstance(answer, Busy | Unreachable):
            self._throttle.on_success(job.task)
        match answer:
            case Busy(error, retry_after_seconds):
                seconds = self._throttle.on_busy(job.task, retry_after_seconds)
                self._log.warning("busy, coming back later", seconds=seconds, said=error)
                given_back = replace(settlement, given_back=True, delay_seconds=seconds)
                await self._in_hand.settle(delivery, given_back)
            case Accepted():
                worker_id = self._settings.worker_id
                await until_connected(lambda: self._store.accepted(worker_id, job.id, job.attempt))
                self._in_hand.forget(delivery)  # from now on its own signs of life keep its lock
            case _ if delivery.reported:
                self._in_hand.forget(delivery)
            case Unreachable(error):
                await self._in_hand.settle(delivery, replace(settlement, error=error))
            case Failed(error, permanent, retry_after_seconds):
                failure = replace(settlement, error=error, permanent=permanent, delay_seconds=retry_after_seconds)
                self._in_hand.answered(delivery, failure)
            case Succeeded(kept):
                self._in_hand.answered(delivery, settlement if kept is None else replace(settlement, kept=kept))

    async def _drain(self, loop: asyncio.Task[None]) -> None:
        deadline = self._clock() + self._settings.shutdown_timeout_seconds
        await asyncio.wait({loop}, timeout=1.0)
        loop.cancel()
        self._release_prefetched()
        if self._running:
            self._log.info("waiting for running jobs", jobs=len(self._running))
            await asyncio.wait(set(self._running), timeout=deadline - self._clock())
        for running in set(self._running):
            running.cancel()
        await self._in_hand.let_go(deadline=deadline)
        self._log.info("worker stopped")
