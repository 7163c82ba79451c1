"""The state machine of a claimed job."""

import asyncio
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from jobfn.database.records import Job, Settlement
from jobfn.worker.dispatch import Failed, Succeeded
from jobfn.worker.in_flight import InFlightJob, InFlightJobs, InvalidTransition, JobState
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.settlement import SettlementBatcher
from support.clock import ManualClock
from support.jobs import WORKER
from support.store import RecordingStore

JOB = Job(7, "send_email", "{}", attempt=2)

EVENTS: dict[str, Callable[[InFlightJob], None]] = {
    "start": InFlightJob.start,
    "release": InFlightJob.release,
    "on_response": lambda job: job.on_response(Succeeded()),
    "on_busy": lambda job: job.on_busy(5.0),
    "on_unreachable": lambda job: job.on_unreachable("connection refused"),
    "on_accepted": InFlightJob.on_accepted,
    "on_report": InFlightJob.on_report,
    "on_grace_expired": InFlightJob.on_grace_expired,
    "on_shutdown": InFlightJob.on_shutdown,
    "abandon": lambda job: job.abandon(RuntimeError("unexpected")),
}
#: The events that lead to a state.
PATHS = {
    JobState.PREFETCHED: [],
    JobState.DELIVERING: ["start"],
    JobState.AWAITING_REPORT: ["start", "on_response"],
    JobState.REPORTED: ["start", "on_report"],
    JobState.SETTLING: ["start", "on_unreachable"],
    JobState.DONE: ["start", "on_report", "on_response"],
    JobState.RELEASED: ["release"],
    JobState.ACCEPTED: ["start", "on_accepted"],
    JobState.ABANDONED: ["start", "abandon"],
}
TRANSITIONS = {
    (JobState.PREFETCHED, "start"): JobState.DELIVERING,
    (JobState.PREFETCHED, "release"): JobState.SETTLING,
    (JobState.PREFETCHED, "on_report"): JobState.DONE,
    (JobState.PREFETCHED, "on_shutdown"): JobState.SETTLING,
    (JobState.DELIVERING, "on_response"): JobState.AWAITING_REPORT,
    (JobState.DELIVERING, "on_busy"): JobState.SETTLING,
    (JobState.DELIVERING, "on_unreachable"): JobState.SETTLING,
    (JobState.DELIVERING, "on_accepted"): JobState.ACCEPTED,
    (JobState.DELIVERING, "on_report"): JobState.REPORTED,
    (JobState.DELIVERING, "on_shutdown"): JobState.SETTLING,
    (JobState.DELIVERING, "abandon"): JobState.ABANDONED,
    (JobState.AWAITING_REPORT, "on_report"): JobState.DONE,
    (JobState.AWAITING_REPORT, "on_grace_expired"): JobState.SETTLING,
    (JobState.AWAITING_REPORT, "on_shutdown"): JobState.SETTLING,
    (JobState.REPORTED, "on_response"): JobState.DONE,
    (JobState.REPORTED, "on_busy"): JobState.DONE,
    (JobState.REPORTED, "on_unreachable"): JobState.DONE,
    (JobState.REPORTED, "on_accepted"): JobState.DONE,
    (JobState.REPORTED, "on_report"): JobState.REPORTED,
    (JobState.REPORTED, "on_shutdown"): JobState.DONE,
    (JobState.REPORTED, "abandon"): JobState.ABANDONED,
    (JobState.SETTLING, "on_response"): JobState.SETTLING,
    (JobState.SETTLING, "on_busy"): JobState.SETTLING,
    (JobState.SETTLING, "on_unreachable"): JobState.SETTLING,
    (JobState.SETTLING, "on_accepted"): JobState.SETTLING,
    (JobState.SETTLING, "on_report"): JobState.SETTLING,
    (JobState.SETTLING, "on_shutdown"): JobState.SETTLING,
    (JobState.SETTLING, "abandon"): JobState.ABANDONED,
}


