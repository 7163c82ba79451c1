"""Lists show the limit of a task that was never synced, once a worker has learned it."""

import contextlib
import functools
from typing import Any

import asyncpg

from jobfn import create_app, task
from jobfn.cli.render_jobs import job_table
from jobfn.in_process import local_settings, local_tasks
from jobfn.operations import JobRow, open_operations
from jobfn.worker.settings import ServiceRole, ServiceSettings
from support.fixtures import Serve, StartService
from support.jobs import WORKER, Jobs
from support.network import eventually
from support.service import start_in_loop


@task("charge", max_attempts=3)
async def charge(_payload: dict[str, Any]) -> None:
    raise ValueError("no connection to the bank")


async def listed(database: str) -> list[JobRow]:
    """Return the jobs in the order of their ids."""
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool:
        operations = await open_operations(pool, "app_jobs")
        page = await operations.list_jobs()
        assert " 0/3 " in "\n".join(job_table(page, page.jobs[0].created_at))
        return sorted(page.jobs, key=lambda job: job.id)


async def test_limit_is_learned_from_a_response(
    database: str, jobs: Jobs, serve: Serve, start_service: StartService
) -> None:
    await start_service(await serve(create_app(tasks=[charge])))
    first = await jobs.add("charge")
    await jobs.until_failed(first)
    await jobs.add("charge", run_at=await jobs.connection.fetchval("select now() + interval '1 day'"))
    await jobs.add("charge", max_attempts=2, run_at=await jobs.connection.fetchval("select now() + interval '1 day'"))

    async def is_recorded() -> bool:
        return bool(await jobs.connection.fetchval("select exists (select from app_jobs.learned_attempts)"))

    await eventually(is_recorded)
    assert [(job.attempts, job.max_attempts) for job in await listed(database)] == [(1, 3), (0, 3), (0, 2)]


async def test_worker_with_local_tasks_knows_the_limits(database: str, jobs: Jobs) -> None:
    await jobs.add("charge", run_at=await jobs.connection.fetchval("select now() + interval '1 day'"))
    app = create_app(tasks=[charge])
    settings = ServiceSettings.from_environ({}, database_url=database, worker_id=WORKER)
    async with contextlib.AsyncExitStack() as stack:
        await start_in_loop(
            stack,
            local_settings(settings, app),
            roles=[ServiceRole.WORKER],
            deliverer_factory=functools.partial(local_tasks, app),
        )
        assert [(job.attempts, job.max_attempts) for job in await listed(database)] == [(0, 3)]


async def test_record_is_replaced_and_removed(jobs: Jobs) -> None:
    async def record(tasks: list[str], limits: list[int | None]) -> list[tuple[str, int]]:
        await jobs.connection.execute("select app_jobs.record_learned_attempts($1, $2)", tasks, limits)
        rows = await jobs.connection.fetch(
            "select task_identifier, max_attempts from app_jobs.learned_attempts order by 1"
        )
        return [tuple(row) for row in rows]

    assert await record(["b", "a", "c", "x" * 127], [3, 5, 0, 2]) == [("a", 5), ("b", 3)]
    assert await record(["b", "a"], [None, 6]) == [("a", 6)]


async def test_record_is_limited(jobs: Jobs) -> None:
    await jobs.connection.execute(
        "select app_jobs.record_learned_attempts(array_agg('t' || n), array_agg(1)) from generate_series(1, 10000) n"
    )
    await jobs.connection.execute("select app_jobs.record_learned_attempts('{one_more}', '{1}')")
    assert await jobs.connection.fetchval("select count(*) from app_jobs.learned_attempts") == 10_000
