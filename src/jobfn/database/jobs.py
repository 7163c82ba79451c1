"""Claim, settle, release, enqueue: the only code that runs statements on jobs.

``open_store`` looks at the schema once. jobfn's own gets ``BatchStore``, one statement for many jobs; a schema of
the platform's gets ``SingleStore``, which calls the contract's functions job by job. Both do the same things under
the same names, and nothing above this module knows which it has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import asyncpg

from jobfn.database.connection import CONNECTION_LOST
from jobfn.database.statements import query
from jobfn.errors import DatabaseError, SchemaError

#: A lock older than this counts as forgotten (contract, section 3).
JOB_EXPIRY = timedelta(hours=4)
#: Of an error message this much is kept.
MAX_ERROR_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job, as a worker delivers it.

    Attributes:
        id: ``jobs.id``.
        task: The task identifier.
        payload: JSON text, as stored.
        attempt: Which attempt this is, 1 for the first.
        queue: The named queue it holds, if any.
        database_id: The tenant, if any.
        actor_id: Who caused it, if known.
        entity_id: What it is about, if known.
    """

    id: int
    task: str
    payload: str
    attempt: int
    queue: str | None = None
    database_id: str | None = None
    actor_id: str | None = None
    entity_id: str | None = None

    @classmethod
    def of(cls, row: "asyncpg.Record") -> "Job":
        """The job in a row of ``claim_jobs.sql`` or ``get_job.sql``."""
        return cls(
            id=row["id"],
            task=row["task_identifier"],
            payload=row["payload"],
            attempt=row["attempts"],
            queue=row["queue_name"],
            database_id=_text(row["database_id"]),
            actor_id=_text(row["actor_id"]),
            entity_id=_text(row["entity_id"]),
        )


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a delivery ended, on its way into the database.

    Attributes:
        worker_id: Who must hold the job for this to count.
        job_id: ``jobs.id``.
        attempt: In which attempt it must be held; None: in any.
        error: Why it failed; None completes it.
    """

    worker_id: str
    job_id: int
    attempt: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to enqueue; every field as in the contract's ``add_job``.

    Attributes:
        task: The task identifier, 1 to 126 characters.
        payload: JSON text.
        key: At most one waiting job has it.
        queue: Jobs of one queue run one at a time.
        run_at: Not before; None: now.
        max_attempts: Default 25.
        priority: Lower runs first.
        database_id: The tenant; None: that of the session.
    """

    task: str
    payload: str = "{}"
    key: str | None = None
    queue: str | None = None
    run_at: datetime | None = None
    max_attempts: int = 25
    priority: int = 0
    database_id: str | None = None


class JobStore(Protocol):
    """What a worker and a callback server need of the database."""

    async def claim(self, worker_id: str, *, tasks: Sequence[str] | None, limit: int) -> list[Job]:
        """Lock up to ``limit`` ready jobs, most urgent first; ``tasks`` None takes any."""

    async def settle(self, settlements: Sequence[Settlement]) -> set[int]:
        """Commit these outcomes. Returns the ids that changed: a job that is not held so stays as it is."""

    async def release(self, worker_id: str) -> None:
        """Unlock all that this worker holds, giving the attempts back."""

    async def seconds_to_next(self) -> float | None:
        """Seconds until the next delayed job is due; None when there is none."""


class BatchStore:
    """``JobStore`` on jobfn's own schema."""

    def __init__(self, pool: "asyncpg.Pool[Any]", schema: str) -> None:
        self._pool = pool
        self._claim = query("claim_jobs", schema)
        self._settle = query("settle_jobs", schema)
        self._release = query("release_jobs", schema)
        self._next = query("next_run_at", schema)

    async def claim(self, worker_id: str, *, tasks: Sequence[str] | None, limit: int) -> list[Job]:
        """See ``JobStore.claim``: one statement for all of them."""
        rows = await self._pool.fetch(self._claim, worker_id, tasks, JOB_EXPIRY, limit)
        return [Job.of(row) for row in rows]

    async def settle(self, settlements: Sequence[Settlement]) -> set[int]:
        """See ``JobStore.settle``: one statement, one commit."""
        rows = await self._pool.fetch(
            self._settle,
            [settlement.worker_id for settlement in settlements],
            [settlement.job_id for settlement in settlements],
            [settlement.attempt for settlement in settlements],
            [None if settlement.error is None else storable(settlement.error) for settlement in settlements],
        )
        return {row["id"] for row in rows}

    async def release(self, worker_id: str) -> None:
        """See ``JobStore.release``."""
        await self._pool.execute(self._release, worker_id)

    async def seconds_to_next(self) -> float | None:
        """See ``JobStore.seconds_to_next``."""
        seconds: float | None = await self._pool.fetchval(self._next)
        return seconds


