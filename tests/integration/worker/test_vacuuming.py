"""A service vacuums the jobs table when many jobs have run: where it may, where nobody else does, not past its stop."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from jobfn.database.vacuum_table import JobsTable
from jobfn.worker.maintenance.vacuum import Vacuumer, VacuumPlan
from support.fixtures import Serve, StartService
from support.functions import RecordingFunction
from support.jobs import Jobs
from support.network import eventually

#: More than the service's own plan wants.
MANY = 60_000
QUICK = VacuumPlan(
    min_dead_rows=50,
    stats_interval_seconds=0.01,
    poll_interval_seconds=0.01,
    cooldown_factor=0.0,
    error_backoff_seconds=0.01,
)


@pytest.fixture(autouse=True)
async def by_hand(connection: "asyncpg.Connection[Any]") -> None:
    """autovacuum stays away: who vacuums here is whom a test is about."""
    await connection.execute("alter table app_jobs.jobs set (autovacuum_enabled = false)")


@pytest.fixture
async def pool(database: str) -> "AsyncIterator[asyncpg.Pool[Any]]":
    """Connections to ``database``."""
    async with asyncpg.create_pool(database, min_size=1, max_size=2) as opened:
        yield opened


@pytest.fixture
def table(pool: "asyncpg.Pool[Any]", database: str) -> JobsTable:
    """The jobs table, for its owner."""
    return JobsTable(pool, "app_jobs", dsn=database)


class Settled:
    """A number of settlements that keeps changing, but never grows."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> int:
        self.looks += 1
        return self.looks // 8 % 2

    async def look_again(self, *, times: int = 10) -> None:
        """Wait until it was asked so many times more."""
        wanted = self.looks + times

        async def asked() -> bool:
            return self.looks >= wanted

        await eventually(asked)


@contextlib.asynccontextmanager
async def at_work(vacuumer: Vacuumer) -> AsyncIterator[None]:
    """Run it meanwhile."""
    stop = asyncio.Event()
    running = asyncio.create_task(vacuumer.run(stop))
    try:
        yield
    finally:
        stop.set()
        await running


async def leave_dead_rows(database: str, table: JobsTable, count: int) -> None:
    """Add so many jobs and delete them; back when the statistics tell of it."""
    before = (await table.state(min_dead_rows=count)).dead
    connection = await asyncpg.connect(database)
    await connection.execute(
        "insert into app_jobs.jobs (task_identifier, run_at) select 'dead', 'infinity' from generate_series(1, $1)",
        count,
    )
    await connection.execute("delete from app_jobs.jobs where task_identifier = 'dead'")
    await connection.close()  # a session that ends says what it did

    async def told() -> bool:
        return (await table.state(min_dead_rows=count)).dead >= before + count

    await eventually(told)


async def vacuums(jobs: Jobs) -> int:
    """How often somebody else than autovacuum has vacuumed the table."""
    count: int = await jobs.connection.fetchval(
        "select vacuum_count from pg_stat_user_tables where relid = 'app_jobs.jobs'::regclass"
    )
    return count


async def make_slow(jobs: Jobs) -> None:
    """Let every vacuum of the sessions that begin now take minutes."""
    name = await jobs.connection.fetchval("select quote_ident(current_database())")
    await jobs.connection.execute(f"alter database {name} set vacuum_cost_delay = 100")
    await jobs.connection.execute(f"alter database {name} set vacuum_cost_limit = 1")


async def vacuums_under_way(jobs: Jobs) -> int:
    """How many are in the middle of their work."""
    count: int = await jobs.connection.fetchval(
        "select count(*) from pg_stat_progress_vacuum where datname = current_database()"
    )
    return count


async def test_a_service_vacuums_when_many_jobs_have_run(
    serve: Serve, start_service: StartService, jobs: Jobs, table: JobsTable, database: str
) -> None:
    """With nothing set: as soon as it settles a job, it sees what lies about, and the place is free again."""
    await leave_dead_rows(database, table, MANY)
    await start_service(await serve(RecordingFunction().app))
    await jobs.until_gone(await jobs.add("x"))
    await eventually(lambda: vacuums(jobs))

    async def is_clean() -> bool:
        return (await table.state(min_dead_rows=1)).dead < 100  # what the job itself left

    await eventually(is_clean)