class Worker:
    """The jobs in flight of a worker without I/O."""

    def __init__(self, settle_on: str = "report") -> None:
        self.clock = ManualClock()
        self.store = RecordingStore()
        self.settlements = SettlementBatcher(self.store)
        settings = ServiceSettings.from_environ({}, worker_id=WORKER, settle_on=settle_on, report_grace_seconds=5.0)
        self.jobs = InFlightJobs(self.settlements, settings, call_later=self.clock.call_later)

    def claim(self, job: Job = JOB) -> InFlightJob:
        in_flight = self.jobs.add(job)
        self.jobs.prefetched.append(in_flight)
        return in_flight

    async def committed(self) -> list[Settlement]:
        """Wait for the commits; return the settlements."""
        await self.settlements.drain()
        await asyncio.sleep(0)  # the commits' callbacks
        return [settlement for batch in self.store.batches for settlement in batch]


@pytest.fixture
async def worker() -> Worker:
    return Worker()


async def job_in(worker: Worker, state: JobState) -> InFlightJob:
    job = worker.claim()
    for event in PATHS[state]:
        EVENTS[event](job)
    if state is JobState.RELEASED:
        await worker.committed()
    assert job.state is state
    return job


@pytest.mark.parametrize(("state", "event"), TRANSITIONS)
async def test_allowed_event_changes_the_state(worker: Worker, state: JobState, event: str) -> None:
    job = await job_in(worker, state)
    EVENTS[event](job)
    assert job.state is TRANSITIONS[state, event]
    is_final = job.state in {JobState.DONE, JobState.RELEASED, JobState.ACCEPTED, JobState.ABANDONED}
    assert (worker.jobs.find(JOB.id) is None) is is_final


@pytest.mark.parametrize(
    ("state", "event"), [(state, event) for state in JobState for event in EVENTS if (state, event) not in TRANSITIONS]
)
async def test_other_events_are_invalid(worker: Worker, state: JobState, event: str) -> None:
    job = await job_in(worker, state)
    with pytest.raises(InvalidTransition, match=f"job 7 is {state}, not .*: this is a bug"):
        EVENTS[event](job)
    assert job.state is state


@pytest.mark.parametrize(
    ("path", "settlement", "final"),
    [
        (["release"], Settlement(WORKER, 7, 2, released=True), JobState.RELEASED),
        (["on_shutdown"], Settlement(WORKER, 7, 2, released=True), JobState.RELEASED),
        (
            ["start", "on_busy"],
            Settlement(WORKER, 7, 2, released=True, delay_seconds=5.0),
            JobState.RELEASED,
        ),
        (["start", "on_unreachable"], Settlement(WORKER, 7, 2, error="connection refused"), JobState.DONE),
        (["start", "on_response", "on_grace_expired"], Settlement(WORKER, 7, 2), JobState.DONE),
        (["start", "on_response", "on_shutdown"], Settlement(WORKER, 7, 2), JobState.DONE),
        (
            ["start", "on_shutdown"],
            Settlement(WORKER, 7, 2, error="the worker was stopped before the function answered", delay_seconds=0.0),
            JobState.DONE,
        ),
    ],
)
async def test_settlement_is_committed_once(
    worker: Worker, path: list[str], settlement: Settlement, final: JobState
) -> None:
    job = worker.claim()
    for event in path:
        EVENTS[event](job)
    assert worker.jobs.leased_jobs() == [JOB], "the lease is renewed until the commit"
    assert await worker.committed() == [settlement]
    assert job.state is final
    assert worker.jobs.leased_jobs() == []


async def test_failed_response_fails_the_attempt(worker: Worker) -> None:
    job = worker.claim()
    job.start()
    job.on_response(Failed("boom", permanent=True, retry_after_seconds=60.0))
    job.on_grace_expired()
    assert await worker.committed() == [Settlement(WORKER, 7, 2, "boom", permanent=True, delay_seconds=60.0)]


async def test_response_settles_after_the_grace_period(worker: Worker) -> None:
    job = await job_in(worker, JobState.AWAITING_REPORT)
    worker.clock.advance(4.9)
    states = [job.state]
    worker.clock.advance(0.1)
    assert [*states, job.state] == [JobState.AWAITING_REPORT, JobState.SETTLING]


