"""Writing down how jobs ended: settlements that are ready at the same moment share one commit.

While one batch commits, the next one gathers. Nobody waits for company, and under load the batches grow by
themselves.
"""

import asyncio
from collections.abc import Sequence

from jobfn.database.jobs import JobStore, Settlement

#: More than this many in one statement gains nothing.
MAX_BATCH = 500

_Waiting = tuple[Settlement, asyncio.Future[bool]]


class Settler:
    """Commits settlements in groups.

    Args:
        store: Where jobs are.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._waiting: list[_Waiting] = []
        self._flushing: asyncio.Task[None] | None = None

    async def settle(self, settlement: Settlement) -> bool:
        """Commit one settlement, together with whatever else is ready.

        Returns:
            Whether it changed the job: False where the worker does not hold it (any more).

        Raises:
            Exception: What the store raised; nothing of this batch was committed.
        """
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((settlement, done))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        return await done

    async def drain(self) -> None:
        """Wait until all that was handed in is committed or refused."""
        while self._flushing is not None and not self._flushing.done():
            await asyncio.wait({self._flushing})

    async def _flush(self) -> None:
        while self._waiting:
            await self._commit(self._next_batch())

    def _next_batch(self) -> list[_Waiting]:
        """The first of those that wait, of each job one: of two, the second is to be told that it came too late."""
        batch: dict[int, _Waiting] = {}
        left: list[_Waiting] = []
        for waiting in self._waiting:
            settlement, _ = waiting
            if settlement.job_id in batch or len(batch) == MAX_BATCH:
                left.append(waiting)
            else:
                batch[settlement.job_id] = waiting
        self._waiting = left
        return list(batch.values())

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        try:
            changed = await self._store.settle([settlement for settlement, _ in batch])
        except Exception as error:  # noqa: BLE001  - each waiter gets it and decides
            for _, done in batch:
                if not done.done():
                    done.set_exception(error)
            return
        for settlement, done in batch:
            if not done.done():
                done.set_result(settlement.job_id in changed)
