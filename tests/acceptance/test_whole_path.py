"""From a row to a completed job, with worker, function and database in their own processes."""

import asyncio
import itertools
import signal
from pathlib import Path
from textwrap import dedent

import asyncpg
import pytest

from jobfn.devserver.postgres import EmbeddedPostgres
from support.commands import RunningCommand, Spawn
from support.jobs import Jobs
from support.network import eventually, free_port

#: Functions that record job, attempt, start and end in a table.
FUNCTIONS = dedent(
    """
    import asyncio, os
    import asyncpg
    from jobfn import JobContext, task

    pools = []

    async def note(ctx: JobContext, seconds: float) -> None:
        pools[:] = pools or [asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=0)]
        async with (await pools[0]).acquire() as connection:
            effect = await connection.fetchval(
                "insert into effects (job, task, attempt, worker) values ($1, $2, $3, $4) returning id",
                ctx.job_id, ctx.task, ctx.attempt, ctx.worker_id,
            )
            await asyncio.sleep(seconds)
            await connection.execute("update effects set ended = clock_timestamp() where id = $1", effect)

    @task("note")
    async def note_task(payload: dict, ctx: JobContext) -> dict:
        await note(ctx, payload.get("seconds", 0))
        return {"noted": True}

    @task("fail")
    async def fail(payload: dict, ctx: JobContext) -> None:
        await note(ctx, 0)
        raise RuntimeError("boom")
    """
)
EFFECTS = """
    create table effects (
        id bigserial primary key, job bigint, task text, attempt int, worker text,
        started timestamptz default clock_timestamp(), ended timestamptz
    )
"""


@pytest.fixture
def port() -> int:
    """Port of the function."""
    return free_port()


