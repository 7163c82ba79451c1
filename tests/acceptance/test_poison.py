"""A job that kills its function fails permanently and does not affect other jobs."""

import asyncio
import signal
from pathlib import Path
from textwrap import dedent

from support.commands import Spawn
from support.jobs import Jobs
from support.network import eventually, free_port

FUNCTIONS = dedent(
    """
    import os, signal
    from jobfn import task

    @task("poison")
    async def poison(payload: dict) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @task("good")
    async def good(payload: dict) -> None:
        pass
    """
)
GOOD_JOBS = 50


async def test_job_that_kills_its_function_fails_permanently(
    jobs: Jobs, database: str, spawn: Spawn, tmp_path: Path
) -> None:
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    port = free_port()
    serving = asyncio.Event()
    kills = 0

    async def keep_alive() -> None:
        nonlocal kills
        while True:
            function = await spawn("jobfn", "serve", "functions.py", "--host", "127.0.0.1", PORT=str(port))
            await function.until("serving")
            serving.set()
            code = await function.wait(seconds=120)
            serving.clear()
            kills += code == -signal.SIGKILL

    async def only_the_poison_is_left() -> bool:
        # jobs that wait for a retry are made due
        rows = await jobs.connection.fetch("select * from app_jobs.jobs order by id")
        if serving.is_set() and rows[0]["attempts"] == kills:
            waiting = [
                row["id"] for row in rows if row["locked_at"] is None and row["attempts"] and not row["exhausted"]
            ]
            await jobs.connection.execute("select from app_jobs.reschedule_jobs($1, run_at := now())", waiting)
        return [(row["id"], row["exhausted"], row["locked_at"]) for row in rows] == [(poison, True, None)]

    restarts = asyncio.create_task(keep_alive())
    try:
        poison = await jobs.add("poison", max_attempts=3)
        await jobs.connection.execute("select app_jobs.add_job('good', '{}') from generate_series(1, $1)", GOOD_JOBS)
        await serving.wait()  # a refused connection would use up an attempt
        service = await spawn(
            "jobfn",
            "service",
            DATABASE_URL=database,
            KNATIVE_SERVICE_URL=f"http://127.0.0.1:{port}",
            JOBS_CALLBACK_HOST="127.0.0.1",
            INTERNAL_JOBS_CALLBACK_PORT=str(free_port()),
            JOBS_REPORT_GRACE_SECONDS="0.1",
            HOSTNAME="worker-0",
        )
        await eventually(only_the_poison_is_left, seconds=60)
    finally:
        restarts.cancel()
        await asyncio.wait({restarts})
    row = await jobs.row(poison)
    assert row["attempts"] == 3
    assert f"http://127.0.0.1:{port}/poison" in row["last_error"]
    assert kills == 3
    await service.until('"job done', times=GOOD_JOBS)
