"""``JobContext``: what a handler may know about the delivery it works on."""

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from jobfn.wire import JobHeaders

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from jobfn.function.database import DatabasePool, JobDatabase
    from jobfn.function.graphql import GraphQL


#: What a progress note may be long.
MAX_NOTE_CHARACTERS = 1000


class Progress(NamedTuple):
    """How far a job is.

    Attributes:
        share: 0 to 1; None: not said.
        note: What it is at; None: not said.
    """

    share: float | None = None
    note: str | None = None


@dataclass(init=False)
class JobContext:
    """One delivery, as its handler sees it. Built by the app; in a unit test, build one by hand.

    Attributes:
        task: The task identifier.
        job_id: ``jobs.id``; None when called by hand.
        worker_id: The worker that holds the job; None when called by hand.
        database_id: The tenant, where the job has one.
        actor_id: Who caused the job, where known.
        entity_id: What the job is about, where known.
        attempt: Which attempt this is, 1 for the first, where the worker says so (jobfn's does).
        env: The process's environment variables.
        last_progress: What ``progress`` was told last.
        lost: Whether the job was given to somebody else while this delivery ran.
    """

    task: str
    job_id: int | None
    worker_id: str | None
    database_id: UUID | None
    actor_id: UUID | None
    entity_id: UUID | None
    attempt: int | None
    env: Mapping[str, str] = field(repr=False)
    last_progress: "Progress | None" = field(repr=False, compare=False)
    lost: bool = field(repr=False, compare=False)
    _beat: "Callable[[Progress], Awaitable[object]] | None" = field(repr=False, compare=False)
    _pool: "DatabasePool | None" = field(repr=False, compare=False)
    _opened: "dict[str, Any] | None" = field(repr=False, compare=False)
    _log: "FilteringBoundLogger | None" = field(repr=False, compare=False)

    # By hand: one is made for each delivery, and what most handlers never touch is made when asked for.
    def __init__(  # noqa: PLR0917  - of a dataclass, as users build it in their tests
        self,
        task: str,
        job_id: int | None = None,
        worker_id: str | None = None,
        database_id: UUID | None = None,
        actor_id: UUID | None = None,
        entity_id: UUID | None = None,
        attempt: int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.task = task
        self.job_id = job_id
        self.worker_id = worker_id
        self.database_id = database_id
        self.actor_id = actor_id
        self.entity_id = entity_id
        self.attempt = attempt
        self.env = os.environ if env is None else env
        self.last_progress = self._beat = self._pool = self._opened = self._log = None
        self.lost = False

    @classmethod
    def of(cls, task: str, headers: JobHeaders) -> "JobContext":
        """The context of a delivery of ``task`` with these headers (contract, section 1)."""
        return cls(
            task,
            headers.job_id,
            headers.worker_id,
            headers.database_id,
            headers.actor_id,
            headers.entity_id,
            headers.attempt,
        )

    @property
    def log(self) -> "FilteringBoundLogger":
        """A structured logger that already carries the job's ids: ``ctx.log.info("charging", invoice=1)``."""
        if self._log is None:
            from jobfn.telemetry import logs  # noqa: PLC0415  - structlog is loaded by who logs

            self._log = logs.get_logger("jobfn.task").bind(**self.ids())
        return self._log

    @property
    def graphql(self) -> "GraphQL":
        """The tenant's GraphQL endpoint: ``await ctx.graphql.execute("query ...", {...})``. See ``graphql.py``.

        Raises:
            ConfigurationError: ``GRAPHQL_URL`` is not set.
        """
        from jobfn.function.graphql import graphql_of  # noqa: PLC0415  - only who asks pays for it

        found: GraphQL = self._once("graphql", lambda: graphql_of(self.env, self.database_id))
        return found

    @property
    def meta(self) -> "GraphQL":
        """The GraphQL endpoint of the platform's own data. See ``graphql.py``.

        Raises:
            ConfigurationError: Neither ``META_GRAPHQL_URL`` nor ``GRAPHQL_URL`` is set.
        """
        from jobfn.function.graphql import meta_of  # noqa: PLC0415  - as above

        found: GraphQL = self._once("meta", lambda: meta_of(self.env))
        return found

    @property
    def db(self) -> "JobDatabase":
        """PostgreSQL as the job's tenant and actor see it: ``await ctx.db.fetch("...")``. See ``database.py``."""
        from jobfn.function.database import DatabasePool, JobDatabase  # noqa: PLC0415  - as above

        pool = self._pool or self._once("pool", DatabasePool)  # built by hand: its own, and closed with it
        found: JobDatabase = self._once(
            "db", lambda: JobDatabase(pool, self.env, database_id=self.database_id, actor_id=self.actor_id)
        )
        return found

    async def aclose(self) -> None:
        """Give back and close what the handler has opened by ``graphql``, ``meta`` and ``db``. The app does it."""
        opened, self._opened = self._opened, None
        for each in reversed((opened or {}).values()):
            await each.aclose()

    def _once(self, name: str, make: "Callable[[], Any]") -> Any:
        """What was opened under this name; made at the first time."""
        if self._opened is None:
            self._opened = {}
        if name not in self._opened:
            self._opened[name] = make()
        return self._opened[name]

    @property
    def has_opened(self) -> bool:
        """Whether there is anything to close."""
        return bool(self._opened)

    def bind_pool(self, pool: "DatabasePool") -> None:
        """Where ``db`` takes its connections from. For the app."""
        self._pool = pool

    @property
    def idempotency_key(self) -> str:
        """The same for all deliveries of one job, another for every other job: for APIs that take such a key.

        It is made of task, tenant and job id; of the task alone when called by hand.
        """
        return ":".join(str(part) for part in ("jobfn", self.task, self.database_id, self.job_id) if part is not None)

    async def progress(self, share: float | None = None, note: str | None = None) -> None:
        """Tell how far the job is, and keep its lock. By hand, or under a worker that does not listen: nothing.

        A callback server that does not hear it is no failure of the job's: the log says so, and the work goes on.

        Args:
            share: 0 to 1; None: not said.
            note: What it is at, at most 1,000 characters; None: not said.

        Raises:
            ValueError: The share is not from 0 to 1, or the note too long.
        """
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f"progress({share!r}): a share is from 0 to 1")
        if note is not None and len(note) > MAX_NOTE_CHARACTERS:
            raise ValueError(f"a progress note has at most {MAX_NOTE_CHARACTERS} characters")
        self.last_progress = Progress(share, note)
        if self._beat is not None:
            await self._beat(self.last_progress)

    def listen(self, beat: "Callable[[Progress], Awaitable[object]]") -> None:
        """Where progress goes from now on. For the app; a test may listen too."""
        self._beat = beat

    def ids(self) -> dict[str, str | int | None]:
        """The ids as they go into logs: of a job all five, None where it has none; called by hand, those there are."""
        ids: dict[str, str | int | None] = {
            "task": self.task,
            "job": self.job_id,
            "attempt": self.attempt,
            "worker": self.worker_id,
            "tenant": None if self.database_id is None else str(self.database_id),
        }
        if self.job_id is None:
            return {name: value for name, value in ids.items() if value is not None}
        return ids
