"""The worker: claim jobs, deliver them to their functions, and settle them.

It claims as many jobs as it has free slots (``throttle.py`` decides for which tasks), and prefetches more if jobs are
quick (``prefetch.py``). A slot is an open request, which may carry several jobs of a quick task; it is free again when
the function has responded. The worker polls when it is notified, when the next delayed job is due, and every
``poll_interval_seconds`` in case a notification was lost. ``in_flight.py`` describes what happens to a job from its
claim to its settlement.
"""

import asyncio
import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from jobfn.database.connection import retry
from jobfn.database.records import Job, Settlement
from jobfn.database.store import JobStore
from jobfn.telemetry import logs
from jobfn.wire.delivery_batch import MAX_PAYLOAD_CHARACTERS
from jobfn.worker.cancellation import Cancellations
from jobfn.worker.delivery import Accepted, Busy, Deliverer, DeliveryResult, Failed, NotStarted, Succeeded, Unreachable
from jobfn.worker.in_flight import InFlightJob, InFlightJobs
from jobfn.worker.lease_renewer import LeaseRenewer
from jobfn.worker.prefetch import PREFETCH_TTL_SECONDS, Prefetch
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.settlement import SettlementBatcher
from jobfn.worker.telemetry.metrics import WorkerMetrics
from jobfn.worker.telemetry.settlement_log import log_unlocked
from jobfn.worker.throttle import ClaimRequest, Throttle
from jobfn.worker.turns import sort_in_turn

if TYPE_CHECKING:
    from jobfn.worker.slots import SlotPool

#: Time that a claim in progress has to return its jobs when the worker stops.
_CLAIM_SHUTDOWN_SECONDS = 1.0
#: Minimum time for the last settlements, even if the shutdown timeout has passed.
_FINAL_FLUSH_TIMEOUT_SECONDS = 5.0


