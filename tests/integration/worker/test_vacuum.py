"""The vacuum of the jobs table."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from jobfn.database.vacuum_table import JobsTable
from jobfn.worker.maintenance.vacuum import Vacuumer, VacuumPlan
from support.fixtures import StartWorker
from support.functions import RecordingFunction
from support.jobs import Jobs
from support.network import eventually

#: Due from 50 dead rows on, at every poll.
EAGER = VacuumPlan(
    min_dead_rows=50,
    poll_interval_seconds=0.01,
    cooldown_factor=0.0,
    error_backoff_seconds=0.01,
)


@pytest.fixture(autouse=True)
async def without_autovacuum(connection: "asyncpg.Connection[Any]") -> None:
    if connection.get_server_version().major < 15:
        pytest.skip("PostgreSQL 14 shows its statistics half a second later")
    await connection.execute("alter table app_jobs.jobs set (autovacuum_enabled = false)")


@pytest.fixture
def table(pool: "asyncpg.Pool[Any]", database: str) -> JobsTable:
    return JobsTable(pool, "app_jobs", dsn=database)


class Settlements:
    """A number of settlements that keeps changing without growing, and counts how often it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def __call__(self) -> int:
        self.reads += 1
        return self.reads // 8 % 2

    async def until_read(self, *, times: int = 32) -> None:
        """Wait until it has been read this many times more."""
        target = self.reads + times

        async def is_read() -> bool:
            return self.reads >= target

        await eventually(is_read)


