"""Leases that cannot be renewed."""

import asyncio

import pytest
from structlog.testing import capture_logs

from jobfn.database.records import Job
from jobfn.worker.delivery import Succeeded
from jobfn.worker.in_flight import InFlightJobs
from jobfn.worker.in_flight_states import InFlightState
from jobfn.worker.lease_renewer import LeaseRenewer
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.settlement import SettlementBatcher
from support.clock import ManualClock
from support.jobs import WORKER
from support.network import eventually
from support.store import RecordingStore

JOB = Job(7, "send_email", "{}", attempt=2)


@pytest.mark.parametrize(
    ("has_responded", "warnings", "state"),
    [
        # another process has the callback server, and the function has reported there
        (True, 0, InFlightState.DONE),
        (False, 1, InFlightState.DELIVERING),
    ],
)
async def test_lost_lease_is_a_warning_unless_the_function_has_responded(
    *, has_responded: bool, warnings: int, state: InFlightState
) -> None:
    store = RecordingStore(held=())
    settings = ServiceSettings.from_environ({}, worker_id=WORKER, report_grace_seconds=5.0)
    jobs = InFlightJobs(SettlementBatcher(store), settings, call_later=ManualClock().call_later)
    in_flight = jobs.add(JOB)
    in_flight.start()
    if has_responded:
        in_flight.on_response(Succeeded(awaits_report=True))
    renewer = LeaseRenewer(
        store,
        worker_id=WORKER,
        lease_seconds=0.003,
        leased_jobs=jobs.leased_jobs,
        on_not_held=jobs.on_not_held,
        clock=ManualClock(),
    )

    async def is_settled() -> bool:
        return store.renewals >= 4 or not jobs.leased_jobs()

    with capture_logs() as lines:
        renewing = asyncio.create_task(renewer.run())
        await eventually(is_settled)
        renewing.cancel()
    assert [line["event"].partition(":")[0] for line in lines] == ["lease lost"] * warnings
    assert in_flight.state is state


async def test_later_attempt_of_a_lost_job_is_another_job() -> None:
    store = RecordingStore(held=())
    settings = ServiceSettings.from_environ({}, worker_id=WORKER)
    jobs = InFlightJobs(SettlementBatcher(store), settings, call_later=ManualClock().call_later)
    jobs.add(JOB._replace(attempt=3)).start()
    assert not jobs.on_not_held(JOB)
    assert jobs.on_not_held(JOB._replace(attempt=3))


@pytest.mark.parametrize(("seconds", "renewals"), [(19.0, 0), (21.0, 1)])
async def test_leases_are_renewed_before_a_claim_if_renewals_were_missed(seconds: float, renewals: int) -> None:
    """This process was suspended, or the machine is busy: the worker must not claim its own jobs again."""
    store, clock = RecordingStore(), ManualClock()
    renewer = renewer_of_one_job(store, clock)
    clock.advance(seconds)
    await renewer.catch_up()
    await renewer.catch_up()
    assert store.renewals == renewals


async def test_renewal_that_failed_is_missing() -> None:
    store, clock = RecordingStore(), ManualClock()
    renewer = renewer_of_one_job(store, clock)
    clock.advance(21.0)
    store.error = ConnectionError("gone")
    with pytest.raises(ConnectionError):
        await renewer.catch_up()
    store.error = None
    await renewer.catch_up()
    assert store.renewals == 2


def renewer_of_one_job(store: RecordingStore, clock: ManualClock) -> LeaseRenewer:
    return LeaseRenewer(
        store,
        worker_id=WORKER,
        lease_seconds=30.0,
        leased_jobs=lambda: [JOB],
        on_not_held=lambda _job: True,
        clock=clock,
    )