async def test_few_dead_rows_are_left_to_autovacuum(jobs: Jobs, table: JobsTable, database: str) -> None:
    """Neither fewer than the plan's number, nor a small share of the rows that are there."""
    await jobs.connection.execute(
        "insert into app_jobs.jobs (task_identifier, run_at) select 'alive', 'infinity' from generate_series(1, 1000)"
    )
    await jobs.connection.execute("vacuum app_jobs.jobs")  # the statistics know of those
    await leave_dead_rows(database, table, QUICK.min_dead_rows + 1)
    settled = Settled()
    async with at_work(Vacuumer(table, settlements=settled, plan=QUICK)):
        await settled.look_again()
        assert await vacuums(jobs) == 1
        await leave_dead_rows(database, table, 200)
        await eventually(lambda: vacuumed(jobs, times=2))


async def test_what_it_has_settled_itself_it_does_not_read_of(jobs: Jobs, table: JobsTable) -> None:
    """Two dead rows a job, known before the statistics tell of them; after a vacuum it counts from there."""
    settled, asked = 24, Settled()

    def count() -> int:
        asked()
        return settled

    plan = dataclasses.replace(QUICK, stats_interval_seconds=3600)
    async with at_work(Vacuumer(table, settlements=count, plan=plan)):
        for times in (0, 1, 2):
            await asked.look_again()
            assert await vacuums(jobs) == times
            settled += 1
            await eventually(lambda: vacuumed(jobs, times=times + 1))  # noqa: B023  - awaited here
            settled += 24


async def vacuumed(jobs: Jobs, *, times: int) -> bool:
    """Whether that often."""
    return await vacuums(jobs) == times


async def test_a_process_that_settles_nothing_does_not_look(table: JobsTable, jobs: Jobs, database: str) -> None:
    """An idle service asks the database nothing."""
    await leave_dead_rows(database, table, 100)
    asked = Settled()

    def nothing() -> int:
        asked()
        return 0

    async with at_work(Vacuumer(table, settlements=nothing, plan=QUICK)):
        await asked.look_again()
    assert await vacuums(jobs) == 0


async def test_what_an_open_transaction_holds_is_not_vacuumed_again_and_again(
    jobs: Jobs, table: JobsTable, database: str
) -> None:
    """Dead rows that have to stay are counted out; as many new ones beside them are worth another vacuum."""
    other = await asyncpg.connect(database)
    settled = Settled()
    try:
        await other.execute("begin isolation level repeatable read")
        await other.execute("select count(*) from app_jobs.jobs")
        await leave_dead_rows(database, table, 100)
        async with at_work(Vacuumer(table, settlements=settled, plan=QUICK)):
            await eventually(lambda: vacuums(jobs))
            await settled.look_again()
            assert await vacuums(jobs) == 1
            await leave_dead_rows(database, table, 100)
            await eventually(lambda: vacuumed(jobs, times=2))
    finally:
        await other.close()


async def test_nobody_waits_for_a_vacuum_of_another(
    jobs: Jobs, table: JobsTable, database: str, pool: "asyncpg.Pool[Any]"
) -> None:
    """One is under way for minutes: another service's steps back at once, and its look says that it need not try."""
    await leave_dead_rows(database, table, 1000)
    await make_slow(jobs)
    first = asyncio.create_task(table.vacuum())
    await eventually(lambda: vacuums_under_way(jobs))
    await JobsTable(pool, "app_jobs", dsn=database).vacuum()
    assert not first.done()
    settled = Settled()

    async def taken() -> bool:
        return (await table.state(min_dead_rows=1000)).is_locked

    await eventually(taken)
    async with at_work(Vacuumer(table, settlements=settled, plan=QUICK)):
        await settled.look_again()
        assert await vacuums_under_way(jobs) == 1
    first.cancel()
    await asyncio.wait({first})
    assert await vacuums(jobs) == 0


async def test_a_stop_ends_the_vacuum(jobs: Jobs, table: JobsTable, database: str) -> None:
    """In the server too: none is left, and the service did not wait for the minutes that it would have taken."""
    await leave_dead_rows(database, table, 1000)
    await make_slow(jobs)
    async with at_work(Vacuumer(table, settlements=Settled(), plan=QUICK)):
        await eventually(lambda: vacuums_under_way(jobs))
    assert await vacuums_under_way(jobs) == 0
    assert await vacuums(jobs) == 0


async def test_trouble_is_told_once_and_tried_again(
    jobs: Jobs, pool: "asyncpg.Pool[Any]", table: JobsTable, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No connection for it: a line, and no more of them, while jobs go on."""
    await leave_dead_rows(database, table, 100)
    settled = Settled()
    nowhere = JobsTable(pool, "app_jobs", dsn="postgresql://nobody@127.0.0.1:1/nothing")
    async with at_work(Vacuumer(nowhere, settlements=settled, plan=QUICK)):
        await settled.look_again()
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count("jobs table not vacuumed") == 1
    assert await vacuums(jobs) == 0
