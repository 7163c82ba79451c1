"""A worker of the version before goes on while the schema is migrated below it, and afterwards.

``support/older_queries`` has the statements of that version. CONTRIBUTING.md says when to replace them.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import asyncpg
import pytest

from jobfn.database.connection import open_pool
from jobfn.database.migrate import migrate, migration_files
from jobfn.database.native_store import NativeJobStore
from jobfn.database.records import JOB_EXPIRY, Job
from jobfn.sql.loader import load_queries, render
from jobfn.worker.delivery import Deliverer, DeliveryResult, Failed, Succeeded
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.settlement import SettlementBatcher
from jobfn.worker.worker import Worker
from support.migrations import migrate_to
from support.network import eventually

OLDER_QUERIES = load_queries("support", "older_queries")
#: The last migration of that version.
OLDER_MIGRATION = 18


def older_query(name: str) -> str:
    """Return a statement of the version before."""
    return render(OLDER_QUERIES[name], "app_jobs")


class OlderStore(NativeJobStore):
    """A store with the statements of the version before."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        super().__init__(pool, "app_jobs")
        self._query = older_query  # type: ignore[assignment]

    async def claim(
        self,
        worker_id: str,
        *,
        tasks: Sequence[str] | None,
        limit: int,
        lease_seconds: float | None = None,
        exclude_tasks: Sequence[str] = (),
        max_payload_bytes: int | None = None,
    ) -> list[Job]:
        """See ``JobStore.claim``."""
        lease = None if lease_seconds is None else timedelta(seconds=lease_seconds)
        arguments = (worker_id, tasks, JOB_EXPIRY, limit, lease, exclude_tasks)
        rows = await self._pool.fetch(older_query("claim_jobs"), *arguments)
        return [Job(row["id"], row["task_identifier"], row["payload"], row["attempts"]) for row in rows]


class FailOnce(Deliverer):
    """A deliverer that fails the first attempt of every third job.

    Attributes:
        delivered: Job and attempt of each delivery.
    """

    def __init__(self) -> None:
        self.delivered: list[tuple[int, int]] = []

    async def deliver(self, job: Job) -> DeliveryResult:
        """See ``Deliverer.deliver``."""
        self.delivered.append((job.id, job.attempt))
        return Failed("once", retry_after_seconds=0.0) if job.id % 3 == 0 and job.attempt == 1 else Succeeded()


@pytest.mark.parametrize("name", OLDER_QUERIES)
async def test_schema_accepts_each_statement_of_the_version_before(connection: asyncpg.Connection, name: str) -> None:
    if name != "vacuum_jobs":  # cannot be prepared
        await connection.prepare(older_query(name))


async def test_older_worker_can_start(connection: asyncpg.Connection) -> None:
    kind = await connection.fetchrow(older_query("schema_kind"), "app_jobs")
    assert (kind["has_batches"], kind["has_organization_id"], kind["has_prerelease_function"]) == (True, True, False)


async def test_older_worker_goes_on_during_and_after_migrations(empty: asyncpg.Connection, empty_database: str) -> None:
    await migrate_to(empty, OLDER_MIGRATION)
    deliverer, stop = FailOnce(), asyncio.Event()
    settings = ServiceSettings.from_environ({}, worker_id="older", poll_interval_seconds=0.01, concurrency=4)
    async with open_pool(empty_database, application_name="older", size=4) as pool, asyncio.TaskGroup() as tasks:
        store = OlderStore(pool)
        worker = Worker(
            store=store,
            settlements=SettlementBatcher(store),
            deliverer=deliverer,
            settings=settings,
            wake_event=asyncio.Event(),
        )
        tasks.create_task(worker.run(stop))

        async def enqueue() -> int:
            while True:
                added: int = await pool.fetchval(older_query("add_job"), "x", "{}", None, None, None, 25, 0)
                if is_migrated.is_set():
                    return added
                while added > len(deliverer.delivered) + 500:  # noqa: ASYNC110  - a bounded backlog ends in time
                    await asyncio.sleep(0.01)

        async def more_have_run() -> bool:
            return len(deliverer.delivered) >= (changes + 1) * 50

        is_migrated = asyncio.Event()
        enqueued = tasks.create_task(enqueue())
        for changes in range(5):
            await eventually(more_have_run, seconds=30)
            if changes == 0:
                assert len(await migrate(empty, "app_jobs")) == len(migration_files()) - OLDER_MIGRATION
            else:
                await empty.execute(f"alter table app_jobs.jobs add column added_{changes} text")
        is_migrated.set()
        last = await enqueued
        await eventually(lambda: empty.fetchval("select not exists (select from app_jobs.jobs)"), seconds=30)
        stop.set()
    expected = [(job, attempt) for job in range(1, last + 1) for attempt in ((1, 2) if job % 3 == 0 else (1,))]
    assert sorted(deliverer.delivered) == expected
