"""The whole path with no database: the platform side of jobfn, on a store that makes jobs out of nothing.

Everything but the store is the service as it is: worker, dispatch, callback server, settler. ``BENCH_JOBS`` jobs are
claimed, delivered, reported and settled.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any

import jobfn.service
from jobfn.database.records import Job, Settlement


class MemoryStore:
    """A ``JobStore`` that holds so many jobs and forgets them when they are settled."""

    def __init__(self, jobs: int) -> None:
        self._next, self._end = 1, jobs + 1

    async def claim(self, worker_id: str, *, limit: int, **_: Any) -> list[Job]:  # noqa: ARG002
        """The next ones."""
        first, self._next = self._next, min(self._next + limit, self._end)
        return [Job(number, "noop", f'{{"n": {number}}}', 1) for number in range(first, self._next)]

    async def settle(self, settlements: Sequence[Settlement]) -> set[int]:
        """All of them."""
        return {settlement.job_id for settlement in settlements}

    async def renew(self, worker_id: str, jobs: Sequence[tuple[int, int]], **_: Any) -> set[int]:  # noqa: ARG002
        """All of them."""
        return {number for number, _ in jobs}

    async def bury(self) -> set[int]:
        """None."""
        return set()

    async def take_back(self, worker_id: str) -> set[int]:  # noqa: ARG002
        """None."""
        return set()

    async def release(self, worker_id: str) -> None:
        """Nothing is held."""

    async def seconds_to_next(self, **_: Any) -> float | None:
        """There is no next one."""
        return None


def main() -> int:
    """Run ``python -m jobfn.service`` on it."""
    store = MemoryStore(int(os.environ["BENCH_JOBS"]))

    async def open_store(*_: Any, **__: Any) -> MemoryStore:
        await asyncio.sleep(0)
        return store

    for module in list(sys.modules.values()):
        if module.__name__.startswith("jobfn.") and hasattr(module, "open_store"):
            module.open_store = open_store  # type: ignore[attr-defined]
    return jobfn.service.main([])


if __name__ == "__main__":
    sys.exit(main())
