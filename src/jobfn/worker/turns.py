"""Turns of tenants among the jobs that wait in a worker for a slot. Pure.

Claims are fair (``fair_choice`` in the schema), but quick jobs of one tenant are prefetched while no other has any.
"""

from collections import Counter, deque

from jobfn.worker.in_flight import InFlightJob


def sort_in_turn(prefetched: deque[InFlightJob]) -> bool:
    """Sort prefetched jobs: the most urgent priority first, and in one priority the tenants in turns.

    Jobs that a function returned stay before all others.

    Returns:
        Whether most jobs are of one tenant, and some of others.
    """
    if len({(each.job.priority, each.job.database_id) for each in prefetched}) < 2:
        return False
    turns: Counter[tuple[int, str | None]] = Counter()

    def turn(in_flight: InFlightJob) -> tuple[bool, int, int]:
        key = in_flight.job.priority, in_flight.job.database_id
        turns[key] += 1
        return not in_flight.was_returned, in_flight.job.priority, turns[key]

    ordered = sorted(prefetched, key=turn)
    prefetched.clear()
    prefetched.extend(ordered)
    tenants = Counter(each.job.database_id for each in ordered)
    return len(tenants) > 1 and max(tenants.values()) > len(ordered) / 2
