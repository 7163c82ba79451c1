"""Tenants take turns, for workers in several processes."""

from pathlib import Path
from textwrap import dedent

from support.commands import Spawn
from support.jobs import Jobs
from support.network import eventually

FUNCTIONS = dedent(
    """
    import asyncio
    from jobfn import task

    @task("sync")
    async def sync(payload: dict) -> None:
        await asyncio.sleep(0.02)
    """
)
LARGE, SMALL = "5b720132-17d5-424d-9bcb-ee7b17c13d43", "8a0f6a54-9a1d-4c8e-9d1c-3d1f0f2b7a11"
FLOOD = 4000


async def test_a_flood_of_one_tenant_does_not_hold_up_another_in_two_workers(
    jobs: Jobs, database: str, spawn: Spawn, tmp_path: Path
) -> None:
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    add = "select app_jobs.add_job($1::uuid, 'sync') from generate_series(1, $2)"
    await jobs.connection.execute(add, LARGE, FLOOD)
    for number in range(2):
        await spawn(
            *("jobfn", "service", "--local", "functions.py"),
            DATABASE_URL=database,
            JOBS_CONCURRENCY="4",
            HOSTNAME=f"worker-{number}",
        )

    async def both_run() -> bool:
        statement = "select count(distinct locked_by) = 2 from app_jobs.jobs where locked_at is not null"
        return bool(await jobs.connection.fetchval(statement))

    await eventually(both_run, seconds=30)
    await jobs.connection.execute(add, SMALL, 10)
    before = await jobs.count()

    async def small_one_is_done() -> bool:
        return not await jobs.connection.fetchval(
            "select exists (select from app_jobs.jobs where database_id = $1)", SMALL
        )

    await eventually(small_one_is_done, seconds=30)
    # By age, all jobs of the flood would have been first.
    assert before - await jobs.count() < FLOOD / 4
