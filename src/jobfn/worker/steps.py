"""Record and load the steps of durable functions (``wire/steps.py``), for HTTP and for tasks in this process.

Steps that are ready at the same moment share a statement and a commit, as settlements do (``settlement.py``).
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

import asyncpg

from jobfn.database.connection import is_transient
from jobfn.database.step_store import HeldJob, StepStore
from jobfn.wire.steps import StepPage, StepRecord

#: Maximum number of requests in a statement.
MAX_BATCH_SIZE: Final = 500
#: Maximum size of the results in a statement.
_MAX_BATCH_CHARACTERS: Final = 4_000_000

Content = TypeVar("Content")
Response = TypeVar("Response")


class InvalidStep(ValueError):
    """The database refuses a step, for example a call of a task whose name is too long. The message says why."""


class _Queued(NamedTuple, Generic[Content, Response]):
    job: HeldJob
    content: Content
    characters: int
    response: "asyncio.Future[Response]"


class _Batcher(Generic[Content, Response]):
    """Handles the requests that are ready at the same moment together, but not those of two deliveries of a job."""

    def __init__(self, handle: Callable[[Sequence[tuple[HeldJob, Content]]], Awaitable[Sequence[Response]]]) -> None:
        self._handle = handle
        self._queue: list[_Queued[Content, Response]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._context = contextvars.copy_context()

    async def submit(self, job: HeldJob, content: Content, characters: int = 0) -> Response:
        """Handle a request with others. Raises what handling it alone would raise."""
        response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._queue.append(_Queued(job, content, characters, response))
        if self._flushing is None or self._flushing.done():
            # Not the context of the job that started it, whose ids log lines about a batch must not carry.
            self._flushing = asyncio.create_task(self._flush(), context=self._context)
        return await response

    async def _flush(self) -> None:
        while self._queue:
            batch: list[_Queued[Content, Response]] = []
            characters = 0
            deliveries: dict[int, HeldJob] = {}
            for queued in self._queue[:MAX_BATCH_SIZE]:
                characters += queued.characters
                if batch and characters > _MAX_BATCH_CHARACTERS:
                    break
                if deliveries.setdefault(queued.job.job_id, queued.job) != queued.job:
                    break  # a statement finds out which jobs are held, not in which of two attempts
                batch.append(queued)
            del self._queue[: len(batch)]
            await self._handle_batch(batch)

    async def _handle_batch(self, batch: Sequence[_Queued[Content, Response]]) -> None:
        try:
            responses = await self._handle([(queued.job, queued.content) for queued in batch])
        except Exception as error:  # noqa: BLE001  - passed to each submitter
            if len(batch) > 1 and not is_transient(error):
                for queued in batch:  # one by one, so that an invalid one concerns itself alone
                    await self._handle_batch([queued])
                return
            for queued in batch:
                if not queued.response.done():
                    queued.response.set_exception(error)
        else:
            for queued, response in zip(batch, responses, strict=True):
                if not queued.response.done():
                    queued.response.set_result(response)


class StepRecorder:
    """Records and loads steps.

    Args:
        store: Stores them.
        lease_seconds: Recording a step renews its job's lease for this time.
    """

    def __init__(self, store: StepStore, *, lease_seconds: float) -> None:
        self._store = store
        self._lease_seconds = lease_seconds
        self._records: _Batcher[Sequence[StepRecord], StepPage | None] = _Batcher(self._record)
        self._loads: _Batcher[int, StepPage | None] = _Batcher(self._store_load)

    async def record(self, job: HeldJob, records: Sequence[StepRecord]) -> StepPage | None:
        """Record steps of a job, and return them as they are recorded; None if its worker does not hold it (any more).

        Raises:
            InvalidStep: A step is invalid. None is recorded.
        """
        characters = sum(len(record.result or "") + 200 for record in records)
        try:
            return await self._records.submit(job, records, characters)
        except (asyncpg.CheckViolationError, asyncpg.ProgramLimitExceededError) as error:
            raise InvalidStep(str(error)) from None

    async def load(self, job: HeldJob, after: int) -> StepPage | None:
        """Return the steps of a job after a position; None if its worker does not hold it (any more)."""
        return await self._loads.submit(job, after)

    async def _record(self, requests: Sequence[tuple[HeldJob, Sequence[StepRecord]]]) -> list[StepPage | None]:
        entries = [(job, record) for job, records in requests for record in records]
        recorded = await self._store.record(entries, lease_seconds=self._lease_seconds)
        return [
            None
            if job.job_id not in recorded
            else StepPage([recorded[job.job_id][record.position] for record in records])
            for job, records in requests
        ]

    async def _store_load(self, requests: Sequence[tuple[HeldJob, int]]) -> list[StepPage | None]:
        pages = await self._store.load(requests)
        return [pages.get(job.job_id) for job, _ in requests]
