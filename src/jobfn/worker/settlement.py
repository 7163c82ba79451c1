"""Group commit of settlements: those that are ready at the same moment share a statement.

While one batch commits, the next one gathers. No settlement waits for others, and batches grow with the load.
"""

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from typing import NamedTuple

import asyncpg

from jobfn.database.connection import is_transient, retry
from jobfn.database.records import Settlement
from jobfn.database.store import JobStore

#: Maximum number of settlements in a statement; larger batches gain nothing.
MAX_BATCH_SIZE = 500
#: Class of SQLSTATE of rights, functions and tables that are missing, whatever the values are.
_STATEMENT_SQLSTATES = "42"

#: Called with whether a settlement changed its job, or with the store's error. It must not raise.
CommitResult = bool | Exception
OnCommitted = Callable[[CommitResult], None]


class _Pending(NamedTuple):
    """A settlement that is not committed."""

    settlement: Settlement
    on_committed: OnCommitted
    until_committed: bool


class SettlementBatcher:
    """Commits settlements in batches, and calls ``on_commit`` with the size of each.

    Attributes:
        is_healthy: Set unless settlements are being retried. Until then, claim no jobs: they could not be settled.
    """

    def __init__(self, store: JobStore, *, on_commit: Callable[[int], None] | None = None) -> None:
        self._store = store
        self._on_commit = on_commit
        self._queue: list[_Pending] = []
        self._flushing: asyncio.Task[None] | None = None
        self._retries: set[asyncio.Task[None]] = set()
        self._context = contextvars.copy_context()
        self.is_healthy = asyncio.Event()
        self.is_healthy.set()

    def submit(self, settlement: Settlement, on_committed: OnCommitted, *, until_committed: bool = False) -> None:
        """Commit a settlement together with the others that are ready.

        Args:
            settlement: The outcome of a job's attempt.
            on_committed: Called when the batch is committed, with whether the settlement changed its job: False if the
                worker does not hold the job (any more). Called with the store's error if it was not committed.
            until_committed: Retry after transient errors, instead of failing with the first one.
        """
        self._queue.append(_Pending(settlement, on_committed, until_committed))
        if self._flushing is None or self._flushing.done():
            # Not the context of the job that started it, whose ids log lines about a batch must not carry.
            self._flushing = asyncio.create_task(self._flush(), context=self._context)

    async def settle(self, settlement: Settlement, *, until_committed: bool = False) -> bool:
        """Do the same, and wait. Return whether the settlement changed its job; raise the store's error."""
        committed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def resolve(result: CommitResult) -> None:
            if committed.done():
                return  # the caller was cancelled
            if isinstance(result, Exception):
                committed.set_exception(result)
            else:
                committed.set_result(result)

        self.submit(settlement, resolve, until_committed=until_committed)
        return await committed

    async def drain(self) -> None:
        """Wait until all submitted settlements are committed or rejected, and stop the retries."""
        while self._flushing is not None and not self._flushing.done():
            await asyncio.wait({self._flushing})
        for task in self._retries:
            task.cancel()

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
        except Exception as error:  # noqa: BLE001  - passed to each submitter
            if not _may_succeed_later(error):
                await self._reject_invalid(batch, error)
                return
            _reject([pending for pending in batch if not pending.until_committed], error)
            if retried := [pending for pending in batch if pending.until_committed]:
                retry_task = asyncio.create_task(self._retry(retried))
                self._retries.add(retry_task)
                self.is_healthy.clear()
                retry_task.add_done_callback(self._on_retried)
        else:
            self._resolve(batch, changed)

    async def _retry(self, batch: Sequence[_Pending]) -> None:
        settlements = [pending.settlement for pending in batch]

        async def settle() -> set[int] | Exception:
            try:
                return await self._store.settle(settlements)
            except Exception as error:
                if _may_succeed_later(error):
                    raise
                return error

        result = await retry(settle, event="jobs not settled")
        if isinstance(result, Exception):
            await self._reject_invalid(batch, result)
        else:
            self._resolve(batch, result)

    def _on_retried(self, task: asyncio.Task[None]) -> None:
        self._retries.discard(task)
        if not self._retries:
            self.is_healthy.set()

    async def _reject_invalid(self, batch: Sequence[_Pending], error: Exception) -> None:
        """Commit the settlements of a refused batch one by one, so that an invalid one concerns its job alone."""
        if len(batch) == 1:
            _reject(batch, error)
            return
        for pending in batch:
            await self._commit([pending])

    def _resolve(self, batch: Sequence[_Pending], changed: set[int]) -> None:
        if self._on_commit is not None:
            self._on_commit(len(batch))
        for pending in batch:
            pending.on_committed(pending.settlement.job_id in changed)


def _may_succeed_later(error: Exception) -> bool:
    """Return whether the database refused the statement itself, such as for a missing right, and not its values."""
    is_denied = isinstance(error, asyncpg.PostgresError) and str(error.sqlstate).startswith(_STATEMENT_SQLSTATES)
    return is_denied or is_transient(error)


def _reject(batch: Sequence[_Pending], error: Exception) -> None:
    for pending in batch:
        pending.on_committed(error)
