"""Group commit of settlements."""

import asyncio

import asyncpg
import pytest

from jobfn.database.records import Settlement
from jobfn.worker.settlement import MAX_BATCH_SIZE, SettlementBatcher
from support.jobs import WORKER
from support.store import RecordingStore


def settlement(job_id: int) -> Settlement:
    return Settlement(WORKER, job_id, 1)


def batches(store: RecordingStore) -> list[list[int]]:
    return [[each.job_id for each in batch] for batch in store.batches]


async def test_batch_gathers_while_the_previous_one_commits() -> None:
    store, committed = RecordingStore(held=range(0, 50, 2)), list[int]()
    batcher = SettlementBatcher(store, on_commit=committed.append)
    store.gate.clear()
    first = asyncio.create_task(batcher.settle(settlement(0)))
    await store.started.wait()
    others = [asyncio.create_task(batcher.settle(settlement(job_id))) for job_id in range(1, 50)]
    await asyncio.sleep(0)
    store.gate.set()
    assert await asyncio.gather(first, *others) == [job_id % 2 == 0 for job_id in range(50)]
    assert batches(store) == [[0], list(range(1, 50))]
    assert committed == [1, 49]


async def test_batch_has_a_maximum_size() -> None:
    store = RecordingStore()
    batcher = SettlementBatcher(store)
    await asyncio.gather(*(batcher.settle(settlement(job_id)) for job_id in range(501)))
    assert MAX_BATCH_SIZE == 500
    assert [len(batch) for batch in store.batches] == [500, 1]


async def test_batch_has_one_settlement_per_job() -> None:
    store = RecordingStore()
    batcher = SettlementBatcher(store)
    results = await asyncio.gather(*(batcher.settle(settlement(job_id)) for job_id in (1, 2, 3, 2, 2)))
    assert results == [True, True, True, False, False]
    assert batches(store) == [[1, 2, 3], [2], [2]]


async def test_connection_error_fails_the_whole_batch_but_not_the_next_one() -> None:
    store = RecordingStore()
    batcher = SettlementBatcher(store)
    store.error = error = ConnectionResetError("gone")
    results = await asyncio.gather(*(batcher.settle(settlement(job_id)) for job_id in (1, 2)), return_exceptions=True)
    assert results == [error, error]
    store.error = None
    assert await batcher.settle(settlement(3))


@pytest.mark.parametrize("until_committed", [False, True])
async def test_invalid_settlement_fails_alone(*, until_committed: bool) -> None:
    store = RecordingStore(invalid={2})
    batcher = SettlementBatcher(store)
    results = await asyncio.gather(
        *(batcher.settle(settlement(job_id), until_committed=until_committed) for job_id in (1, 2, 3)),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [bool, ValueError, bool]
    assert batches(store) == [[1, 2, 3], [1], [2], [3]]


async def test_health_is_off_while_settlements_are_retried() -> None:
    store = RecordingStore()
    batcher = SettlementBatcher(store)
    store.error = asyncpg.DiskFullError("no space left")
    retried = asyncio.create_task(batcher.settle(settlement(1), until_committed=True))
    with pytest.raises(asyncpg.DiskFullError):
        await batcher.settle(settlement(2))
    assert not batcher.is_healthy.is_set()
    store.error = None
    await batcher.is_healthy.wait()
    assert await retried


async def test_settlement_is_retried_until_the_database_is_reachable() -> None:
    store, committed = RecordingStore(), list[int]()
    batcher = SettlementBatcher(store, on_commit=committed.append)
    store.error = ConnectionResetError("gone")
    retried = asyncio.create_task(batcher.settle(settlement(1), until_committed=True))
    with pytest.raises(ConnectionResetError):
        await batcher.settle(settlement(2))
    store.error = None
    assert await retried
    assert committed == [1]


async def test_error_during_a_retry_is_raised() -> None:
    store = RecordingStore()
    batcher = SettlementBatcher(store)
    store.error = ConnectionResetError("gone")
    retried = asyncio.create_task(batcher.settle(settlement(1), until_committed=True))
    with pytest.raises(ConnectionResetError):
        await batcher.settle(settlement(2))
    store.error = ValueError("rejected")
    with pytest.raises(ValueError, match="rejected"):
        await retried


async def test_cancelled_waiter_does_not_affect_the_batch() -> None:
    store = RecordingStore()
    batcher = SettlementBatcher(store)
    store.gate.clear()
    cancelled, other = (asyncio.create_task(batcher.settle(settlement(job_id))) for job_id in (1, 2))
    await store.started.wait()
    cancelled.cancel()
    store.gate.set()
    assert await other
    await batcher.drain()
    assert batches(store) == [[1, 2]]
