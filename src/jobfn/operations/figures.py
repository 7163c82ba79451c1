"""Numbers about all jobs together, and who works on them: values, without I/O."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class GroupCount:
    """The jobs of one task or one queue, by state.

    Attributes:
        name: Of the task, or the queue.
        ready: Could run now.
        delayed: Wait for their time.
        running: A worker holds them.
        failed: Have no attempts left.
    """

    name: str
    ready: int
    delayed: int
    running: int
    failed: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.ready + self.delayed + self.running + self.failed


@dataclass(frozen=True, slots=True)
class Counts:
    """All jobs, by state.

    Attributes:
        taken_at: When they were counted, by the database's clock.
        ready: Could run now.
        delayed: Wait for their time.
        running: A worker holds them.
        failed: Have no attempts left.
        oldest_ready_seconds: For how long the oldest ready one could have run; None: there is none.
        by_task: For each task, by name.
        by_queue: For the named queues that have most jobs, at most 100, largest first.
        took_seconds: What the look cost.
    """

    taken_at: datetime
    ready: int
    delayed: int
    running: int
    failed: int
    oldest_ready_seconds: float | None
    by_task: tuple[GroupCount, ...]
    by_queue: tuple[GroupCount, ...]
    took_seconds: float

    @property
    def total(self) -> int:
        """All of them."""
        return self.ready + self.delayed + self.running + self.failed


@dataclass(frozen=True, slots=True)
class Minute:
    """The attempts that ended within one minute.

    Attributes:
        at: Its beginning.
        completed: How many went well.
        failed: How many did not, those that are tried again among them.
        mean_seconds: How long they took, on average; None: there was none.
        p50_seconds: Half of them took no longer.
        p95_seconds: 95 of 100 took no longer.
        max_seconds: The longest.
        queue_p95_seconds: 95 of 100 waited no longer for a worker.
    """

    at: datetime
    completed: int = 0
    failed: int = 0
    mean_seconds: float | None = None
    p50_seconds: float | None = None
    p95_seconds: float | None = None
    max_seconds: float | None = None
    queue_p95_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A process that works on jobs.

    Attributes:
        id: Its worker id.
        host: Where it runs; None, as what follows: it is known only by the jobs it holds.
        pid: Its process.
        version: Of jobfn.
        parts: What it runs: ``worker``, ``callbacks``, ``scheduler``.
        concurrency: Requests to functions at a time.
        in_flight: How many it has now.
        started_at: Since when.
        seen_at: When it last said so.
        is_alive: Whether that is recent enough; one that holds jobs whose locks are good counts as alive.
        holds: How many jobs it holds.
    """

    id: str
    host: str | None = None
    pid: int | None = None
    version: str | None = None
    parts: tuple[str, ...] = ()
    concurrency: int | None = None
    in_flight: int | None = None
    started_at: datetime | None = None
    seen_at: datetime | None = None
    is_alive: bool = True
    holds: int = 0

    @property
    def is_registered(self) -> bool:
        """Whether it says that it is there, as jobfn's own do on jobfn's schema."""
        return self.host is not None
