"""A job store without a database."""

import asyncio
from collections.abc import Iterable, Sequence

from jobfn.database.native_store import NativeJobStore
from jobfn.database.records import ExpiredJob, Settlement


class RecordingStore(NativeJobStore):
    """Records settlements. Each held job can be settled once.

    Attributes:
        held: Ids of the held jobs.
        batches: The settlements of each statement.
        started: Set when a statement starts.
        gate: Statements wait until it is set. Default: set.
        error: Raised by settlements and renewals. Default: none.
        renewals: Number of statements that renewed leases.
        invalid: Ids of jobs whose settlements the database refuses.
    """

    steps = None

    def __init__(self, held: Iterable[int] = range(1000), *, invalid: Iterable[int] = ()) -> None:
        self.held = set(held)
        self.invalid = set(invalid)
        self.batches: list[list[Settlement]] = []
        self.started = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.renewals = 0

    async def renew(self, worker_id: str, jobs: Sequence[tuple[int, int]], *, lease_seconds: float) -> set[int]:
        """See ``JobStore.renew``."""
        self.renewals += 1
        if self.error is not None:
            raise self.error
        return {job_id for job_id, _ in jobs} & self.held

    async def expire(self) -> int:
        """See ``JobStore.expire``."""
        return 0

    async def cancelled(self, jobs: Sequence[tuple[int, int]]) -> set[int]:
        """See ``JobStore.cancelled``."""
        return set()

    async def reap_expired(self) -> list[ExpiredJob]:
        """See ``JobStore.reap_expired``."""
        return []

    async def settle(self, settlements: Sequence[Settlement]) -> set[int]:
        """See ``JobStore.settle``."""
        self.batches.append(list(settlements))
        self.started.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        if any(settlement.job_id in self.invalid for settlement in settlements):
            raise ValueError("rejected")
        changed = {settlement.job_id for settlement in settlements} & self.held
        self.held -= changed
        return changed
