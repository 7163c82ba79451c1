"""The claimed jobs of a worker: a state machine for each. ``in_flight_states.py`` describes the states."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from jobfn.database.records import Job, Settlement
from jobfn.telemetry import logs
from jobfn.worker.delivery import Failed, Succeeded
from jobfn.worker.in_flight_states import (
    ABANDONED,
    ACCEPTED,
    AWAITING_REPORT,
    DELIVERING,
    DONE,
    PREFETCHED,
    RELEASED,
    REPORTED,
    SETTLING,
    InFlightState,
    InvalidTransition,
    Timer,
)
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.settlement import CommitResult, SettlementBatcher

_SHUTDOWN_ERROR = "the worker was stopped before the function responded"


class InFlightJob:
    """A claimed job and its state.

    Attributes:
        was_returned: Whether its function did not start it when it was in a batch.
        was_cancelled: Whether the job was cancelled while its request was open.
        is_awaited: Whether its handler has ended when there is a result, because nobody closes the request.
    """

    __slots__ = ("_jobs", "_settlement", "_timer", "is_awaited", "job", "state", "was_cancelled", "was_returned")
    #: Set in AWAITING_REPORT and SETTLING.
    _settlement: Settlement

    def __init__(self, job: Job, jobs: "InFlightJobs") -> None:
        self.job = job
        self.state = PREFETCHED
        self._jobs = jobs
        self._timer: Timer | None = None
        self.was_returned = self.was_cancelled = self.is_awaited = False

    def start(self) -> None:
        """Enter DELIVERING: a request to the function begins."""
        self._require(PREFETCHED)
        self.state = DELIVERING

    def release(self) -> None:
        """Unlock the job without counting the attempt, because nothing was sent."""
        self._require(PREFETCHED)
        self._settle(self._new_settlement(released=True))

    def on_response(self, result: Succeeded | Failed) -> None:
        """Settle the job by its function's response, unless a report arrives within the grace period."""
        if self._finish_if_settled():
            return
        if isinstance(result, Succeeded):
            settlement = self._new_settlement(result=result.kept, output=result.output, waiting_for=result.waiting_for)
        else:
            settlement = self._new_settlement(
                error=result.error,
                permanent=result.permanent,
                delay_seconds=result.retry_after_seconds,
                snooze_max_age_seconds=result.snooze_max_age_seconds,
                traceback=result.traceback,
            )
        self._settle_unless_reported(settlement, awaits_report=result.awaits_report)

    def on_not_started(self) -> bool:
        """Return whether the job waits for a slot again, because its function did not start it."""
        if self._finish_if_settled():
            return False
        self.state = PREFETCHED
        self.was_returned = True
        return True

    def on_busy(self, delay_seconds: float) -> None:
        """Release the job for this long: its function accepts no more jobs at present (429, 503)."""
        if not self._finish_if_settled():
            self._settle(self._new_settlement(released=True, delay_seconds=delay_seconds))

    def on_unreachable(self, error: str, *, awaits_report: bool = False, permanent: bool = False) -> None:
        """Fail the attempt, because there was no response, unless a report arrives within the grace period."""
        if not self._finish_if_settled():
            settlement = self._new_settlement(error=error, permanent=permanent)
            self._settle_unless_reported(settlement, awaits_report=awaits_report)

    def on_accepted(self) -> None:
        """Leave the job to its function, which runs it in the background (202)."""
        if not self._finish_if_settled():
            self._finish(ACCEPTED)

    def on_report(self) -> None:
        """Record that a report of this attempt was committed."""
        if self.state is DELIVERING:
            self.state = REPORTED
        elif self.state is PREFETCHED:
            self._jobs.prefetched.remove(self)
            self._finish(DONE)
        elif self.state is AWAITING_REPORT:
            self._finish(DONE)
        else:
            self._require(REPORTED, SETTLING)

    def on_cancelled(self) -> bool:
        """Record that the job was cancelled, and so has ended. Return whether its handler may run."""
        self.was_cancelled = self.state is DELIVERING
        self.on_report()
        return self.was_cancelled

    def on_closed(self) -> None:
        """Forget a job that was settled before its request was closed."""
        if self.state is REPORTED:
            self._finish(DONE)

    def on_report_grace_expired(self) -> None:
        """Settle the job by its response: no report arrived in time."""
        self._require(AWAITING_REPORT)
        self._settle(self._settlement)

    def on_shutdown(self) -> None:
        """Settle the job now, whatever it waits for."""
        if self.state is PREFETCHED:
            self.release()
        elif self.state is DELIVERING:
            self._settle(self._new_settlement(error=_SHUTDOWN_ERROR, delay_seconds=0.0))
        elif self.state is AWAITING_REPORT:
            self.on_report_grace_expired()
        elif self.state is REPORTED:
            self._finish(DONE)
        else:
            self._require(SETTLING)

    @property
    def is_batchable(self) -> bool:
        """Whether the job may share a request with others: on its first attempt, if that is not the last.

        Not the node of a flow graph, whose output the response to a batch does not contain.
        """
        job = self.job
        return job.attempt == 1 < job.max_attempts and not self.was_returned and job.node is None

    @property
    def is_delivering(self) -> bool:
        """Whether the request to the function is open."""
        return self.state in {DELIVERING, REPORTED}

    def abandon(self, error: BaseException) -> None:
        """Stop renewing the lease after an unexpected error, so that the job is reclaimed when it expires."""
        self._require(DELIVERING, REPORTED, SETTLING)
        self._finish(ABANDONED)
        ids = self.job.ids(self._jobs.worker_id)
        self._jobs.log.error("job not settled: it is reclaimed when its lease expires", **ids, exc_info=error)

    def _require(self, *allowed: InFlightState) -> None:
        if self.state not in allowed:
            raise InvalidTransition(f"job {self.job.id} is {self.state}, not {' or '.join(allowed)}: this is a bug")

    def _finish_if_settled(self) -> bool:
        """Return whether a report or the shutdown was faster than the response, which then changes nothing."""
        if self.state is DELIVERING:
            return False
        if self.state is REPORTED:
            self._finish(DONE)
        else:
            self._require(SETTLING)
        return True

    def _new_settlement(self, **fields: Any) -> Settlement:
        job = self.job
        return Settlement(self._jobs.worker_id, job.id, job.attempt, node=job.node, **fields)

    def _settle(self, settlement: Settlement) -> None:
        self._cancel_timer()
        self.state = SETTLING
        self._settlement = settlement
        self._jobs.settlements.submit(settlement, self._on_committed, until_committed=True)

    def _settle_unless_reported(self, settlement: Settlement, *, awaits_report: bool) -> None:
        if not awaits_report:
            self._settle(settlement)
            return
        self.state = AWAITING_REPORT
        self._settlement = settlement
        self._timer = self._jobs.call_later(self._jobs.grace_seconds, self.on_report_grace_expired)

    def _on_committed(self, result: CommitResult) -> None:
        if self.state is ABANDONED:
            return
        if isinstance(result, Exception):
            self.abandon(result)
        else:
            self._finish(RELEASED if self._settlement.released else DONE)

    def _finish(self, state: InFlightState) -> None:
        self._cancel_timer()
        self.state = state
        self._jobs.remove(self)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class InFlightJobs:
    """The claimed jobs of a worker that have not reached a final state.

    Attributes:
        grace_seconds: Grace period for reports.
        prefetched: Jobs in PREFETCHED that wait for a slot, in the order of their claims.
        large_payload_size: Size of the large payloads together.
    """

    def __init__(
        self,
        settlements: SettlementBatcher,
        settings: ServiceSettings,
        *,
        call_later: Callable[[float, Callable[[], None]], Timer] | None = None,
        on_large_payload_removed: Callable[[], None] = lambda: None,
    ) -> None:
        self.settlements = settlements
        self.worker_id = settings.worker_id
        self.grace_seconds = settings.report_grace_seconds
        self.call_later = call_later or asyncio.get_running_loop().call_later
        self.log = logs.get_logger("jobfn.worker").bind(worker=settings.worker_id)
        self.prefetched: deque[InFlightJob] = deque()
        self.large_payload_size = 0
        self._on_large_payload_removed = on_large_payload_removed
        self._by_id: dict[int, InFlightJob] = {}
        self._emptied: asyncio.Event | None = None  # while draining

    def add(self, job: Job) -> InFlightJob:
        """Start to track a job that was just claimed."""
        older = self._by_id.get(job.id)
        if older is not None and older.job.created_at != job.created_at:
            older.on_report()  # a failover lost that job and its id was assigned again: its outcome changes nothing
        in_flight = self._by_id[job.id] = InFlightJob(job, self)
        self.large_payload_size += job.large_payload_size
        return in_flight

    def remove(self, in_flight: InFlightJob) -> None:
        """Stop tracking a job. A later attempt of the same job stays."""
        if size := in_flight.job.large_payload_size:
            self.large_payload_size -= size
            self._on_large_payload_removed()
        if self._by_id.get(in_flight.job.id) is in_flight:
            del self._by_id[in_flight.job.id]
            if self._emptied is not None and not self._by_id:
                self._emptied.set()

    def remove_prefetched(self, first: InFlightJob, limit: int, *, max_characters: int) -> list[InFlightJob]:
        """Remove a prefetched job, and the next ones of its task that may share its request.

        Args:
            first: The job.
            limit: Maximum number of jobs.
            max_characters: Maximum size of their payloads together. The first job may exceed it.
        """
        if limit == 1:
            self.prefetched.remove(first)
            return [first]
        batch: list[InFlightJob] = []
        others: deque[InFlightJob] = deque()
        task, characters = first.job.task, 0
        for in_flight in self.prefetched:
            job = in_flight.job
            is_included = in_flight is first or (len(batch) < limit and job.task == task and in_flight.is_batchable)
            if is_included and batch and characters + len(job.payload) > max_characters:
                is_included = False
            if is_included:
                batch.append(in_flight)
                characters += len(job.payload)
            else:
                others.append(in_flight)
        self.prefetched.clear()
        self.prefetched.extend(others)
        return batch

    def return_prefetched(self, in_flight: InFlightJob) -> None:
        """Add a job that was not started before those that have not been delivered yet."""
        index = next((i for i, each in enumerate(self.prefetched) if not each.was_returned), len(self.prefetched))
        self.prefetched.insert(index, in_flight)

    def find(self, job_id: int) -> Job | None:
        """Return the job with this id, if it is in flight."""
        in_flight = self._by_id.get(job_id)
        return None if in_flight is None else in_flight.job

    def get(self, job: Job) -> InFlightJob | None:
        """Return this attempt of a job, if it is in flight."""
        in_flight = self._by_id.get(job.id)
        return None if in_flight is None or in_flight.job.attempt != job.attempt else in_flight

    def leased_jobs(self) -> list[Job]:
        """Return the jobs whose leases this worker must renew."""
        return [in_flight.job for in_flight in self._by_id.values() if in_flight.state is not REPORTED]

    def on_report(self, settlement: Settlement) -> None:
        """Record that a report was committed, if it is about a job of this worker."""
        if settlement.worker_id != self.worker_id:
            return
        in_flight = self._by_id.get(settlement.job_id)
        if in_flight is not None and settlement.attempt in {None, in_flight.job.attempt}:
            in_flight.on_report()

    def on_not_held(self, job: Job) -> bool:
        """Handle a job that this worker does not hold any more. Return whether it is in flight without a reason.

        Most functions respond right after their report. If another process settled it, no event arrives here.
        """
        in_flight = self.get(job)
        if in_flight is None:
            return False
        if in_flight.state is AWAITING_REPORT:
            in_flight.on_report()
            return False
        return True

    async def drain(self, timeout_seconds: float) -> None:
        """Settle all jobs, wait for the commits, and abandon the jobs that are not committed in time."""
        self.prefetched.clear()
        for in_flight in list(self._by_id.values()):
            in_flight.on_shutdown()
        if not self._by_id:
            return
        self._emptied = asyncio.Event()
        try:
            await asyncio.wait_for(self._emptied.wait(), timeout_seconds)
        except TimeoutError:
            for in_flight in list(self._by_id.values()):
                ids = in_flight.job.ids(self.worker_id)
                self.log.error("job not settled: database unreachable, it is reclaimed when its lease expires", **ids)
                in_flight.state = ABANDONED
                self.remove(in_flight)
