"""Prefetched jobs start in turns of their tenants."""

from collections import deque

import pytest

from jobfn.database.records import Job
from jobfn.worker.in_flight import InFlightJob, InFlightJobs
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.settlement import SettlementBatcher
from jobfn.worker.turns import sort_in_turn
from support.clock import ManualClock
from support.store import RecordingStore


def prefetched(*jobs: tuple[str | None, int]) -> deque[InFlightJob]:
    """Return jobs of these tenants and priorities, with the ids 0, 1, ..."""
    settings = ServiceSettings.from_environ({})
    in_flight = InFlightJobs(SettlementBatcher(RecordingStore()), settings, call_later=ManualClock().call_later)
    return deque(
        in_flight.add(Job(number, "x", "{}", attempt=1, database_id=tenant, priority=priority))
        for number, (tenant, priority) in enumerate(jobs)
    )


@pytest.mark.parametrize(
    ("jobs", "order", "is_unequal"),
    [
        ([("a", 0)] * 5, [0, 1, 2, 3, 4], False),
        ([("a", 0)] * 5 + [("b", 0)], [0, 5, 1, 2, 3, 4], True),
        ([(None, 0)] * 3 + [("b", 0)] * 2, [0, 3, 1, 4, 2], True),
        ([("a", 0)] * 2 + [("b", 0)] * 2, [0, 2, 1, 3], False),
        ([("a", 1)] * 2 + [("b", 1), ("a", 0), ("c", 0)], [3, 4, 0, 2, 1], True),
        ([("a", 1), ("a", 0)], [1, 0], False),
    ],
)
async def test_order(jobs: list[tuple[str | None, int]], order: list[int], *, is_unequal: bool) -> None:
    waiting = prefetched(*jobs)
    assert sort_in_turn(waiting) is is_unequal
    assert [each.job.id for each in waiting] == order


async def test_jobs_that_a_function_returned_stay_first() -> None:
    waiting = prefetched(("a", 0), ("a", 0), ("b", 0))
    waiting[1].was_returned = True
    sort_in_turn(waiting)
    assert [each.job.id for each in waiting] == [1, 0, 2]
