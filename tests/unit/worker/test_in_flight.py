"""The state machine of a claimed job."""

import asyncio
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from jobfn.database.records import Job, Settlement
from jobfn.worker.delivery import Failed, Succeeded
from jobfn.worker.in_flight import InFlightJob, InFlightJobs
from jobfn.worker.in_flight_states import InFlightState, InvalidTransition
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.settlement import SettlementBatcher
from support.clock import ManualClock
from support.jobs import WORKER
from support.store import RecordingStore

JOB = Job(7, "send_email", "{}", attempt=2)
FIRST_ATTEMPT = Job(7, "send_email", "{}", attempt=1)

EVENTS: dict[str, Callable[[InFlightJob], object]] = {
    "start": InFlightJob.start,
    "release": InFlightJob.release,
    "on_response": lambda job: job.on_response(Succeeded(awaits_report=True)),
    "on_final_response": lambda job: job.on_response(Succeeded()),
    "on_not_started": InFlightJob.on_not_started,
    "on_busy": lambda job: job.on_busy(5.0),
    "on_unreachable": lambda job: job.on_unreachable("connection refused"),
    "on_broken": lambda job: job.on_unreachable("connection reset", awaits_report=True),
    "on_accepted": InFlightJob.on_accepted,
    "on_report": InFlightJob.on_report,
    "on_report_grace_expired": InFlightJob.on_report_grace_expired,
    "on_shutdown": InFlightJob.on_shutdown,
    "abandon": lambda job: job.abandon(RuntimeError("unexpected")),
}
#: The events that lead to a state.
PATHS = {
    InFlightState.PREFETCHED: [],
    InFlightState.DELIVERING: ["start"],
    InFlightState.AWAITING_REPORT: ["start", "on_response"],
    InFlightState.REPORTED: ["start", "on_report"],
    InFlightState.SETTLING: ["start", "on_unreachable"],
    InFlightState.DONE: ["start", "on_report", "on_response"],
    InFlightState.RELEASED: ["release"],
    InFlightState.ACCEPTED: ["start", "on_accepted"],
    InFlightState.ABANDONED: ["start", "abandon"],
}
TRANSITIONS = {
    (InFlightState.PREFETCHED, "start"): InFlightState.DELIVERING,
    (InFlightState.PREFETCHED, "release"): InFlightState.SETTLING,
    (InFlightState.PREFETCHED, "on_report"): InFlightState.DONE,
    (InFlightState.PREFETCHED, "on_shutdown"): InFlightState.SETTLING,
    (InFlightState.DELIVERING, "on_response"): InFlightState.AWAITING_REPORT,
    (InFlightState.DELIVERING, "on_final_response"): InFlightState.SETTLING,
    (InFlightState.DELIVERING, "on_not_started"): InFlightState.PREFETCHED,
    (InFlightState.DELIVERING, "on_busy"): InFlightState.SETTLING,
    (InFlightState.DELIVERING, "on_unreachable"): InFlightState.SETTLING,
    (InFlightState.DELIVERING, "on_broken"): InFlightState.AWAITING_REPORT,
    (InFlightState.DELIVERING, "on_accepted"): InFlightState.ACCEPTED,
    (InFlightState.DELIVERING, "on_report"): InFlightState.REPORTED,
    (InFlightState.DELIVERING, "on_shutdown"): InFlightState.SETTLING,
    (InFlightState.DELIVERING, "abandon"): InFlightState.ABANDONED,
    (InFlightState.AWAITING_REPORT, "on_report"): InFlightState.DONE,
    (InFlightState.AWAITING_REPORT, "on_report_grace_expired"): InFlightState.SETTLING,
    (InFlightState.AWAITING_REPORT, "on_shutdown"): InFlightState.SETTLING,
    (InFlightState.REPORTED, "on_response"): InFlightState.DONE,
    (InFlightState.REPORTED, "on_final_response"): InFlightState.DONE,
    (InFlightState.REPORTED, "on_not_started"): InFlightState.DONE,
    (InFlightState.REPORTED, "on_busy"): InFlightState.DONE,
    (InFlightState.REPORTED, "on_unreachable"): InFlightState.DONE,
    (InFlightState.REPORTED, "on_broken"): InFlightState.DONE,
    (InFlightState.REPORTED, "on_accepted"): InFlightState.DONE,
    (InFlightState.REPORTED, "on_report"): InFlightState.REPORTED,
    (InFlightState.REPORTED, "on_shutdown"): InFlightState.DONE,
    (InFlightState.REPORTED, "abandon"): InFlightState.ABANDONED,
    (InFlightState.SETTLING, "on_response"): InFlightState.SETTLING,
    (InFlightState.SETTLING, "on_final_response"): InFlightState.SETTLING,
    (InFlightState.SETTLING, "on_not_started"): InFlightState.SETTLING,
    (InFlightState.SETTLING, "on_busy"): InFlightState.SETTLING,
    (InFlightState.SETTLING, "on_unreachable"): InFlightState.SETTLING,
    (InFlightState.SETTLING, "on_broken"): InFlightState.SETTLING,
    (InFlightState.SETTLING, "on_accepted"): InFlightState.SETTLING,
    (InFlightState.SETTLING, "on_report"): InFlightState.SETTLING,
    (InFlightState.SETTLING, "on_shutdown"): InFlightState.SETTLING,
    (InFlightState.SETTLING, "abandon"): InFlightState.ABANDONED,
}


