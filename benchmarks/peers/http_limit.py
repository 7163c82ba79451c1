"""The HTTP limit: ``python -m jobfn.service`` on a store in memory instead of a database.

Worker, dispatch, callback server and settlement are the service's own. ``BENCH_JOBS`` jobs are claimed, delivered,
reported and settled.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

import jobfn.service
from jobfn.database.records import Job


class MemoryStore:
    """A ``JobStore`` with a fixed number of jobs that forgets them when they are settled."""

    def __init__(self, jobs: int) -> None:
        self._next, self._end = 1, jobs + 1

    async def claim(self, _worker_id: str, *, limit: int, **_: Any) -> list[Any]:
        """Return the next jobs."""
        first, self._next = self._next, min(self._next + limit, self._end)
        return [Job(number, "noop", f'{{"n": {number}}}', 1) for number in range(first, self._next)]

    async def settle(self, settlements: Sequence[Any]) -> set[int]:
        """Accept all settlements."""
        return {settlement.job_id for settlement in settlements}

    async def renew(self, _worker_id: str, jobs: Sequence[tuple[int, int]], **_: Any) -> set[int]:
        """Renew all leases."""
        return {number for number, _ in jobs}

    async def reap_expired(self, *_: Any) -> set[int]:
        """Return no jobs, because none expires."""
        return set()

    async def release(self, _worker_id: str) -> None:
        """Do nothing."""

    async def seconds_until_next(self, **_: Any) -> float | None:
        """Return None, because no job is delayed."""
        return None

    reclaim = reap_expired


def main() -> int:
    """Run the service on the store."""
    store = MemoryStore(int(os.environ["BENCH_JOBS"]))

    async def open_store(*_: Any, **__: Any) -> MemoryStore:
        return store

    for module in list(sys.modules.values()):
        if module.__name__.startswith("jobfn.") and hasattr(module, "open_store"):
            module.open_store = open_store  # type: ignore[attr-defined]
    return jobfn.service.main([])


if __name__ == "__main__":
    sys.exit(main())
