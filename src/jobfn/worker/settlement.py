"""Group commit of settlements: those that are ready at the same moment share a statement.

While one batch commits, the next one gathers. No settlement waits for others, and batches grow with the load.
"""

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jobfn.database.connection import CONNECTION_ERRORS, retry_on_disconnect
from jobfn.database.records import Settlement
from jobfn.database.store import JobStore

#: Maximum number of settlements in a statement; larger batches gain nothing.
MAX_BATCH_SIZE = 500


#: Called with whether a settlement changed its job, or with the store's error. It must not raise.
CommitResult = bool | Exception
OnCommitted = Callable[[CommitResult], None]


class _Pending(NamedTuple):
    """A settlement that is not committed."""

    settlement: Settlement
    on_committed: OnCommitted
    retry_on_disconnect: bool


class SettlementBatcher:
    """Commits settlements in batches, and calls ``on_commit`` with the size of each."""

    def __init__(self, store: JobStore, *, on_commit: Callable[[int], None] | None = None) -> None:
        self._store = store
        self._on_commit = on_commit
        self._queue: list[_Pending] = []
        self._flushing: asyncio.Task[None] | None = None
        self._retries: set[asyncio.Task[None]] = set()

    def submit(self, settlement: Settlement, on_committed: OnCommitted, *, retry_on_disconnect: bool = False) -> None:
        """Commit a settlement together with the others that are ready.

        Args:
            settlement: The outcome of a job's attempt.
            on_committed: Called when the batch is committed, with whether the settlement changed its job: False if the
                worker does not hold the job (any more). Called with the store's error if it was not committed.
            retry_on_disconnect: Retry until the database is reachable, instead of failing with the connection's error.
        """
        self._queue.append(_Pending(settlement, on_committed, retry_on_disconnect))
        if self._flushing is None or self._flushing.done():
            # An empty context: log lines about a batch must not carry the ids of the job that started it.
            self._flushing = asyncio.create_task(self._flush(), context=contextvars.Context())

    async def settle(self, settlement: Settlement, *, retry_on_disconnect: bool = False) -> bool:
        """Do the same, and wait. Return whether the settlement changed its job; raise the store's error."""
        committed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def resolve(result: CommitResult) -> None:
            if committed.done():
                return  # the caller was cancelled
            if isinstance(result, Exception):
                committed.set_exception(result)
            else:
                committed.set_result(result)

        self.submit(settlement, resolve, retry_on_disconnect=retry_on_disconnect)
        return await committed

    async def drain(self) -> None:
        """Wait until all submitted settlements are committed or rejected, and stop the retries."""
        while self._flushing is not None and not self._flushing.done():
            await asyncio.wait({self._flushing})
        for retry in self._retries:
            retry.cancel()

    async def _flush(self) -> None:
        while self._queue:
            await self._commit(self._next_batch())

    def _next_batch(self) -> list[_Pending]:
        """Return the oldest settlements, one for each job: the second for the same job must see the first's effect."""
        batch: dict[int, _Pending] = {}
        rest: list[_Pending] = []
        for pending in self._queue:
            if pending.settlement.job_id in batch or len(batch) == MAX_BATCH_SIZE:
                rest.append(pending)
            else:
                batch[pending.settlement.job_id] = pending
        self._queue = rest
        return list(batch.values())

    async def _commit(self, batch: Sequence[_Pending]) -> None:
        try:
            changed = await self._store.settle([pending.settlement for pending in batch])
        except CONNECTION_ERRORS as error:
            _reject([pending for pending in batch if not pending.retry_on_disconnect], error)
            if retried := [pending for pending in batch if pending.retry_on_disconnect]:
                retry = asyncio.create_task(self._retry(retried))
                self._retries.add(retry)
                retry.add_done_callback(self._retries.discard)
        except Exception as error:  # noqa: BLE001  - passed to each submitter
            _reject(batch, error)
        else:
            self._resolve(batch, changed)

    async def _retry(self, batch: Sequence[_Pending]) -> None:
        settlements = [pending.settlement for pending in batch]
        try:
            changed = await retry_on_disconnect(lambda: self._store.settle(settlements))
        except Exception as error:  # noqa: BLE001  - passed to each submitter
            _reject(batch, error)
        else:
            self._resolve(batch, changed)

    def _resolve(self, batch: Sequence[_Pending], changed: set[int]) -> None:
        if self._on_commit is not None:
            self._on_commit(len(batch))
        for pending in batch:
            pending.on_committed(pending.settlement.job_id in changed)


def _reject(batch: Sequence[_Pending], error: Exception) -> None:
    for pending in batch:
        pending.on_committed(error)
