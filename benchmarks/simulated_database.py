"""A jobs table in memory, and the store and the function of a simulated worker."""

import asyncio
import heapq
import math
import random
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from jobfn.database.native_store import NativeJobStore
from jobfn.database.records import ExpiredJob, Job, Settlement
from jobfn.worker.delivery import Deliverer, DeliveryResult, Failed, Succeeded

#: Duration of a statement, at least and at most.
STATEMENT_SECONDS = 0.001, 0.004
#: Backoff after a failed attempt.
RETRY_SECONDS = 2.0


@dataclass(slots=True)
class SimulatedJob:
    """A row of the table.

    Attributes:
        seconds: How long its handler runs.
        runs: Number of times a handler has ended.
    """

    id: int
    task: str
    seconds: float
    added_at: float
    attempt: int = 0
    started_at: float | None = None
    locked_by: str | None = None
    lease_expires_at: float = math.inf
    runs: int = 0


class SimulatedDatabase:
    """Ready jobs by task, in the order of their ids; delayed jobs; leases."""

    def __init__(self, rng: random.Random) -> None:
        self._clock = asyncio.get_running_loop().time
        self._random = rng
        self.jobs: dict[int, SimulatedJob] = {}
        self._ready: defaultdict[str, deque[int]] = defaultdict(deque)
        self._delayed: list[tuple[float, int]] = []
        self._leases: list[tuple[float, int, int]] = []
        self.listeners: list[asyncio.Event] = []
        self.waits: defaultdict[str, list[float]] = defaultdict(list)
        self.ended_by: defaultdict[str, int] = defaultdict(int)
        self.doubled = 0
        self.claims = self.empty_claims = self.notifications = 0
        self.is_up = True

    def add(self, jobs: Sequence[SimulatedJob]) -> None:
        """Add jobs, and notify all workers once."""
        for job in jobs:
            self.jobs[job.id] = job
            self._ready[job.task].append(job.id)
        self.notifications += 1
        for event in self.listeners:
            event.set()

    async def statement(self) -> None:
        """Take the time of a statement.

        Raises:
            ConnectionError: The database is down.
        """
        await asyncio.sleep(self._random.uniform(*STATEMENT_SECONDS))
        if not self.is_up:
            raise ConnectionRefusedError("the database is down")

    def claim(self, worker_id: str, limit: int, lease_seconds: float, exclude: Sequence[str]) -> list[SimulatedJob]:
        """Lock the oldest ready jobs, as ``claim_jobs`` does."""
        now = self._clock()
        self._unlock_expired(now)
        while self._delayed and self._delayed[0][0] <= now:
            job = self.jobs[heapq.heappop(self._delayed)[1]]
            self._ready[job.task].append(job.id)
        claimed: list[SimulatedJob] = []
        queues = [ids for task, ids in self._ready.items() if ids and task not in exclude]
        while queues and len(claimed) < limit:
            oldest = min(queues, key=lambda ids: ids[0])
            job = self.jobs[oldest.popleft()]
            if not oldest:
                queues.remove(oldest)
            job.attempt += 1
            job.locked_by, job.lease_expires_at = worker_id, now + lease_seconds
            heapq.heappush(self._leases, (job.lease_expires_at, job.id, job.attempt))
            claimed.append(job)
        self.claims += 1
        self.empty_claims += not claimed
        return claimed

    def settle(self, settlement: Settlement) -> bool:
        """End an attempt, if its worker still holds it."""
        job = self.jobs.get(settlement.job_id)
        if job is None or (job.locked_by, job.attempt) != (settlement.worker_id, settlement.attempt):
            return False
        job.locked_by = None
        if settlement.released:
            job.attempt -= 1
            self._ready[job.task].appendleft(job.id)
        elif settlement.error is not None:
            heapq.heappush(self._delayed, (self._clock() + RETRY_SECONDS, job.id))
        else:
            del self.jobs[job.id]
            self.ended_by[settlement.worker_id] += 1
        return True

    def renew(self, worker_id: str, keys: Sequence[tuple[int, int]], lease_seconds: float) -> set[int]:
        """Extend leases."""
        renewed = set()
        for job_id, attempt in keys:
            job = self.jobs.get(job_id)
            if job is not None and (job.locked_by, job.attempt) == (worker_id, attempt):
                job.lease_expires_at = self._clock() + lease_seconds
                heapq.heappush(self._leases, (job.lease_expires_at, job_id, attempt))
                renewed.add(job_id)
        return renewed

    def seconds_until_next(self) -> float | None:
        """Return the time until the next delayed job is due."""
        return self._delayed[0][0] - self._clock() if self._delayed else None

    def held_by(self, worker_ids: set[str]) -> set[int]:
        """Return the jobs that these workers have locked."""
        return {job.id for job in self.jobs.values() if job.locked_by in worker_ids}

    def _unlock_expired(self, now: float) -> None:
        while self._leases and self._leases[0][0] < now:
            _, job_id, attempt = heapq.heappop(self._leases)
            job = self.jobs.get(job_id)
            if job is not None and job.locked_by is not None and job.attempt == attempt and job.lease_expires_at < now:
                job.locked_by = None
                self._ready[job.task].appendleft(job_id)