class Worker:
    """The jobs in flight of a worker without I/O."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = RecordingStore()
        self.settlements = SettlementBatcher(self.store)
        settings = ServiceSettings.from_environ({}, worker_id=WORKER, report_grace_seconds=5.0)
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


async def job_in(worker: Worker, state: InFlightState) -> InFlightJob:
    job = worker.claim()
    for event in PATHS[state]:
        EVENTS[event](job)
    if state is InFlightState.RELEASED:
        await worker.committed()
    assert job.state is state
    return job


@pytest.mark.parametrize(("state", "event"), TRANSITIONS)
async def test_allowed_event_changes_the_state(worker: Worker, state: InFlightState, event: str) -> None:
    job = await job_in(worker, state)
    EVENTS[event](job)
    assert job.state is TRANSITIONS[state, event]
    is_final = job.state in {
        InFlightState.DONE,
        InFlightState.RELEASED,
        InFlightState.ACCEPTED,
        InFlightState.ABANDONED,
    }
    assert (worker.jobs.find(JOB.id) is None) is is_final


@pytest.mark.parametrize(
    ("state", "event"),
    [(state, event) for state in InFlightState for event in EVENTS if (state, event) not in TRANSITIONS],
)
async def test_other_events_are_invalid(worker: Worker, state: InFlightState, event: str) -> None:
    job = await job_in(worker, state)
    with pytest.raises(InvalidTransition, match=f"job 7 is {state}, not .*: this is a bug"):
        EVENTS[event](job)
    assert job.state is state


@pytest.mark.parametrize(
    ("path", "settlement", "final"),
    [
        (["release"], Settlement(WORKER, 7, 2, released=True), InFlightState.RELEASED),
        (["on_shutdown"], Settlement(WORKER, 7, 2, released=True), InFlightState.RELEASED),
        (
            ["start", "on_busy"],
            Settlement(WORKER, 7, 2, released=True, delay_seconds=5.0),
            InFlightState.RELEASED,
        ),
        (["start", "on_unreachable"], Settlement(WORKER, 7, 2, error="connection refused"), InFlightState.DONE),
        (
            ["start", "on_broken", "on_report_grace_expired"],
            Settlement(WORKER, 7, 2, error="connection reset"),
            InFlightState.DONE,
        ),
        (["start", "on_response", "on_report_grace_expired"], Settlement(WORKER, 7, 2), InFlightState.DONE),
        (["start", "on_response", "on_shutdown"], Settlement(WORKER, 7, 2), InFlightState.DONE),
        (
            ["start", "on_shutdown"],
            Settlement(WORKER, 7, 2, error="the worker was stopped before the function responded", delay_seconds=0.0),
            InFlightState.DONE,
        ),
    ],
)
async def test_settlement_is_committed_once(
    worker: Worker, path: list[str], settlement: Settlement, final: InFlightState
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
    assert await worker.committed() == [Settlement(WORKER, 7, 2, "boom", permanent=True, delay_seconds=60.0)]


async def test_response_settles_after_the_grace_period(worker: Worker) -> None:
    job = await job_in(worker, InFlightState.AWAITING_REPORT)
    worker.clock.advance(4.9)
    states = [job.state]
    worker.clock.advance(0.1)
    assert [*states, job.state] == [InFlightState.AWAITING_REPORT, InFlightState.SETTLING]


@pytest.mark.parametrize("event", ["on_report", "on_shutdown"])
async def test_grace_timer_is_cancelled_by_an_earlier_event(worker: Worker, event: str) -> None:
    job = await job_in(worker, InFlightState.AWAITING_REPORT)
    EVENTS[event](job)
    worker.clock.advance(5.0)
    assert len(await worker.committed()) == (event == "on_shutdown")


async def test_job_that_was_not_started_can_start_again_and_be_settled(worker: Worker) -> None:
    job = worker.claim(FIRST_ATTEMPT)
    was_batchable = job.is_batchable
    job.start()
    assert job.on_not_started()
    job.start()
    job.on_response(Succeeded())
    assert await worker.committed() == [Settlement(WORKER, 7, 1)]
    assert (was_batchable, job.is_batchable) == (True, False), "it is not returned a second time"


async def test_jobs_that_were_not_started_are_next_and_keep_their_order(worker: Worker) -> None:
    returned = [worker.claim(Job(number, "a", "{}", 1)) for number in (1, 2, 3)]
    worker.jobs.remove_prefetched(returned[0], 3, max_characters=100)
    worker.claim(Job(4, "a", "{}", 1))
    for job in returned:
        job.start()
        assert job.on_not_started()
        worker.jobs.return_prefetched(job)
    assert [each.job.id for each in worker.jobs.prefetched] == [1, 2, 3, 4]


@pytest.mark.parametrize(("attempt", "max_attempts"), [(2, 25), (1, 1)])
async def test_retry_and_last_attempt_are_delivered_alone(worker: Worker, attempt: int, max_attempts: int) -> None:
    assert not worker.claim(Job(7, "send_email", "{}", attempt, max_attempts)).is_batchable


def batch(worker: Worker, jobs: list[Job], limit: int, *, max_characters: int = 100) -> tuple[list[int], list[int]]:
    """Return the ids of the first job's batch, and of the jobs that stay prefetched."""
    claimed = [worker.claim(job) for job in jobs]
    removed = worker.jobs.remove_prefetched(claimed[0], limit, max_characters=max_characters)
    return [each.job.id for each in removed], [each.job.id for each in worker.jobs.prefetched]


