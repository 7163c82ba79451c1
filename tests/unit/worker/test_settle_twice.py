"""Settlements that share a commit."""

import asyncio
from collections.abc import Sequence

from jobfn.database.native_store import NativeJobStore
from jobfn.database.records import Settlement
from jobfn.worker.settlement import SettlementBatcher


class HeldJobs(NativeJobStore):
    """A store of jobs 1 to 9, each held until it is settled once; a commit waits until it may go on."""

    def __init__(self) -> None:
        self.held = set(range(1, 10))
        self.batches: list[list[int]] = []
        self.go = asyncio.Event()

    async def settle(self, settlements: Sequence[Settlement]) -> set[int]:
        """Settle."""
        self.batches.append([settlement.job_id for settlement in settlements])
        await self.go.wait()
        changed = {settlement.job_id for settlement in settlements} & self.held
        self.held -= changed
        return changed


async def test_of_two_reports_that_come_together_one_is_too_late() -> None:
    """Both wait for the same commit; the second is kept for the next, and hears that nothing was left to settle."""
    store = HeldJobs()
    settler = SettlementBatcher(store)
    settling = [asyncio.create_task(settler.settle(Settlement("worker", job, 1))) for job in (1, 2, 3, 2, 2)]
    store.go.set()
    assert await asyncio.gather(*settling) == [True, True, True, False, False]
    assert store.batches == [[1, 2, 3], [2], [2]]