@dataclass(eq=False)
class SimulatedWorker(NativeJobStore, Deliverer):
    """The store and the function of one worker. Once it is killed, nothing that it waits for ends.

    Attributes:
        polls: Number of claims.
    """

    worker_id: str
    database: SimulatedDatabase
    random: random.Random
    failure_rate: float
    is_alive: bool = True
    polls: int = 0
    running: "asyncio.Task[None] | None" = None

    async def _statement(self) -> None:
        await self._if_alive()
        await self.database.statement()
        await self._if_alive()

    async def _if_alive(self) -> None:
        if not self.is_alive:
            await asyncio.Event().wait()

    async def claim(
        self,
        worker_id: str,
        *,
        tasks: Sequence[str] | None,  # noqa: ARG002
        limit: int,
        lease_seconds: float | None = None,
        exclude_tasks: Sequence[str] = (),
        max_payload_bytes: int | None = None,  # noqa: ARG002
    ) -> list[Job]:
        """See ``JobStore.claim``."""
        await self._statement()
        self.polls += 1
        claimed = self.database.claim(worker_id, limit, lease_seconds or math.inf, exclude_tasks)
        return [Job(job.id, job.task, "{}", job.attempt) for job in claimed]

    async def settle(self, settlements: Sequence[Settlement]) -> set[int]:
        """See ``JobStore.settle``."""
        await self._statement()
        return {settlement.job_id for settlement in settlements if self.database.settle(settlement)}

    async def renew(self, worker_id: str, jobs: Sequence[tuple[int, int]], *, lease_seconds: float) -> set[int]:
        """See ``JobStore.renew``."""
        await self._statement()
        return self.database.renew(worker_id, jobs, lease_seconds)

    async def reap_expired(self) -> list[ExpiredJob]:
        """See ``JobStore.reap_expired``."""
        await self._statement()
        return []

    async def expire(self) -> int:
        await self._statement()
        return 0

    async def cancelled(self, jobs: Sequence[tuple[int, int]]) -> set[int]:  # noqa: ARG002
        await self._statement()
        return set()

    async def paused(self, job_ids: Sequence[int]) -> set[int]:  # noqa: ARG002
        await self._statement()
        return set()

    async def reclaim(self, worker_id: str) -> list[ExpiredJob]:  # noqa: ARG002
        """See ``JobStore.reclaim``."""
        await self._statement()
        return []

    async def seconds_until_next(self, *, since_seconds: float = 0.0) -> float | None:  # noqa: ARG002
        """See ``JobStore.seconds_until_next``."""
        await self._statement()
        return self.database.seconds_until_next()

    async def deliver(self, job: Job) -> DeliveryResult:
        """Run the handler of a job: sleep."""
        row = self.database.jobs[job.id]
        if row.started_at is None:
            row.started_at = asyncio.get_running_loop().time()
            self.database.waits[job.task].append(row.started_at - row.added_at)
        await asyncio.sleep(row.seconds)
        await self._if_alive()
        if self.random.random() < self.failure_rate:
            return Failed("it failed")
        row.runs += 1
        self.database.doubled += row.runs > 1
        return Succeeded()
