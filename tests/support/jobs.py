"""Jobs of one database, as tests read and change them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from jobfn.database.enqueue import enqueue
from jobfn.database.platform_store import PlatformJobStore
from jobfn.database.records import Job, NewJob
from jobfn.database.store import JobStore
from support.network import eventually

WORKER = "worker-under-test"
TENANT = "5b720132-17d5-424d-9bcb-ee7b17c13d43"


async def settle(
    connection: "asyncpg.Connection[Any]", *ends: tuple[str | None, int | None, int | None, str | None]
) -> list["asyncpg.Record"]:
    """End jobs in one statement: each by its worker, its id, its attempt (None: any) and its error (None: done)."""
    workers, ids, attempts, errors = (list(column) for column in zip(*ends, strict=True)) if ends else ([], [], [], [])
    return list(
        await connection.fetch(
            "select * from app_jobs.settle_jobs($1, $2, $3, $4, $5, $6)",
            workers,
            ids,
            attempts,
            ["completed" if error is None else "failed" for error in errors],
            errors,
            [None for _ in ends],
        )
    )


@dataclass(frozen=True)
class Jobs:
    """The jobs of one database, as a test asks for them."""

    connection: "asyncpg.Connection[Any]"

    async def add(self, task: str, payload: object = None, **options: object) -> int:
        """Call add_job with these arguments, by name; returns the id."""
        named = "".join(f", {name} := ${number}" for number, name in enumerate(options, 3))
        found: int = await self.connection.fetchval(
            f"select (app_jobs.add_job(identifier := $1, payload := $2::text{named})).id",
            task,
            json.dumps({} if payload is None else payload),
            *options.values(),
        )
        return found

    async def row(self, job: int) -> "asyncpg.Record | None":
        """The job's row."""
        return await self.connection.fetchrow("select * from app_jobs.jobs where id = $1", job)

    async def claim(self, worker: str = WORKER, tasks: list[str] | None = None) -> "asyncpg.Record | None":
        """Call get_job; returns the job's row, None where there is none."""
        row = await self.connection.fetchrow("select * from app_jobs.get_job($1, $2)", worker, tasks)
        assert row is not None, "get_job returns a row in any case"
        return row if row["id"] is not None else None

    async def queue(self, name: str) -> "asyncpg.Record | None":
        """The named queue's row in job_queues."""
        return await self.connection.fetchrow("select * from app_jobs.job_queues where queue_name = $1", name)

    async def count(self) -> int:
        """How many rows there are."""
        found: int = await self.connection.fetchval("select count(*) from app_jobs.jobs")
        return found

    async def until_gone(self, *jobs: int, seconds: float = 10.0) -> None:
        """Wait until these jobs are completed; without any, until there is none at all."""

        async def gone() -> bool:
            left = "select not exists (select from app_jobs.jobs where $1::bigint[] = '{}' or id = any ($1))"
            return bool(await self.connection.fetchval(left, jobs))

        await eventually(gone, seconds=seconds)

    async def until_failed(self, job: int, *, attempts: int = 1, seconds: float = 10.0) -> "asyncpg.Record":
        """Wait until a job has failed so many times and nobody holds it; returns its row."""

        async def failed() -> "asyncpg.Record | None":
            return await self.connection.fetchrow(
                "select * from app_jobs.jobs where id = $1 and locked_at is null and attempts >= $2", job, attempts
            )

        row = await eventually(failed, seconds=seconds)
        assert row is not None
        return row

    async def until_held(self, job: int, *, seconds: float = 10.0) -> "asyncpg.Record":
        """Wait until a worker holds a job; returns its row."""

        async def held() -> "asyncpg.Record | None":
            return await self.connection.fetchrow(
                "select * from app_jobs.jobs where id = $1 and locked_at is not null", job
            )

        row = await eventually(held, seconds=seconds)
        assert row is not None
        return row


@dataclass(frozen=True)
class Stage:
    """A store, and a connection that looks over its shoulder."""

    store: JobStore
    connection: "asyncpg.Connection[Any]"
    is_platform: bool
    has_ids: bool

    async def add(self, task: str = "x", **options: Any) -> int:
        """Enqueue for a tenant, as both schemas can."""
        return await enqueue(self.connection, "app_jobs", NewJob(task, database_id=TENANT, **options))

    async def claim(
        self,
        worker: str = WORKER,
        *,
        limit: int = 1,
        tasks: list[str] | None = None,
        lease_seconds: float | None = None,
        exclude_tasks: Sequence[str] = (),
    ) -> list[Job]:
        """Claim jobs through the store."""
        return await self.store.claim(
            worker, tasks=tasks, limit=limit, lease_seconds=lease_seconds, exclude_tasks=exclude_tasks
        )

    async def row(self, job: int) -> "asyncpg.Record | None":
        """The job's row."""
        return await self.connection.fetchrow("select * from app_jobs.jobs where id = $1", job)

    async def pass_time(self, seconds: float) -> None:
        """Make all locks, and their leases, older."""
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
            columns.append("run_at")  # where it keeps the lease
        changes = ", ".join(f"{column} = {column} - $1 * interval '1 second'" for column in columns)
        await self.connection.execute(f"update app_jobs.jobs set {changes} where locked_at is not null", seconds)
