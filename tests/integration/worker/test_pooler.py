"""A service behind PgBouncer in transaction mode."""

from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from jobfn.database.connection import open_pool
from jobfn.database.vacuum_table import JobsTable
from jobfn.wire import JOB_ATTEMPT, JOB_ID, WORKER_ID
from support.fixtures import StartWorker
from support.functions import RecordingFunction
from support.jobs import WORKER, Jobs
from support.network import eventually
from support.pgbouncer import pgbouncer


@pytest.mark.parametrize("max_prepared_statements", [0, 200])
async def test_everything_runs_with_a_listen_url(
    max_prepared_statements: int,
    database: str,
    jobs: Jobs,
    function: RecordingFunction,
    start_worker: StartWorker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Notifications wake worker and scheduler, so that nothing waits for the poll interval."""
    async with pgbouncer(tmp_path, database, max_prepared_statements=max_prepared_statements) as pooler:
        service = await start_worker(
            database_url=pooler.dsn, listen_url=database, poll_interval_seconds=300.0, lease_seconds=1.0
        )
        await jobs.until_gone(
            *[await jobs.add("x", {"n": number}, queue_name=f"q{number % 3}") for number in range(30)]
        )
        await jobs.connection.execute("select app_jobs.add_scheduled_job('s', '* * * * * *')")
        ran = "select exists (select from app_jobs.job_runs where task_identifier = 's')"
        await eventually(lambda: jobs.connection.fetchval(ran))
        gate = function.hold()
        running = await jobs.add("y")
        headers = {WORKER_ID: WORKER, JOB_ID: str(running), JOB_ATTEMPT: "1"}

        async def callback_url() -> str:
            urls = [
                each.headers["x-callback-url"] for each in function.received if each.headers["x-job-id"] == str(running)
            ]
            return urls[0] if urls else ""

        async with httpx.AsyncClient() as http:
            assert (await http.post(await eventually(callback_url), headers=headers, json={})).status_code == 200
        gate.set()
        function.respond(500, {"message": "boom"})
        failing = await jobs.add("z")
        await jobs.until_failed(failing)
        await service.stop()
    output = capsys.readouterr().out
    assert "no notifications" not in output
    assert "retried automatically" not in output


async def test_without_a_listen_url_one_warning_says_what_to_set(
    database: str, jobs: Jobs, start_worker: StartWorker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with pgbouncer(tmp_path, database) as pooler:
        service = await start_worker(database_url=pooler.dsn, poll_interval_seconds=0.2)
        await jobs.until_gone(await jobs.add("x"))
        await service.stop()
    output = capsys.readouterr().out
    assert output.count("no notifications through a connection pooler in transaction mode") == 1
    assert "set JOBS_LISTEN_URL to PostgreSQL's own address" in output


async def test_listen_url_through_the_same_pooler_is_a_warning(
    database: str, start_worker: StartWorker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with pgbouncer(tmp_path, database) as pooler:
        service = await start_worker(database_url=pooler.dsn, listen_url=pooler.dsn)
        await service.stop()
    assert capsys.readouterr().out.count("no notifications through a connection pooler") == 1


async def test_listen_url_that_cannot_be_reached_does_not_stop_the_service(
    database: str, jobs: Jobs, start_worker: StartWorker, capsys: pytest.CaptureFixture[str]
) -> None:
    service = await start_worker(listen_url="postgresql://127.0.0.1:9/shop", poll_interval_seconds=0.2)
    await jobs.until_gone(await jobs.add("x"))
    await service.stop()
    assert "notifications not received" in capsys.readouterr().out


async def test_vacuum_leaves_no_setting_in_a_shared_session(
    database: str, connection: "asyncpg.Connection[Any]", tmp_path: Path
) -> None:
    name = await connection.fetchval("select current_database()")
    await connection.execute(f"alter database {name} set statement_timeout = '9s'")
    async with (
        pgbouncer(tmp_path, database) as pooler,
        open_pool(pooler.dsn, application_name="jobfn-test", size=1) as pool,
    ):
        await JobsTable(pool, "app_jobs", dsn=pooler.dsn).vacuum()
        assert await pool.fetchval("show statement_timeout") == "9s"