@pytest.fixture
def functions(tmp_path: Path) -> str:
    """Name of the functions' file."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    return "functions.py"


async def start_function(spawn: Spawn, dsn: str, functions: str, port: int) -> RunningCommand:
    running = await spawn(
        *("jobfn", "serve", functions, "--host", "127.0.0.1"),
        DATABASE_URL=dsn,
        PORT=str(port),
        JOBFN_SHUTDOWN_TIMEOUT_SECONDS="1",
    )
    await running.until("serving")
    return running


async def start_service(spawn: Spawn, dsn: str, function_port: int, **env: str) -> RunningCommand:
    variables = {
        "DATABASE_URL": dsn,
        "KNATIVE_SERVICE_URL": f"http://127.0.0.1:{function_port}",
        "JOBS_CALLBACK_HOST": "127.0.0.1",
        "INTERNAL_JOBS_CALLBACK_PORT": str(free_port()),
        "HOSTNAME": "worker-0",
        "JOBS_SHUTDOWN_TIMEOUT_SECONDS": "1",
    }
    running = await spawn("jobfn", "service", **(variables | env))
    await running.until("looking for jobs")
    return running


async def retry_now(jobs: Jobs, job: int) -> None:
    """Make a failed job due now, instead of after its backoff."""
    await jobs.connection.execute("select app_jobs.reschedule_jobs(array[$1::bigint], run_at := now())", job)


async def test_two_workers_run_each_job_once(
    jobs: Jobs, database: str, spawn: Spawn, functions: str, port: int
) -> None:
    await jobs.connection.execute(EFFECTS)
    await start_function(spawn, database, functions, port)
    await jobs.connection.execute("select app_jobs.add_job('note', '{}') from generate_series(1, 300)")
    workers = ("worker-one", "worker-two")
    await asyncio.gather(*(start_service(spawn, database, port, HOSTNAME=worker) for worker in workers))
    await jobs.until_gone(seconds=60)
    effects = await jobs.connection.fetch("select job, worker, attempt from effects where ended is not null")
    assert sorted(effect["job"] for effect in effects) == list(range(1, 301))
    assert {(effect["worker"], effect["attempt"]) for effect in effects} == {(worker, 1) for worker in workers}


async def test_job_of_a_killed_function_is_retried(
    jobs: Jobs, database: str, spawn: Spawn, functions: str, port: int
) -> None:
    await jobs.connection.execute(EFFECTS)
    function = await start_function(spawn, database, functions, port)
    await start_service(spawn, database, port)
    job = await jobs.add("note", {"seconds": 3600})

    async def has_started() -> bool:
        return bool(await jobs.connection.fetchval("select exists (select from effects)"))

    await eventually(has_started)
    function.send(signal.SIGKILL)
    row = await jobs.until_failed(job)
    assert f"http://127.0.0.1:{port}/note" in row["last_error"]
    await jobs.connection.execute("""update app_jobs.jobs set payload = '{"seconds": 0}', run_at = 'infinity'""")
    await start_function(spawn, database, functions, port)
    await retry_now(jobs, job)
    await jobs.until_gone(job)
    attempts = await jobs.connection.fetch("select attempt, ended is not null as ended from effects order by id")
    assert [tuple(attempt) for attempt in attempts] == [(1, False), (2, True)]


async def test_failed_job_keeps_its_error_and_stops_at_max_attempts(
    jobs: Jobs, database: str, spawn: Spawn, functions: str, port: int
) -> None:
    await jobs.connection.execute(EFFECTS)
    await start_function(spawn, database, functions, port)
    await start_service(spawn, database, port)
    job = await jobs.add("fail", max_attempts=2)
    await jobs.until_failed(job)
    await retry_now(jobs, job)
    row = await jobs.until_failed(job, attempts=2)
    assert (row["last_error"], row["attempts"], row["locked_by"]) == ("boom", 2, None)
    await jobs.until_gone(await jobs.add("note"))
    assert await jobs.connection.fetchval("select count(*) from effects where task = 'fail'") == 2


async def test_queue_order_and_job_keys_hold_across_workers(
    jobs: Jobs, database: str, spawn: Spawn, functions: str, port: int
) -> None:
    await jobs.connection.execute(EFFECTS)
    queued = [await jobs.add("note", {"seconds": 0.02}, queue_name="one") for _ in range(10)]
    keyed = {await jobs.add("note", job_key="only") for _ in range(5)}
    await start_function(spawn, database, functions, port)
    for worker in ("worker-one", "worker-two"):
        await start_service(spawn, database, port, HOSTNAME=worker)
    await jobs.until_gone(seconds=30)
    effects = await jobs.connection.fetch("select job, started, ended from effects order by started")
    assert [effect["job"] for effect in effects if effect["job"] in queued] == queued
    runs = [effect for effect in effects if effect["job"] in queued]
    assert all(first["ended"] <= second["started"] for first, second in itertools.pairwise(runs))
    assert len(keyed) == 1
    assert sum(effect["job"] in keyed for effect in effects) == 1


async def test_database_restart_loses_no_job(spawn: Spawn, functions: str, port: int) -> None:
    postgres = EmbeddedPostgres()
    postgres.start()
    try:
        dsn = postgres.dsn()
        connection = await asyncpg.connect(dsn)
        await connection.execute(EFFECTS)
        migration = await spawn("jobfn", "db", "migrate", "--database-url", dsn)
        assert await migration.wait() == 0
        await connection.execute(
            """select app_jobs.add_job('note', '{"seconds": 0.05}') from generate_series(1, 100)"""
        )
        await start_function(spawn, dsn, functions, port)
        service = await start_service(spawn, dsn, port)
        await service.until('"job done"', times=20)
        await connection.close()
        await asyncio.to_thread(postgres.restart)
        connection = await asyncpg.connect(dsn)
        jobs = Jobs(connection)
        await jobs.connection.execute("select app_jobs.add_job('note', '{}')")
        await jobs.until_gone(seconds=60)
        assert await connection.fetchval("select count(distinct job) from effects where ended is not null") == 101
        await connection.close()
        service.send(signal.SIGTERM)
        assert await service.wait() == 0
        assert not [line for line in service.lines if "Traceback" in line]
    finally:
        await asyncio.to_thread(postgres.stop)