class SingleStore:
    """``JobStore`` on a schema that has only the contract's functions, and perhaps fewer columns."""

    def __init__(self, pool: "asyncpg.Pool[Any]", schema: str, *, has_actor_id: bool, has_entity_id: bool) -> None:
        self._pool = pool
        self._claim = (
            query("get_job", schema)
            .replace("@actor_id@", "j.actor_id" if has_actor_id else "null::uuid")
            .replace("@entity_id@", "j.entity_id" if has_entity_id else "null::uuid")
        )
        self._is_held = query("is_held", schema)
        self._complete = query("complete_job", schema)
        self._fail = query("fail_job", schema)
        self._release = query("release_jobs", schema)
        self._next = query("next_run_at_platform", schema)

    async def claim(self, worker_id: str, *, tasks: Sequence[str] | None, limit: int) -> list[Job]:
        """See ``JobStore.claim``: ``get_job`` until it has no more, or the connection ends; what it has, it returns."""
        jobs: list[Job] = []
        try:
            async with self._pool.acquire() as connection:
                while len(jobs) < limit:
                    row = await connection.fetchrow(self._claim, worker_id, tasks, JOB_EXPIRY)
                    if row is None:
                        break
                    jobs.append(Job.of(row))
        except CONNECTION_LOST:
            if not jobs:
                raise
        return jobs

    async def settle(self, settlements: Sequence[Settlement]) -> set[int]:
        """See ``JobStore.settle``: a transaction for each, which first makes sure that the job is held.

        The platform's ``complete_job`` does not ask who holds the job; we do.
        """
        changed: set[int] = set()
        async with self._pool.acquire() as connection:
            for settlement in settlements:
                async with connection.transaction():
                    held = await connection.fetchval(
                        self._is_held, settlement.worker_id, settlement.job_id, settlement.attempt
                    )
                    if held is None:
                        continue
                    if settlement.error is None:
                        await connection.execute(self._complete, settlement.worker_id, settlement.job_id)
                    else:
                        await connection.execute(
                            self._fail, settlement.worker_id, settlement.job_id, storable(settlement.error)
                        )
                changed.add(settlement.job_id)
        return changed

    async def release(self, worker_id: str) -> None:
        """See ``JobStore.release``."""
        await self._pool.execute(self._release, worker_id)

    async def seconds_to_next(self) -> float | None:
        """See ``JobStore.seconds_to_next``."""
        seconds: float | None = await self._pool.fetchval(self._next)
        return seconds


async def open_store(pool: "asyncpg.Pool[Any]", schema: str) -> JobStore:
    """The store for the schema that this database carries.

    Raises:
        SchemaError: It carries none, an older one, or one that this role may not use; says what to do.
    """
    kind = await pool.fetchrow(query("schema_kind", schema), schema)
    if kind is None or not kind["has_jobs"]:
        raise SchemaError(f"this database has no jobs schema {schema}: run `jobfn db migrate`, or set JOBS_SCHEMA")
    if not kind["is_open"]:
        raise SchemaError(f"this role may not use schema {schema}: grant it, or connect as another role")
    features = await pool.fetchrow(query("features", schema), schema)
    if features is not None and features["batches"]:
        return BatchStore(pool, schema)
    if kind["has_record"]:
        raise SchemaError(f"schema {schema} is older than this jobfn: run `jobfn db migrate`")
    return SingleStore(
        pool,
        schema,
        has_actor_id=features is not None and features["actor_id"],
        has_entity_id=features is not None and features["entity_id"],
    )


async def enqueue(connection: "asyncpg.Connection[Any]", schema: str, job: NewJob) -> int:
    """Add one job in the connection's transaction.

    Returns:
        Its id.

    Raises:
        SchemaError: There is no such schema, or a platform's, whose ``add_job`` wants a tenant.
        DatabaseError: PostgreSQL refused it: no JSON, too long a name; says which.
    """
    values = [job.task, job.payload, job.key, job.queue, job.run_at, job.max_attempts, job.priority]
    try:
        if job.database_id is not None:
            found = await connection.fetchval(query("add_job_for_tenant", schema), *values, job.database_id)
        else:
            found = await connection.fetchval(query("add_job", schema), *values)
    except (asyncpg.InvalidSchemaNameError, asyncpg.UndefinedFunctionError) as error:
        raise SchemaError(
            f"schema {schema} has no add_job for this: run `jobfn db migrate`; a schema of the platform's own "
            "wants the tenant too (--database-id)"
        ) from error
    except (asyncpg.PostgresError, asyncpg.DataError) as error:
        raise DatabaseError(f"the job was not added: {error}") from error
    return int(found)


def storable(message: str) -> str:
    """A message as PostgreSQL can hold it: no NUL, no lone surrogates, at most ``MAX_ERROR_CHARACTERS``."""
    return message.replace("\0", "").encode("utf-8", "replace").decode("utf-8")[:MAX_ERROR_CHARACTERS]


def _text(value: object) -> str | None:
    return None if value is None else str(value)
