"""Settlements that are ready together share a commit."""

import asyncio
from collections.abc import Sequence

import pytest

from jobfn.database.records import Settlement
from jobfn.worker.settlement import MAX_BATCH, SettlementBatcher


class Store:
    """Commits when it is told, and remembers what with what."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.began = asyncio.Event()
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def settle(self, settlements: Sequence[Settlement]) -> set[int]:
        """Even jobs are held, odd ones are not."""
        self.batches.append([settlement.job_id for settlement in settlements])
        self.began.set()
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return {settlement.job_id for settlement in settlements if settlement.job_id % 2 == 0}


async def settled(settler: SettlementBatcher, job: int) -> bool:
    return await settler.settle(Settlement("worker-0", job))


async def test_while_one_batch_commits_the_next_gathers() -> None:
    """The first goes alone and at once; the other forty-nine, ready meanwhile, go together; each hears of its own."""
    store = Store()
    settler = SettlementBatcher(store)  # type: ignore[arg-type]  # it settles, and is asked for nothing else
    first = asyncio.create_task(settled(settler, 0))
    await store.began.wait()
    others = [asyncio.create_task(settled(settler, job)) for job in range(1, 50)]
    await asyncio.sleep(0)
    store.go.set()
    assert await asyncio.gather(first, *others) == [job % 2 == 0 for job in range(50)]
    assert store.batches == [[0], list(range(1, 50))]


async def test_a_batch_has_a_limit() -> None:
    """More than MAX_BATCH that are ready go in several statements, in their order."""
    store = Store()
    store.go.set()
    settler = SettlementBatcher(store)  # type: ignore[arg-type]  # as above
    await asyncio.gather(*(settled(settler, job) for job in range(MAX_BATCH + 1)))
    assert [len(batch) for batch in store.batches] == [MAX_BATCH, 1]


async def test_what_the_store_raises_reaches_everyone_in_the_batch_and_nobody_else() -> None:
    """A batch that fails fails for those in it; the next one is tried as ever."""
    store = Store()
    settler = SettlementBatcher(store)  # type: ignore[arg-type]  # as above
    store.error = OSError("no database")
    store.go.set()
    failed = await asyncio.gather(settled(settler, 0), settled(settler, 2), return_exceptions=True)
    assert [str(error) for error in failed] == ["no database", "no database"]
    store.error = None
    assert await settled(settler, 4)


async def test_who_gave_up_waiting_does_not_disturb_the_others() -> None:
    """A cancelled waiter's settlement is committed all the same, and the others hear of theirs."""
    store = Store()
    settler = SettlementBatcher(store)  # type: ignore[arg-type]  # as above
    impatient = asyncio.create_task(settled(settler, 0))
    patient = asyncio.create_task(settled(settler, 2))
    await store.began.wait()
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    store.go.set()
    assert await patient
    await settler.drain()
    assert store.batches == [[0, 2]]
