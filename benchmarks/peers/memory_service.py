"""The limits without a database: ``python -m jobfn.service``, or a ``jobfn`` command, on a store in memory.

Worker, dispatch, callbacks and settlement are the service's own. ``BENCH_JOBS`` jobs are claimed, run and settled.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

import jobfn.cli
import jobfn.database.open_store
import jobfn.service
from jobfn.database.records import Job, Settlement
from jobfn.database.store import JobStore


class MemoryStore:
    """A ``JobStore`` with a fixed number of jobs that forgets them when they are settled.

    Other calls, which a service makes once or some times a minute, go to the database, which has no jobs.
    """

    def __init__(self, store: JobStore, jobs: int) -> None:
        self._store = store
        self._next, self._end = 1, jobs + 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def claim(self, _worker_id: str, *, limit: int, **_: Any) -> list[Job]:
        """Return the next jobs."""
        first, self._next = self._next, min(self._next + limit, self._end)
        return [Job(number, "noop", f'{{"n": {number}}}', 1) for number in range(first, self._next)]

    async def settle(self, settlements: Sequence[Settlement]) -> set[int]:
        """Accept all settlements."""
        return {settlement.job_id for settlement in settlements}

    async def renew(self, _worker_id: str, jobs: Sequence[tuple[int, int]], **_: Any) -> set[int]:
        """Renew all leases."""
        return {number for number, _ in jobs}


def main() -> int:
    """Run the service on the store."""
    open_database_store = jobfn.database.open_store.open_store

    async def open_store(*arguments: Any, **options: Any) -> MemoryStore:
        return MemoryStore(await open_database_store(*arguments, **options), int(os.environ["BENCH_JOBS"]))

    for module in list(sys.modules.values()):
        if module.__name__.startswith("jobfn.") and hasattr(module, "open_store"):
            module.open_store = open_store  # type: ignore[attr-defined]
    return jobfn.cli.main() if sys.argv[1:] else jobfn.service.main([])


if __name__ == "__main__":
    sys.exit(main())