@contextlib.asynccontextmanager
async def running(vacuumer: Vacuumer) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(vacuumer.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def add_rows(database: str, task: str, count: int, *statements: str) -> None:
    """Insert rows and run statements, in a session whose end flushes its statistics."""
    connection = await asyncpg.connect(database)
    await connection.execute(
        "insert into app_jobs.jobs (task_identifier, run_at) select $1, 'infinity' from generate_series(1, $2)",
        task,
        count,
    )
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


async def add_dead_rows(database: str, table: JobsTable, count: int) -> None:
    """Insert and delete rows, and wait until the statistics show them."""
    before = (await table.state(min_dead_rows=count)).dead
    await add_rows(database, "dead", count, "delete from app_jobs.jobs where task_identifier = 'dead'")

    async def are_visible() -> bool:
        return (await table.state(min_dead_rows=count)).dead >= before + count

    await eventually(are_visible)


async def vacuum_count(jobs: Jobs) -> int:
    count: int = await jobs.connection.fetchval(
        "select vacuum_count from pg_stat_user_tables where relid = 'app_jobs.jobs'::regclass"
    )
    return count


async def until_vacuumed(jobs: Jobs, *, times: int) -> None:
    async def is_vacuumed() -> bool:
        return await vacuum_count(jobs) == times

    await eventually(is_vacuumed)


async def slow_down_vacuums(jobs: Jobs) -> None:
    """Make the vacuums of new sessions take minutes."""
    name = await jobs.connection.fetchval("select quote_ident(current_database())")
    await jobs.connection.execute(f"alter database {name} set vacuum_cost_delay = 100")
    await jobs.connection.execute(f"alter database {name} set vacuum_cost_limit = 1")


async def running_vacuums(jobs: Jobs) -> int:
    count: int = await jobs.connection.fetchval(
        "select count(*) from pg_stat_progress_vacuum where datname = current_database()"
    )
    return count


async def test_service_vacuums_by_default(
    function: RecordingFunction, start_worker: StartWorker, jobs: Jobs, table: JobsTable, database: str
) -> None:
    await add_dead_rows(database, table, 60_000)
    await start_worker()
    await jobs.until_gone(await jobs.add("x"))
    await eventually(lambda: vacuum_count(jobs))

    async def is_clean() -> bool:
        return (await table.state(min_dead_rows=1)).dead < 100

    await eventually(is_clean)


async def test_few_dead_rows_are_not_vacuumed(jobs: Jobs, table: JobsTable, database: str) -> None:
    """Fewer than a fifth of the rows, even if more than the minimum."""
    await add_rows(database, "alive", 1000)

    async def are_visible() -> bool:
        return (await table.state(min_dead_rows=1)).live >= 1000

    await eventually(are_visible)
    await jobs.connection.execute("vacuum app_jobs.jobs")  # updates the number of rows
    await add_dead_rows(database, table, 51)
    settlements = Settlements()
    async with running(Vacuumer(table, settlements=settlements, plan=EAGER)):
        await settlements.until_read()
        assert await vacuum_count(jobs) == 1
        await add_dead_rows(database, table, 200)
        await until_vacuumed(jobs, times=2)


async def test_own_settlements_count_before_the_statistics_show_them(jobs: Jobs, table: JobsTable) -> None:
    count, reads = 24, Settlements()

    def settlements() -> int:
        reads()
        return count

    async with running(Vacuumer(table, settlements=settlements, plan=EAGER)):
        for times in (0, 1, 2):
            await reads.until_read()
            assert await vacuum_count(jobs) == times
            count += 1
            await until_vacuumed(jobs, times=times + 1)
            count += 24


async def test_process_without_settlements_does_not_vacuum(table: JobsTable, jobs: Jobs, database: str) -> None:
    await add_dead_rows(database, table, 100)
    reads = Settlements()

    def settlements() -> int:
        reads()
        return 0

    async with running(Vacuumer(table, settlements=settlements, plan=EAGER)):
        await reads.until_read()
    assert await vacuum_count(jobs) == 0


async def test_rows_visible_to_an_open_transaction_are_not_vacuumed_repeatedly(
    jobs: Jobs, table: JobsTable, database: str
) -> None:
    other = await asyncpg.connect(database)
    settlements = Settlements()
    try:
        await other.execute("begin isolation level repeatable read")
        await other.execute("select count(*) from app_jobs.jobs")
        await add_dead_rows(database, table, 100)
        async with running(Vacuumer(table, settlements=settlements, plan=EAGER)):
            await until_vacuumed(jobs, times=1)
            await settlements.until_read()
            assert await vacuum_count(jobs) == 1
            await add_dead_rows(database, table, 100)
            await until_vacuumed(jobs, times=2)
    finally:
        await other.close()


async def test_running_vacuum_of_another_process_is_not_waited_for(jobs: Jobs, table: JobsTable, database: str) -> None:
    await add_dead_rows(database, table, 1000)
    await slow_down_vacuums(jobs)
    first = asyncio.create_task(table.vacuum())
    await eventually(lambda: running_vacuums(jobs))
    await table.vacuum()
    assert not first.done()

    async def is_locked() -> bool:
        return (await table.state(min_dead_rows=1000)).is_locked

    await eventually(is_locked)
    settlements = Settlements()
    async with running(Vacuumer(table, settlements=settlements, plan=EAGER)):
        await settlements.until_read()
        assert await running_vacuums(jobs) == 1
    first.cancel()
    await asyncio.wait({first})
    assert await vacuum_count(jobs) == 0


async def test_stop_cancels_a_running_vacuum(jobs: Jobs, table: JobsTable, database: str) -> None:
    await add_dead_rows(database, table, 1000)
    await slow_down_vacuums(jobs)
    async with running(Vacuumer(table, settlements=Settlements(), plan=EAGER)):
        await eventually(lambda: running_vacuums(jobs))
    assert await running_vacuums(jobs) == 0
    assert await vacuum_count(jobs) == 0


async def test_failure_is_logged_once(
    pool: "asyncpg.Pool[Any]", table: JobsTable, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await add_dead_rows(database, table, 100)
    settlements = Settlements()
    unreachable = JobsTable(pool, "app_jobs", dsn="postgresql://nobody@127.0.0.1:1/nothing")
    async with running(Vacuumer(unreachable, settlements=settlements, plan=EAGER)):
        await settlements.until_read()
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count("jobs table not vacuumed") == 1
