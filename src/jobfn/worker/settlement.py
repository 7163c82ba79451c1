"""Writing down how jobs ended: settlements that are ready at the same moment share one commit.

While one batch commits, the next one gathers. Nobody waits for company, and under load the batches grow by
themselves.
"""

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jobfn.database.connection import CONNECTION_LOST, until_connected
from jobfn.database.jobs import JobStore, Settlement

#: More than this many in one statement gains nothing.
MAX_BATCH = 500


@dataclass(slots=True, eq=False)
class _Waiting:
    """A settlement on its way.

    Attributes:
        settlement: What is to be written down.
        done: Whether it changed the job, once that is known.
        patient: Whether it waits for a database that is away.
    """

    settlement: Settlement
    done: asyncio.Future[bool]
    patient: bool


class SettlementBatcher:
    """Commits settlements in groups.

    Args:
        store: Where jobs are.
        committed: Told how many shared a commit.
    """

    def __init__(self, store: JobStore, *, committed: Callable[[int], None] | None = None) -> None:
        self._store = store
        self._committed = committed
        self._waiting: list[_Waiting] = []
        self._flushing: asyncio.Task[None] | None = None
        self._again: set[asyncio.Task[None]] = set()

    def submit(self, settlement: Settlement, *, patient: bool = False) -> "asyncio.Future[bool]":
        """Commit one settlement, together with whatever else is ready.

        Args:
            settlement: What became of a job.
            patient: Try again until the database answers, instead of failing with the connection.

        Returns:
            Whether it changed the job, once it is committed: False where the worker does not hold it (any more). Or
            what the store raised; nothing of this batch was committed then.
        """
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(settlement, done, patient))
        if self._flushing is None or self._flushing.done():
            # in a context of its own: what it does is done for all of a batch, not for the job that came first
            self._flushing = asyncio.create_task(self._flush(), context=contextvars.Context())
        return done

    async def settle(self, settlement: Settlement) -> bool:
        """Commit one settlement, and wait for that. See ``submit``."""
        return await self.submit(settlement)

    async def drain(self) -> None:
        """Wait until all that was handed in is committed or refused. What waits for the database is given up."""
        while self._flushing is not None and not self._flushing.done():
            await asyncio.wait({self._flushing})
        for again in self._again:
            again.cancel()

    async def _flush(self) -> None:
        while self._waiting:
            await self._commit(self._next_batch())

    def _next_batch(self) -> list[_Waiting]:
        """The first of those that wait, of each job one: of two, the second is to be told that it came too late."""
        batch: dict[int, _Waiting] = {}
        left: list[_Waiting] = []
        for waiting in self._waiting:
            if waiting.settlement.job_id in batch or len(batch) == MAX_BATCH:
                left.append(waiting)
            else:
                batch[waiting.settlement.job_id] = waiting
        self._waiting = left
        return list(batch.values())

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        try:
            changed = await self._store.settle([waiting.settlement for waiting in batch])
        except CONNECTION_LOST as error:
            patient = [waiting for waiting in batch if waiting.patient]
            _fail([waiting for waiting in batch if not waiting.patient], error)
            if patient:
                again = asyncio.create_task(self._commit_again(patient))
                self._again.add(again)
                again.add_done_callback(self._again.discard)
        except Exception as error:  # noqa: BLE001  - each waiter gets it and decides
            _fail(batch, error)
        else:
            if self._committed is not None:
                self._committed(len(batch))
            _tell(batch, changed)

    async def _commit_again(self, batch: Sequence[_Waiting]) -> None:
        try:
            settlements = [waiting.settlement for waiting in batch]
            changed = await until_connected(lambda: self._store.settle(settlements))
            if self._committed is not None:
                self._committed(len(batch))
            _tell(batch, changed)
        except Exception as error:  # noqa: BLE001  - as above
            _fail(batch, error)


def _tell(batch: Sequence[_Waiting], changed: set[int]) -> None:
    for waiting in batch:
        if not waiting.done.done():
            waiting.done.set_result(waiting.settlement.job_id in changed)


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for waiting in batch:
        if not waiting.done.done():
            waiting.done.set_exception(error)
