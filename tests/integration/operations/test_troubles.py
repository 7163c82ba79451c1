"""Troubles that keep jobs from running."""

import os
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from jobfn.operations import Operations, TroubleKind, open_operations
from support.jobs import Jobs
from support.small_disk import fill_disk, small_disk


async def add_worker(jobs: Jobs, worker: str, age: str, *, role: str = "worker") -> None:
    await jobs.connection.execute(
        """
        insert into app_jobs.workers (worker_id, host, pid, version, roles, concurrency, in_flight, heartbeat_interval,
            last_heartbeat_at)
        values ($1, 'host', 1, '1', array[$3], 1, 0, '10 s', now() - $2::text::interval)
        """,
        worker,
        age,
        role,
    )


async def test_an_empty_installation_has_no_trouble(operations: Operations) -> None:
    assert await operations.troubles() == ()


async def test_jobs_wait_without_a_worker(operations: Operations, jobs: Jobs) -> None:
    await add_worker(jobs, "clock-1", "0", role="scheduler")
    await jobs.add("send")
    (trouble,) = await operations.troubles()
    assert (trouble.kind, trouble.message) == (TroubleKind.NO_WORKER, "1 job waits, but no worker is running")
    assert "start `jobfn service`" in trouble.advice
    await add_worker(jobs, "worker-1", "5 s")
    assert await operations.troubles() == ()


async def test_a_worker_is_silent_for_an_hour_or_until_it_is_back(operations: Operations, jobs: Jobs) -> None:
    await add_worker(jobs, "worker-1", "2 minutes")
    await add_worker(jobs, "worker-2", "2 hours")
    (trouble,) = await operations.troubles()
    assert trouble.kind is TroubleKind.SILENT_WORKER
    assert trouble.message.startswith("no heartbeat from worker-1 since 20")
    assert "worker-2" not in trouble.message
    await jobs.connection.execute("update app_jobs.workers set pid = 2")
    await add_worker(jobs, "worker-1", "1 s")
    assert await operations.troubles() == ()


async def test_pauses_are_named_with_their_reasons(operations: Operations, jobs: Jobs) -> None:
    await jobs.connection.execute("select app_jobs.pause('send', reason => 'provider is down')")
    for number in range(7):
        await jobs.connection.execute("select app_jobs.add_scheduled_job($1, '0 0 1 1 *')", f"report_{number}")
    await jobs.connection.execute("update app_jobs.scheduled_jobs set paused_at = now()")
    paused, schedules = await operations.troubles()
    assert paused.message == "paused: task send (provider is down)"
    assert schedules.kind is TroubleKind.PAUSED_SCHEDULE
    assert schedules.message == (
        "paused schedules: report_0 (id 1), report_1 (id 2), report_2 (id 3), report_3 (id 4), report_4 (id 5) "
        "and 2 more"
    )


@pytest.fixture
def full_disk() -> Iterator[Path]:
    """A folder on a disk to fill that PostgreSQL's user may write to."""
    with small_disk("full-disk", megabytes=1) as disk:
        yield disk


async def test_the_disk_is_full(full_disk: Path, database: str, jobs: Jobs) -> None:
    space = full_disk / "space"
    space.mkdir()
    folder = await jobs.connection.fetchval("show data_directory")
    os.chown(space, os.stat(folder).st_uid, -1)  # noqa: PTH116  - nothing blocks
    name = await jobs.connection.fetchval("select current_database()")
    tablespace = f"full_{name}"
    await jobs.connection.execute(f"create tablespace {tablespace} location '{space}'")
    try:
        await jobs.connection.execute(f"alter database {name} set temp_tablespaces = {tablespace}")
        ballast = fill_disk(full_disk)
        async with asyncpg.create_pool(database, min_size=1, max_size=2) as connections:
            operations = await open_operations(connections, "app_jobs")
            (trouble,) = await operations.troubles()
            assert (trouble.kind, trouble.message) == (
                TroubleKind.DISK_FULL,
                "the disk of the database is full: PostgreSQL refuses writes",
            )
            ballast.unlink()
            assert await (await open_operations(connections, "app_jobs")).troubles() == ()
    finally:
        await jobs.connection.execute(f"alter database {name} reset temp_tablespaces")
        await jobs.connection.execute(f"drop tablespace {tablespace}")


async def test_a_limit_of_temporary_files_is_not_a_full_disk(database: str, jobs: Jobs) -> None:
    name = await jobs.connection.fetchval("select current_database()")
    await jobs.connection.execute(f"alter database {name} set temp_file_limit = 10")
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as connections:
        assert await (await open_operations(connections, "app_jobs")).troubles() == ()


async def test_the_platform_schema_has_only_the_disk(platform_operations: Operations) -> None:
    assert await platform_operations.troubles() == ()
