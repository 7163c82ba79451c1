"""``JobContext``: what a handler knows about the job it runs."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from jobfn.errors import ConfigurationError
from jobfn.function.durable.methods import DurableMethods
from jobfn.wire import JobHeaders

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from jobfn.function.agent import Agent
    from jobfn.function.database import DatabasePool, JobDatabase
    from jobfn.function.graphql import GraphQL


MAX_PROGRESS_MESSAGE_CHARACTERS = 1000


class Progress(NamedTuple):
    """Progress of a running job."""

    fraction: float | None = None
    message: str | None = None


ProgressCallback = Callable[[Progress], Awaitable[object]]


@dataclass
class JobContext(DurableMethods):
    """The context of one job attempt. The app builds it; unit tests build one by hand.

    Attributes:
        task: The task identifier.
        job_id: ``jobs.id``; None outside a job.
        worker_id: The worker that holds the job; None outside a job.
        database_id: The tenant, if the job has one.
        actor_id: The user who caused the job, if known.
        entity_id: The entity that the job is about, if known.
        attempt: Number of this attempt, 1 for the first, if the worker sends it (jobfn's does). Snoozes do not count.
        organization_id: The organization that the job belongs to, if known.
        invocation_id: The worker's record of this delivery, if it keeps one (the platform's newer worker does).
        execution_id: The execution of a flow graph that the job is a part of, if any.
        node_name: The node of the graph that the job runs.
        snoozes: How often the job was snoozed (``RetryLater``).
        installation_id: Identity of the database's jobs, if the worker sends it (jobfn's does). A part of
            ``idempotency_key``.
        created_at: When the job was added, as text, if the worker sends it. A part of ``idempotency_key``.
        env: The process's environment variables.
        on_progress: Called with each ``Progress``. Default None.
        last_progress: The progress that the handler reported last.
        lease_lost: Whether another worker has claimed the job meanwhile.
        cancelled: Whether the job was cancelled while the handler runs. A sync handler that runs for long looks at it
            and returns or raises; an async one is cancelled (``asyncio.CancelledError``).
    """

    task: str
    job_id: int | None = None
    worker_id: str | None = None
    database_id: UUID | None = None
    actor_id: UUID | None = None
    entity_id: UUID | None = None
    attempt: int | None = None
    organization_id: UUID | None = None
    invocation_id: UUID | None = None
    execution_id: UUID | None = None
    node_name: str | None = None
    snoozes: int = 0
    installation_id: str | None = None
    created_at: str | None = None
    env: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    on_progress: "ProgressCallback | None" = field(default=None, repr=False, compare=False)
    last_progress: Progress | None = field(default=None, init=False, repr=False, compare=False)
    lease_lost: bool = field(default=False, init=False, repr=False, compare=False)
    cancelled: bool = field(default=False, init=False, repr=False, compare=False)
    _handler: "asyncio.Task[Any] | None" = field(default=None, init=False, repr=False, compare=False)
    _is_async: bool = field(default=True, init=False, repr=False, compare=False)
    _cancellations: int = field(default=0, init=False, repr=False, compare=False)
    _grace_timer: "asyncio.TimerHandle | None" = field(default=None, init=False, repr=False, compare=False)
    _pool: "DatabasePool | None" = field(default=None, init=False, repr=False, compare=False)
    _is_db_refused: bool = field(default=False, init=False, repr=False, compare=False)
    _clients: dict[str, Any] | None = field(default=None, init=False, repr=False, compare=False)
    _log: "FilteringBoundLogger | None" = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def from_headers(
        cls, task: str, headers: JobHeaders, *, on_progress: "ProgressCallback | None" = None
    ) -> "JobContext":
        """Build the context of a delivery with these job headers (contract, section 1)."""
        return cls(
            task,
            headers.job_id,
            headers.worker_id,
            headers.database_id,
            headers.actor_id,
            headers.entity_id,
            headers.attempt if headers.attempt is None else headers.attempt - headers.snoozes,
            headers.organization_id,
            headers.invocation_id,
            headers.execution_id,
            headers.node_name,
            headers.snoozes,
            headers.installation_id,
            headers.created_at,
            on_progress=on_progress,
        )

    @property
    def _runs_on(self) -> bool:
        """Whether the job was cancelled, and its sync handler was left to its thread after the grace time."""
        return not self._is_async and self._cancellations > 0

    @property
    def log(self) -> "FilteringBoundLogger":
        """A structured logger bound to the job's ids: ``ctx.log.info("charging", invoice=1)``."""
        if self._log is None:
            from jobfn.telemetry import logs  # noqa: PLC0415  - structlog takes longer to import than jobfn

            self._log = logs.get_logger("jobfn.task").bind(**self.ids())
        return self._log

    @property
    def graphql(self) -> "GraphQL":
        """The tenant's GraphQL endpoint: ``await ctx.graphql.execute("query ...", {...})``. See ``graphql.py``.

        Raises:
            ConfigurationError: ``GRAPHQL_URL`` is not set.
        """
        from jobfn.function.graphql import tenant_endpoint  # noqa: PLC0415  - keeps cold starts short

        client: GraphQL = self._cached_client("graphql", lambda: tenant_endpoint(self.env, self.database_id))
        return client

    @property
    def meta(self) -> "GraphQL":
        """The GraphQL endpoint of the platform's own data. See ``graphql.py``.

        Raises:
            ConfigurationError: Neither ``META_GRAPHQL_URL`` nor ``GRAPHQL_URL`` is set.
        """
        from jobfn.function.graphql import meta_endpoint  # noqa: PLC0415  - as above

        client: GraphQL = self._cached_client("meta", lambda: meta_endpoint(self.env))
        return client

    @property
    def agent(self) -> "Agent":
        """Model calls with the job's identity: ``await ctx.agent.inference(messages=[...])``. See ``agent.py``."""
        from jobfn.function.agent import Agent  # noqa: PLC0415  - as above

        client: Agent = self._cached_client(
            "agent",
            lambda: Agent(self.env, database_id=self.database_id, entity_id=self.entity_id, actor_id=self.actor_id),
        )
        return client

    @property
    def db(self) -> "JobDatabase":
        """PostgreSQL as the job's tenant and actor: ``await ctx.db.fetch("...")``. See ``database.py``.

        Raises:
            ConfigurationError: Callers on other machines need no invoke secret, and could choose the tenant.
        """
        from jobfn.function.database import REFUSED, DatabasePool, JobDatabase  # noqa: PLC0415  - as above

        if self._is_db_refused:
            raise ConfigurationError(REFUSED)
        # Outside an app the context owns its pool, and closes it.
        pool = self._pool or self._cached_client("pool", DatabasePool)
        client: JobDatabase = self._cached_client(
            "db", lambda: JobDatabase(pool, self.env, database_id=self.database_id, actor_id=self.actor_id)
        )
        return client

    async def aclose(self) -> None:
        """Close the clients that this context opened. The app calls it after the handler."""
        clients, self._clients = self._clients or {}, None
        for client in reversed(clients.values()):
            await client.aclose()

    def _cached_client(self, name: str, create: Callable[[], Any]) -> Any:
        if self._clients is None:
            self._clients = {}
        if name not in self._clients:
            self._clients[name] = create()
        return self._clients[name]

    def _refuse_db(self) -> None:
        """Refuse ``db``, because the caller may have invented the tenant. Called by the app."""
        self._is_db_refused = True

    def _bind_pool(self, pool: "DatabasePool") -> None:
        """Set the connection pool of ``db``. Called by the app."""
        self._pool = pool

    @property
    def idempotency_key(self) -> str:
        """A key that is the same for every attempt of a job and unique to it, for APIs that accept such a key.

        It consists of installation, task, tenant, job id and the time when the job was added; of the task alone outside
        a job. Workers other than jobfn's do not send installation and time: then they are missing, and jobs of another
        database, or after a failover that lost jobs, may have the same key.
        """
        parts = ("jobfn", self.installation_id, self.task, self.database_id, self.job_id, self.created_at)
        return ":".join(str(part) for part in parts if part is not None)

    async def progress(self, fraction: float | None = None, message: str | None = None) -> None:
        """Report progress and extend the job's lease. Does nothing outside a job.

        An unreachable callback server does not fail the job: the failure is logged.

        Args:
            fraction: 0 to 1; None if unknown.
            message: What the job is doing, at most 1,000 characters.

        Raises:
            ValueError: ``fraction`` is not from 0 to 1, or ``message`` is too long.
        """
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"progress({fraction!r}): fraction must be from 0 to 1")
        if message is not None and len(message) > MAX_PROGRESS_MESSAGE_CHARACTERS:
            raise ValueError(f"a progress message must have at most {MAX_PROGRESS_MESSAGE_CHARACTERS} characters")
        self.last_progress = Progress(fraction, message)
        if self.on_progress is not None:
            await self.on_progress(self.last_progress)

    def ids(self) -> dict[str, str | int | None]:
        """Return the ids for log lines: the first five always in a job, the others only if they are known."""
        ids: dict[str, str | int | None] = {
            "task": self.task,
            "job": self.job_id,
            "attempt": None if self.attempt is None else self.attempt + self.snoozes,  # as in all other log lines
            "worker": self.worker_id,
            "tenant": None if self.database_id is None else str(self.database_id),
        }
        for name, value in (
            ("organization", self.organization_id),
            ("invocation", self.invocation_id),
            ("execution", self.execution_id),
            ("node", self.node_name),
        ):
            if value is not None:
                ids[name] = str(value)
        if self.job_id is None:
            return {name: value for name, value in ids.items() if value is not None}
        return ids
