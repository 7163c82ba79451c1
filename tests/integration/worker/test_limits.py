"""Limits, with workers: two processes of which one is killed, and the sweep."""

import asyncio
from typing import Any

import asyncpg

from jobfn.database.limits import Limits
from jobfn.worker.maintenance.limits import LimitSweeper
from support.jobs import Jobs
from support.limits import claim, set_limit
from support.network import eventually


async def test_sweeper_releases_jobs_behind_one_that_no_worker_takes(jobs: Jobs, pool: "asyncpg.Pool[Any]") -> None:
    await set_limit(jobs.connection, "each", per="tenant", concurrency=1)
    running = await jobs.add("x")
    await claim(jobs.connection, 10)
    await jobs.add("unknown")
    waiting = await jobs.add("x")
    await jobs.complete(running)
    assert await claim(jobs.connection, 10, tasks=["x"]) == []
    stop = asyncio.Event()
    sweeping = asyncio.create_task(LimitSweeper(Limits(pool, "app_jobs"), interval_seconds=0.01).run(stop))
    await eventually(lambda: jobs.connection.fetchval("select count(*) = 0 from app_jobs.held_jobs"))
    assert await claim(jobs.connection, 10, tasks=["x"]) == [waiting]
    stop.set()
    await sweeping