class Worker:
    """Claims, delivers and settles jobs. ``run`` once per instance.

    Attributes:
        cancellations: Stops the handlers of cancelled jobs.
        ready: Set when the worker has reclaimed the jobs of its previous run and polls for new ones.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        settlements: SettlementBatcher,
        deliverer: Deliverer,
        settings: ServiceSettings,
        wake_event: asyncio.Event,
        metrics: WorkerMetrics | None = None,
        slots: "SlotPool | None" = None,
    ) -> None:
        self._store = store
        self._deliverer = deliverer
        self._settings = settings
        self._wake_event = wake_event
        self._metrics = metrics or WorkerMetrics()
        self._log = logs.get_logger("jobfn.worker").bind(worker=settings.worker_id)
        self._clock = asyncio.get_running_loop().time
        self._throttle = (
            Throttle(settings.concurrency, self._clock)
            if slots is None
            else slots.throttle(self._clock, self._use_slot)
        )
        self._prefetch = Prefetch(self._clock)
        self._jobs = InFlightJobs(settlements, settings, on_large_payload_removed=self._wake)
        self._prefetched = self._jobs.prefetched
        self._low_watermark = 0
        self._deliveries: dict[asyncio.Task[None], list[InFlightJob]] = {}  # one for each occupied slot
        self.cancellations = Cancellations(
            store, deliverer, self._jobs, deliveries=self._deliveries, metrics=self._metrics
        )
        self._leases = LeaseRenewer(
            store,
            worker_id=settings.worker_id,
            lease_seconds=settings.lease_seconds,
            leased_jobs=self._jobs.leased_jobs,
            on_not_held=self._jobs.on_not_held,
            on_lost=self.cancellations.look,
            clock=self._clock,
        )
        self._has_new_pauses = False
        self._self_woken = False
        self._stopping = False
        self.ready = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set, then drain: claim nothing new, finish what runs, release the rest."""
        claiming = asyncio.create_task(self._claim_forever())
        renewing = asyncio.create_task(self._leases.run())
        cancelling = asyncio.create_task(self.cancellations.run())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({claiming, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            self._stopping = True
            self._wake_event.set()
            await self._drain(claiming)
            renewing.cancel()
            cancelling.cancel()
        if claiming.done() and not claiming.cancelled():
            claiming.result()  # an unexpected error ends the process, instead of leaving it idle

    @property
    def in_flight(self) -> int:
        """Number of open requests to functions."""
        return len(self._deliveries)

    def find(self, job_id: int) -> Job | None:
        """Return the job with this id, if it is in flight here."""
        return self._jobs.find(job_id)

    def on_report(self, settlement: Settlement) -> None:
        """Record that a report was committed, so that the response no longer decides."""
        self._jobs.on_report(settlement)

    def on_pause(self, _payload: str = "") -> None:
        """Release the prefetched jobs that are paused now."""
        self._has_new_pauses = True
        self._wake()

    async def _claim_forever(self) -> None:
        reclaimed = await retry(
            lambda: self._store.reclaim(self._settings.worker_id), event="jobs not reclaimed", only_transient=True
        )
        await log_unlocked(self._log.warning, "job reclaimed: this worker died while it held the job", reclaimed)
        self.ready.set()
        tasks = self._settings.tasks
        limits = {"queues": self._settings.queues} if self._settings.queues else {}
        self._log.info(
            "looking for jobs",
            tasks="all" if tasks is None else tasks,
            concurrency=self._settings.concurrency,
            **limits,
        )
        while not self._stopping:
            if self._wake_event.is_set() and not self._self_woken:
                self._throttle.on_notification()
            self._self_woken = False
            self._wake_event.clear()
            await self._jobs.settlements.is_healthy.wait()
            if self._has_new_pauses:
                await self._release_paused()
            polled_at = self._clock()
            await self._claim_batches()
            await self._wait_for_work(polled_at)

    async def _claim_batches(self) -> None:
        """Claim until the slots are full, or no more jobs are ready for the free ones."""
        is_exhausted = False
        while not is_exhausted and not self._stopping:
            is_exhausted = True
            for request in self._throttle.plan(prefetch=self._prefetch_budget(), slow=self._prefetch.slow):
                jobs = await retry(functools.partial(self._claim, request), event="no jobs claimed")
                self._accept(jobs)
                if len(jobs) == request.limit or any(job.large_payload_size for job in jobs):
                    is_exhausted = False
                elif request.tasks is None and not request.exclude_tasks:
                    self._throttle.has_backlog = False
                    return
                elif not jobs and request.exclude_tasks and self._throttle.on_empty_claim():
                    is_exhausted = False
        # Poll as soon as a slot is free, because slots or a task's share of them were the limit.
        self._throttle.has_backlog = True

    def _prefetch_budget(self) -> int:
        """Return how many jobs to prefetch now: none above the low watermark, as small claims are not worth it.

        Jobs of slow tasks do not count: they may wait for long, and must not keep quick ones from being claimed.
        """
        size = self._prefetch.size()
        slow = self._prefetch.slow(self._prefetched_tasks)
        waiting = sum(each.job.task in slow for each in self._prefetched) if slow else 0
        self._low_watermark = size // 2 + waiting
        return size + waiting - len(self._prefetched) if len(self._prefetched) <= self._low_watermark else 0

    @property
    def _prefetched_tasks(self) -> set[str]:
        return {each.job.task for each in self._prefetched}

    async def _claim(self, request: ClaimRequest) -> list[Job]:
        await self._leases.catch_up()
        jobs = await self._store.claim(
            self._settings.worker_id,
            tasks=self._settings.tasks if request.tasks is None else request.tasks,
            limit=request.limit,
            lease_seconds=self._settings.lease_seconds,
            exclude_tasks=request.exclude_tasks,
            max_payload_bytes=self._settings.max_in_flight_bytes - self._jobs.large_payload_size,
        )
        self._metrics.record_claim(jobs)
        return jobs

    async def _wait_for_work(self, polled_at: float) -> None:
        """Sleep until the wake event, the next job due since the last poll, the end of a pause, or the next poll."""
        timeouts: list[float | None] = [self._settings.poll_interval_seconds]
        if self._throttle.free:
            next_due = await retry(
                lambda: self._store.seconds_until_next(since_seconds=self._clock() - polled_at),
                event="next due time unknown",
            )
            timeouts += [next_due, self._throttle.seconds_to_resume()]
        if self._prefetched:
            timeouts.append(PREFETCH_TTL_SECONDS)
        try:
            async with asyncio.timeout(max(min(timeout for timeout in timeouts if timeout is not None), 0.0)):
                await self._wake_event.wait()
        except TimeoutError:
            pass
        expired = self._prefetch.expired(self._prefetched_tasks)
        if expired:
            self._release_prefetched(lambda job: job.task in expired)

    def _accept(self, jobs: Sequence[Job]) -> None:
        """Start claimed jobs, and keep those prefetched for which no slot is free."""
        claimed = [self._jobs.add(job) for job in jobs]
        if self._stopping:  # the stop signal arrived during the claim
            for in_flight in claimed:
                in_flight.release()
            return
        self._prefetched.extend(claimed)
        if sort_in_turn(self._prefetched):
            self._prefetch.on_unequal_tenants()
        self._start_prefetched()

    def _start_prefetched(self) -> None:
        """Start prefetched jobs while one of them has a free slot."""
        while self._throttle.free and self._prefetched and not self._stopping and (batch := self._next_batch()):
            for in_flight in batch:
                in_flight.start()
            task = batch[0].job.task
            self._throttle.on_started(task)
            delivery = asyncio.create_task(self._deliver(batch))
            self._deliveries[delivery] = batch
            delivery.add_done_callback(functools.partial(self._on_delivered, task, batch, self._clock()))

    def _next_batch(self) -> list[InFlightJob]:
        """Remove and return the first prefetched job whose task has a free slot, and others that may share its request.

        Only first attempts share one: if the function dies, each job of the request has lost an attempt, and whichever
        killed it must not take the others down again.
        """
        first = next((each for each in self._prefetched if self._throttle.has_capacity(each.job.task)), None)
        if first is None:
            return []
        size = 1
        if first.is_batchable:
            share = math.ceil(len(self._prefetched) / self._throttle.free)
            size = self._deliverer.batch_size(first.job.task, share)
        return self._jobs.remove_prefetched(first, size, max_characters=MAX_PAYLOAD_CHARACTERS)

    async def _release_paused(self) -> None:
        self._has_new_pauses = False
        if self._prefetched:
            job_ids = [each.job.id for each in self._prefetched]
            paused = await retry(lambda: self._store.paused(job_ids), event="paused jobs not released")
            self._release_prefetched(lambda job: job.id in paused)

    def _release_prefetched(self, is_released: Callable[[Job], bool] = lambda _job: True) -> None:
        """Release prefetched jobs."""
        for in_flight in [each for each in self._prefetched if is_released(each.job)]:
            self._prefetched.remove(in_flight)
            in_flight.release()

    async def _deliver(self, batch: list[InFlightJob]) -> None:
        if len(batch) == 1:
            job = batch[0].job
            logs.job_ids.set(functools.partial(job.ids, self._settings.worker_id))  # this task is about this job only
            result = await self._deliverer.deliver(job)
            if isinstance(result, Accepted | Busy):
                await self._on_unsettled(batch[0], result)
            else:
                self._on_result(batch[0], result)
            return
        by_id = {in_flight.job.id: in_flight for in_flight in batch}
        unsettled: list[tuple[InFlightJob, Accepted | Busy]] = []

        def on_result(job: Job, result: DeliveryResult) -> None:
            in_flight = by_id[job.id]
            if isinstance(result, Accepted | Busy):
                unsettled.append((in_flight, result))
                return
            if isinstance(result, NotStarted):
                batch.remove(in_flight)  # its next delivery is another one
            self._on_result(in_flight, result)

        await self._deliverer.deliver_batch([in_flight.job for in_flight in batch], on_result)
        for in_flight, result in unsettled:
            await self._on_unsettled(in_flight, result)

    async def _on_unsettled(self, in_flight: InFlightJob, result: Accepted | Busy) -> None:
        worker_id, job = self._settings.worker_id, in_flight.job
        if isinstance(result, Busy):
            seconds = result.retry_after_seconds
            if seconds is not None and await retry(
                lambda: self._store.pause_limits(worker_id, job.id, job.attempt, seconds=seconds),
                event="limits not paused",
            ):
                result = Busy(result.error)  # the pause of the key is enough: jobs of others go on
            self._on_result(in_flight, result)
            return
        self._on_result(in_flight, result)
        if result.accepts_cancel:
            self.cancellations.on_accepted(job)
        await retry(
            lambda: self._store.mark_accepted(worker_id, job.id, job.attempt), event="job not marked as accepted"
        )
        in_flight.on_accepted()

    def _on_result(self, in_flight: InFlightJob, result: DeliveryResult) -> None:
        if in_flight.was_cancelled and (
            isinstance(result, NotStarted) or (in_flight.is_awaited and not isinstance(result, Unreachable))
        ):
            self.cancellations.on_ended(in_flight.job)
        if isinstance(result, NotStarted):
            self._on_not_started(in_flight)
            return
        task = in_flight.job.task
        if not isinstance(result, Busy | Unreachable):
            self._throttle.on_success(task)
        match result:
            case Succeeded() | Failed():
                in_flight.on_response(result)
            case Busy(error, retry_after_seconds):
                delay_seconds = self._throttle.on_busy(task, retry_after_seconds)
                ids = in_flight.job.ids(self._settings.worker_id)
                self._log.warning("function busy, job released", delay_seconds=delay_seconds, reason=error, **ids)
                in_flight.on_busy(delay_seconds)
            case Unreachable(error, awaits_report, permanent):
                in_flight.on_unreachable(error, awaits_report=awaits_report, permanent=permanent)

    def _on_not_started(self, in_flight: InFlightJob) -> None:
        """Let a job wait for a slot again, alone."""
        if not in_flight.on_not_started():
            return
        if self._stopping:
            in_flight.release()
            return
        self._jobs.return_prefetched(in_flight)
        self._start_prefetched()
        if self._prefetched:
            self._wake()  # so that it is released if no slot becomes free

    def _on_delivered(
        self, task: str, batch: list[InFlightJob], started_at: float, delivery: "asyncio.Task[None]"
    ) -> None:
        """Free the slot."""
        del self._deliveries[delivery]
        self._throttle.on_finished(task)
        self._prefetch.on_slot_freed(task, self._clock() - started_at, len(batch))
        self._start_prefetched()
        if delivery.cancelled():
            for in_flight in batch:
                in_flight.on_closed()
        elif (error := delivery.exception()) is not None:
            for in_flight in batch:
                if in_flight.is_delivering:
                    in_flight.abandon(error)
        if self._throttle.has_backlog and (self._throttle.free or len(self._prefetched) <= self._low_watermark):
            self._wake()

    def _use_slot(self) -> bool:
        """Use a slot that another database has freed. Return whether a claim looks for its job."""
        self._start_prefetched()
        if self._throttle.has_backlog and not self._stopping:
            self._wake()
            return True
        return False

    def _wake(self) -> None:
        if not self._wake_event.is_set():
            self._self_woken = True
            self._wake_event.set()

    async def _drain(self, claiming: asyncio.Task[None]) -> None:
        deadline = self._clock() + self._settings.shutdown_timeout_seconds
        await asyncio.wait({claiming}, timeout=_CLAIM_SHUTDOWN_SECONDS)
        claiming.cancel()
        self._release_prefetched()
        if self._deliveries:
            self._log.info("waiting for running jobs", jobs=len(self._deliveries))
            await asyncio.wait(set(self._deliveries), timeout=deadline - self._clock())
        for delivery in set(self._deliveries):
            delivery.cancel()
        await self._jobs.drain(max(deadline - self._clock(), _FINAL_FLUSH_TIMEOUT_SECONDS))
        self._log.info("worker stopped")