async def test_batch_holds_the_next_first_attempts_of_the_task(worker: Worker) -> None:
    tasks_and_attempts = [("a", 1), ("b", 1), ("a", 2), ("a", 1), ("a", 1), ("a", 1)]
    jobs = [Job(number, name, "{}", attempt) for number, (name, attempt) in enumerate(tasks_and_attempts, start=1)]
    assert batch(worker, jobs, 3) == ([1, 4, 5], [2, 3, 6])


async def test_batch_is_limited_by_the_size_of_its_payloads(worker: Worker) -> None:
    jobs = [Job(number, "a", "x" * size, 1) for number, size in ((1, 60), (2, 50), (3, 40), (4, 1))]
    assert batch(worker, jobs, 10, max_characters=100) == ([1, 3], [2, 4])
    other = Worker()
    assert batch(other, [Job(1, "a", "x" * 200, 1), Job(2, "a", "", 1)], 10, max_characters=100) == ([1], [2])


async def test_batch_of_one_leaves_the_others(worker: Worker) -> None:
    assert batch(worker, [Job(1, "a", "{}", 1), Job(2, "a", "{}", 1)], 1) == ([1], [2])


async def test_report_removes_a_prefetched_job(worker: Worker) -> None:
    job = worker.claim()
    job.on_report()
    assert list(worker.jobs.prefetched) == []


async def test_rejected_settlement_abandons_the_job(worker: Worker) -> None:
    worker.store.error = ValueError("rejected")
    job = await job_in(worker, InFlightState.SETTLING)
    with capture_logs() as lines:
        await worker.committed()
    assert job.state is InFlightState.ABANDONED
    assert [(line["event"], line["job"], line["attempt"], line["worker"]) for line in lines] == [
        ("job not settled: it is reclaimed when its lease expires", 7, 2, WORKER)
    ]


async def test_commit_after_an_unexpected_error_keeps_the_job_abandoned(worker: Worker) -> None:
    job = await job_in(worker, InFlightState.SETTLING)
    job.abandon(RuntimeError("unexpected"))
    await worker.committed()
    assert job.state is InFlightState.ABANDONED


@pytest.mark.parametrize(
    ("report", "state"),
    [
        (Settlement(WORKER, 7, 2), InFlightState.REPORTED),
        (Settlement(WORKER, 7, None), InFlightState.REPORTED),
        (Settlement(WORKER, 7, 1), InFlightState.DELIVERING),
        (Settlement(WORKER, 8, 2), InFlightState.DELIVERING),
        (Settlement("another-worker", 7, 2), InFlightState.DELIVERING),
    ],
)
async def test_report_is_matched_by_worker_job_and_attempt(
    worker: Worker, report: Settlement, state: InFlightState
) -> None:
    job = await job_in(worker, InFlightState.DELIVERING)
    worker.jobs.on_report(report)
    assert job.state is state


async def test_lease_of_a_reported_job_is_not_renewed(worker: Worker) -> None:
    await job_in(worker, InFlightState.REPORTED)
    assert worker.jobs.leased_jobs() == []
    assert worker.jobs.find(7) == JOB


async def test_next_attempt_stays_when_the_previous_one_ends(worker: Worker) -> None:
    first = await job_in(worker, InFlightState.REPORTED)
    retry = Job(7, "send_email", "{}", attempt=3)
    worker.claim(retry)
    first.on_response(Succeeded())
    assert worker.jobs.find(7) == retry


async def test_drain_settles_all_jobs(worker: Worker) -> None:
    ids = {
        InFlightState.PREFETCHED: 1,
        InFlightState.DELIVERING: 2,
        InFlightState.AWAITING_REPORT: 3,
        InFlightState.REPORTED: 4,
        InFlightState.SETTLING: 5,
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
    job = await job_in(worker, InFlightState.DELIVERING)
    with capture_logs() as lines:
        await worker.jobs.drain(timeout_seconds=0.01)
    await worker.committed()
    assert job.state is InFlightState.ABANDONED
    assert [(line["event"], line["job"], line["attempt"], line["worker"]) for line in lines if "job" in line] == [
        ("job not settled: database unreachable, it is reclaimed when its lease expires", 7, 2, WORKER)
    ]
