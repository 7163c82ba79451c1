"""Jobs of a database, as tests add, claim, settle and read them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from jobfn.database.enqueue import enqueue
from jobfn.database.platform_store import PlatformJobStore
from jobfn.database.records import Job, NewJob
from jobfn.database.store import JobStore
from support.network import eventually

_DATABASE_TESTS = Path(__file__).parents[1] / "integration" / "database"
#: SQL of a stand-in for the platform's schema, and for its newest one.
PLATFORM_SCHEMA = (_DATABASE_TESTS / "platform.sql").read_text("utf-8")
NEWEST_PLATFORM_SCHEMA = PLATFORM_SCHEMA + (_DATABASE_TESTS / "newest_platform.sql").read_text("utf-8")
WORKER = "worker-under-test"
TENANT = "5b720132-17d5-424d-9bcb-ee7b17c13d43"

#: Worker, job id, attempt (None: any), and error (None: completed).
SettledRow = tuple[str | None, int | None, int | None, str | None]


async def settle_jobs(connection: asyncpg.Connection, *settlements: SettledRow) -> list[asyncpg.Record]:
    """Call ``settle_jobs`` and return its rows."""
    workers, job_ids, attempts, errors = zip(*settlements, strict=True) if settlements else ((), (), (), ())
    return list(
        await connection.fetch(
            "select * from app_jobs.settle_jobs($1, $2, $3, $4, $5, $6)",
            workers,
            job_ids,
            attempts,
            ["completed" if error is None else "failed" for error in errors],
            errors,
            [None for _ in settlements],
        )
    )


@dataclass(frozen=True)
class JobTable:
    """The table ``app_jobs.jobs`` of a database."""

    connection: asyncpg.Connection

    async def row(self, job_id: int) -> asyncpg.Record:
        """Return the row of a job that exists."""
        row = await self.connection.fetchrow("select * from app_jobs.jobs where id = $1", job_id)
        assert row is not None, f"there is no job {job_id}"
        return row

    async def values(self, job_id: int, *columns: str) -> tuple[object, ...]:
        """Return some columns of a job."""
        row = await self.row(job_id)
        return tuple(row[column] for column in columns)

    async def exists(self, job_id: int) -> bool:
        """Return whether the job has a row, which completed jobs have not."""
        return bool(await self.connection.fetchval("select exists (select from app_jobs.jobs where id = $1)", job_id))

    async def count(self) -> int:
        """Return the number of jobs."""
        count: int = await self.connection.fetchval("select count(*) from app_jobs.jobs")
        return count

    async def update(self, assignments: str, *values: object) -> None:
        """Update columns of all jobs."""
        await self.connection.execute(f"update app_jobs.jobs set {assignments}", *values)


@dataclass(frozen=True)
class Jobs(JobTable):
    """The jobs of a database with jobfn's schema."""

    async def add(self, task: str, payload: object = None, **options: object) -> int:
        """Call ``add_job`` with named arguments, and return the job's id."""
        named = "".join(f", {name} := ${number}" for number, name in enumerate(options, 3))
        job_id: int = await self.connection.fetchval(
            f"select (app_jobs.add_job(identifier := $1, payload := $2::text{named})).id",
            task,
            json.dumps({} if payload is None else payload),
            *options.values(),
        )
        return job_id

    async def claim(self, worker: str = WORKER, tasks: list[str] | None = None) -> asyncpg.Record | None:
        """Call ``get_job``, and return the job's row, or None if no job is ready."""
        row = await self.connection.fetchrow("select * from app_jobs.get_job($1, $2)", worker, tasks)
        assert row is not None, "get_job always returns a row"
        return row if row["id"] is not None else None

    async def claim_id(self, worker: str = WORKER, tasks: list[str] | None = None) -> int | None:
        """Call ``get_job``, and return the job's id, or None if no job is ready."""
        row = await self.claim(worker, tasks)
        return None if row is None else row["id"]

    async def complete(self, job_id: int, *, worker: str = WORKER) -> int | None:
        """Call ``complete_job``, and return the job's id, or None if it did not change."""
        completed: int | None = await self.connection.fetchval(
            "select (app_jobs.complete_job($1, $2)).id", worker, job_id
        )
        return completed

    async def fail(self, job_id: int, error: str | None = "boom", *, worker: str = WORKER) -> None:
        """Call ``fail_job``."""
        await self.connection.execute("select app_jobs.fail_job($1, $2, $3)", worker, job_id, error)

    async def release(self, worker: str = WORKER) -> None:
        """Call ``release_jobs``."""
        await self.connection.execute("select app_jobs.release_jobs($1)", worker)

    async def queue(self, name: str) -> tuple[int, str | None] | None:
        """Return the number of jobs of a queue and the worker that has locked it, or None if it has no row."""
        row = await self.connection.fetchrow(
            "select job_count, locked_by from app_jobs.job_queues where queue_name = $1", name
        )
        return None if row is None else tuple(row)

    async def until_gone(self, *job_ids: int, seconds: float = 10.0) -> None:
        """Wait until these jobs are completed; without ids, until there are no jobs."""
        unless_any = "select not exists (select from app_jobs.jobs where $1::bigint[] = '{}' or id = any ($1))"

        async def gone() -> bool:
            return bool(await self.connection.fetchval(unless_any, job_ids))

        await eventually(gone, seconds=seconds)

    async def until_failed(self, job_id: int, *, attempts: int = 1, seconds: float = 10.0) -> asyncpg.Record:
        """Wait until a job has failed this number of times and is unlocked, and return its row."""
        return await self._until(job_id, f"locked_at is null and attempts >= {attempts}", seconds)

    async def until_claimed(self, job_id: int, *, seconds: float = 10.0) -> asyncpg.Record:
        """Wait until a worker has locked a job, and return its row."""
        return await self._until(job_id, "locked_at is not null", seconds)

    async def until_parked(self, job_id: int, *, seconds: float = 10.0) -> asyncpg.Record:
        """Wait until a durable job is parked, and return its row."""
        return await self._until(job_id, "locked_at is null and parked_attempt = attempts", seconds)

    async def _until(self, job_id: int, condition: str, seconds: float) -> asyncpg.Record:
        statement = f"select * from app_jobs.jobs where id = $1 and {condition}"
        return await eventually(lambda: self.connection.fetchrow(statement, job_id), seconds=seconds)