@pytest.mark.parametrize("event", ["on_report", "on_shutdown"])
async def test_grace_timer_is_cancelled_by_an_earlier_event(worker: Worker, event: str) -> None:
    job = await job_in(worker, JobState.AWAITING_REPORT)
    EVENTS[event](job)
    worker.clock.advance(5.0)
    assert len(await worker.committed()) == (event == "on_shutdown")


async def test_response_settles_at_once_without_reports() -> None:
    worker = Worker(settle_on="response")
    job = worker.claim()
    job.start()
    job.on_response(Succeeded())
    assert job.state is JobState.SETTLING
    assert await worker.committed() == [Settlement(WORKER, 7, 2)]


async def test_report_removes_a_prefetched_job(worker: Worker) -> None:
    job = worker.claim()
    job.on_report()
    assert list(worker.jobs.prefetched) == []


async def test_rejected_settlement_abandons_the_job(worker: Worker) -> None:
    worker.store.error = ValueError("rejected")
    job = await job_in(worker, JobState.SETTLING)
    with capture_logs() as lines:
        await worker.committed()
    assert job.state is JobState.ABANDONED
    assert [(line["event"], line["job"], line["attempt"], line["worker"]) for line in lines] == [
        ("job not settled: it is reclaimed when its lease expires", 7, 2, WORKER)
    ]


async def test_commit_after_an_unexpected_error_keeps_the_job_abandoned(worker: Worker) -> None:
    job = await job_in(worker, JobState.SETTLING)
    job.abandon(RuntimeError("unexpected"))
    await worker.committed()
    assert job.state is JobState.ABANDONED


@pytest.mark.parametrize(
    ("report", "state"),
    [
        (Settlement(WORKER, 7, 2), JobState.REPORTED),
        (Settlement(WORKER, 7, None), JobState.REPORTED),
        (Settlement(WORKER, 7, 1), JobState.DELIVERING),
        (Settlement(WORKER, 8, 2), JobState.DELIVERING),
        (Settlement("another-worker", 7, 2), JobState.DELIVERING),
    ],
)
async def test_report_is_matched_by_worker_job_and_attempt(worker: Worker, report: Settlement, state: JobState) -> None:
    job = await job_in(worker, JobState.DELIVERING)
    worker.jobs.on_report(report)
    assert job.state is state


async def test_lease_of_a_reported_job_is_not_renewed(worker: Worker) -> None:
    await job_in(worker, JobState.REPORTED)
    assert worker.jobs.leased_jobs() == []
    assert worker.jobs.find(7) == JOB


async def test_next_attempt_stays_when_the_previous_one_ends(worker: Worker) -> None:
    first = await job_in(worker, JobState.REPORTED)
    retry = Job(7, "send_email", "{}", attempt=3)
    worker.claim(retry)
    first.on_response(Succeeded())
    assert worker.jobs.find(7) == retry


async def test_drain_settles_all_jobs(worker: Worker) -> None:
    ids = {
        JobState.PREFETCHED: 1,
        JobState.DELIVERING: 2,
        JobState.AWAITING_REPORT: 3,
        JobState.REPORTED: 4,
        JobState.SETTLING: 5,
    }
    for state, job_id in ids.items():
        job = worker.claim(Job(job_id, "send_email", "{}", attempt=1))
        for event in PATHS[state]:
            EVENTS[event](job)
    await worker.jobs.drain(timeout_seconds=10.0)
    assert sorted(settlement.job_id for settlement in await worker.committed()) == [1, 2, 3, 5]
    assert [worker.jobs.find(job_id) for job_id in ids.values()] == [None] * 5
    assert list(worker.jobs.prefetched) == []
    await worker.jobs.drain(timeout_seconds=10.0)


async def test_drain_abandons_jobs_if_the_database_is_unreachable(worker: Worker) -> None:
    worker.store.error = ConnectionResetError("gone")
    job = await job_in(worker, JobState.DELIVERING)
    with capture_logs() as lines:
        await worker.jobs.drain(timeout_seconds=0.01)
    await worker.committed()
    assert job.state is JobState.ABANDONED
    assert [(line["event"], line["job"], line["attempt"], line["worker"]) for line in lines if "job" in line] == [
        ("job not settled: database unreachable, it is reclaimed when its lease expires", 7, 2, WORKER)
    ]