@dataclass(frozen=True)
class StoreHarness(JobTable):
    """A job store, and another connection to its database.

    Attributes:
        store: The store under test.
        is_platform: Whether the schema is the stand-in for the platform's.
        has_ids: Whether jobs have actor and entity ids.
        requires_tenant: Whether jobs must have a tenant.
    """

    store: JobStore
    is_platform: bool
    has_ids: bool
    requires_tenant: bool

    async def add(self, task: str = "x", **options: Any) -> int:
        """Enqueue a job of ``TENANT``, which both kinds of schema support. Options by field of ``NewJob``."""
        return await enqueue(self.connection, "app_jobs", NewJob(task, database_id=TENANT, **options))

    async def claim(
        self,
        worker: str = WORKER,
        *,
        limit: int = 5,
        tasks: list[str] | None = None,
        lease_seconds: float | None = None,
        exclude_tasks: Sequence[str] = (),
    ) -> list[Job]:
        """Claim jobs with the store."""
        return await self.store.claim(
            worker, tasks=tasks, limit=limit, lease_seconds=lease_seconds, exclude_tasks=exclude_tasks
        )

    async def claim_ids(self, worker: str = WORKER, *, limit: int = 5, tasks: list[str] | None = None) -> list[int]:
        """Claim jobs with the store, and return their ids."""
        return [job.id for job in await self.claim(worker, limit=limit, tasks=tasks)]

    async def pass_time(self, seconds: float) -> None:
        """Make all locks and leases older."""
        columns = ["locked_at"]
        if await self.connection.fetchval("select to_regclass('app_jobs.queue_locks') is not null"):
            columns.append("lease_expires_at")
            await self.connection.execute(
                """
                update app_jobs.queue_locks
                set locked_at = locked_at - $1 * interval '1 second',
                    lease_expires_at = lease_expires_at - $1 * interval '1 second'
                """,
                seconds,
            )
        if isinstance(self.store, PlatformJobStore):
            columns.append("run_at")  # holds the end of the lease
        assignments = ", ".join(f"{column} = {column} - $1 * interval '1 second'" for column in columns)
        await self.update(f"{assignments} where locked_at is not null", seconds)
