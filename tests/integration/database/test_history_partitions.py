"""The history has one partition for each day: made ahead, dropped past the retention, and never missing."""

import asyncio
from typing import Any

import asyncpg

from jobfn.database.migrate import migrate, migration_files
from jobfn.database.native_store import NativeJobStore
from jobfn.database.records import Settlement
from jobfn.database.statements import query
from jobfn.sql.loader import render
from jobfn.worker.settlement import SettlementBatcher
from support.fixtures import Connect, ConnectTo
from support.jobs import WORKER, Jobs, settle_jobs
from support.migrations import migrate_to
from support.network import eventually
from support.roles import temporary_role

FIRST_PARTITIONED_VERSION = next(file.version for file in migration_files() if file.name == "history_partitions")
ADD_RUNS = """
    insert into app_jobs.job_runs (job_id, attempt, task_identifier, enqueued_at, due_at, ended_at, outcome)
    select n, 1, 'x', now(), now(), now() - n * interval '1 day', 'completed' from generate_series(0, $1 - 1) n
"""
#: The partition of each attempt, in the order of jobs.
PARTITIONS_OF_RUNS = "select r.tableoid::regclass::text from app_jobs.job_runs r order by r.job_id"
CREATE_PARTITIONS = "select app_jobs.create_job_runs_partitions(2)"
TODAY = "select 'app_jobs.job_runs_p' || to_char(now() at time zone 'UTC', 'YYYYMMDD')"
ADD_OLD_PARTITION = """
    create table app_jobs.job_runs_p20200101 partition of app_jobs.job_runs
        for values from ('2020-01-01 00:00:00+00') to ('2020-01-02 00:00:00+00');
    insert into app_jobs.job_runs (job_id, attempt, task_identifier, enqueued_at, due_at, ended_at, outcome)
    select n, 1, 'x', now(), now(), '2020-01-01 12:00:00+00', 'completed' from generate_series(1, 5) n
"""


async def column(connection: asyncpg.Connection, statement: str, *values: object) -> list[Any]:
    return [row[0] for row in await connection.fetch(statement, *values)]


async def settle_mixed(jobs: Jobs) -> None:
    """Settle a completed and a failed job in one batch, which collects its rows in an array."""
    first, second = await jobs.add("x"), await jobs.add("x", max_attempts=1)
    assert [await jobs.claim_id(), await jobs.claim_id()] == [first, second]
    settled = await settle_jobs(jobs.connection, (WORKER, first, 1, None), (WORKER, second, 1, "boom"))
    assert {row["id"] for row in settled} == {first, second}


async def test_filled_history_becomes_a_partition(
    empty: asyncpg.Connection, empty_database: str, connect_to: ConnectTo
) -> None:
    """A session that was open before the migration settles after it, and viewers keep their right."""
    await migrate_to(empty, FIRST_PARTITIONED_VERSION - 1)
    jobs = Jobs(await connect_to(empty_database))
    await settle_mixed(jobs)
    await empty.execute(ADD_RUNS, 10)
    await empty.execute("update app_jobs.job_runs set ended_at = now() + interval '3 days' where job_id = 9")
    async with temporary_role(empty) as viewer:
        await empty.execute(
            f"grant usage on schema app_jobs to {viewer}; grant select on app_jobs.job_runs to {viewer}"
        )
        await migrate(empty, "app_jobs")
        await empty.execute(f"set role {viewer}")
        assert await empty.fetchval("select count(*) from app_jobs.job_runs") == 12
    await settle_mixed(jobs)
    assert await empty.fetch(
        "select tableoid::regclass::text, count(*) from app_jobs.job_runs group by 1 order by 1"
    ) == [
        ("app_jobs.job_runs_before_partitions", 13),
        ("app_jobs.job_runs_default", 1),  # the one of the wrong clock
    ]
    assert await empty.fetchval(CREATE_PARTITIONS) == 2, "the old history has today's attempts"
    assert await empty.fetchval("select app_jobs.prune_job_runs(1)") == 1
    assert await empty.fetchval("select min(ended_at) > now() - interval '7.1 days' from app_jobs.job_runs")


async def test_attempts_between_the_migrations_are_kept(empty: asyncpg.Connection) -> None:
    await migrate_to(empty, FIRST_PARTITIONED_VERSION - 1)
    await empty.execute(ADD_RUNS, 2)
    await empty.execute(render(migration_files()[FIRST_PARTITIONED_VERSION - 1].sql, "app_jobs"))
    await settle_mixed(Jobs(empty))
    file = migration_files()[FIRST_PARTITIONED_VERSION - 1]
    await empty.execute(query("record_migration", "app_jobs"), file.version, file.name, file.checksum)
    await migrate(empty, "app_jobs")
    assert await column(empty, PARTITIONS_OF_RUNS) == ["app_jobs.job_runs_before_partitions"] * 4


async def test_partitions_are_made_ahead_and_take_over_todays_attempts(jobs: Jobs) -> None:
    connection = jobs.connection
    await settle_mixed(jobs)
    assert await column(connection, PARTITIONS_OF_RUNS) == ["app_jobs.job_runs_default"] * 2
    assert await connection.fetchval(CREATE_PARTITIONS) == 3
    assert await connection.fetchval(CREATE_PARTITIONS) == 0
    await settle_mixed(jobs)
    assert await column(connection, PARTITIONS_OF_RUNS) == [await connection.fetchval(TODAY)] * 4
    indexes = "select indexdef from pg_indexes where tablename = $1 order by 1"
    today = (await connection.fetchval(TODAY)).removeprefix("app_jobs.")
    assert [text.rpartition(" ")[2] for text in await column(connection, indexes, today)] == ["(ended_at)", "(job_id)"]


async def test_settlement_waits_for_a_partition_that_is_made(jobs: Jobs, connect: Connect) -> None:
    maker = await connect()
    job = await jobs.add("x")
    await jobs.claim()
    transaction = maker.transaction()
    await transaction.start()
    assert await maker.fetchval(CREATE_PARTITIONS) == 3
    settling = asyncio.create_task(settle_jobs(jobs.connection, (WORKER, job, 1, None)))
    waiting = "select wait_event_type = 'Lock' from pg_stat_activity where pid = $1"
    await eventually(lambda: maker.fetchval(waiting, jobs.connection.get_server_pid()))
    await transaction.commit()
    assert {row["id"] for row in await settling} == {job}
    assert await column(maker, PARTITIONS_OF_RUNS) == [await maker.fetchval(TODAY)]


async def test_settlement_is_repeated_if_its_day_gets_a_partition_meanwhile(
    jobs: Jobs, pool: "asyncpg.Pool[Any]", connect: Connect
) -> None:
    """As the migration attaches the old history: it locks only the default partition."""
    job = await jobs.add("x")
    await jobs.claim()
    maker = await connect()
    transaction = maker.transaction()
    await transaction.start()
    await maker.execute(
        "create table app_jobs.today (like app_jobs.job_runs including all);"
        "lock table app_jobs.job_runs_default in access exclusive mode;"
        "alter table app_jobs.job_runs attach partition app_jobs.today for values from ('2020-01-01') to ('2999-01-01')"
    )
    settlements = SettlementBatcher(NativeJobStore(pool, "app_jobs"))
    settling = asyncio.create_task(settlements.settle(Settlement(WORKER, job, 1), until_committed=True))
    default = "'app_jobs.job_runs_default'::regclass"
    waiting = f"select exists (select from pg_locks l where not l.granted and l.relation = {default})"
    await eventually(lambda: jobs.connection.fetchval(waiting))
    await transaction.commit()
    assert await settling
    assert await column(jobs.connection, PARTITIONS_OF_RUNS) == ["app_jobs.today"]


async def test_partitions_have_days_of_utc_in_any_time_zone(jobs: Jobs) -> None:
    await jobs.connection.execute("set timezone = 'Pacific/Auckland'; set datestyle = 'German, DMY'")
    assert await jobs.connection.fetchval(CREATE_PARTITIONS) == 3
    assert await jobs.connection.fetchval(CREATE_PARTITIONS) == 0
    hours = "select extract(hour from lower_bound at time zone 'UTC')::int from app_jobs.job_runs_partitions()"
    assert await column(jobs.connection, f"{hours} where not is_default") == [0, 0, 0]


async def test_processes_make_each_partition_once(jobs: Jobs, connect: Connect) -> None:
    others = [await connect() for _ in range(4)]
    created = await asyncio.gather(*(other.fetchval(CREATE_PARTITIONS) for other in others))
    assert sum(created) == 3


async def test_no_partitions_are_made_without_history(jobs: Jobs) -> None:
    await jobs.connection.execute("select app_jobs.set_history_retention(0)")
    assert await jobs.connection.fetchval(CREATE_PARTITIONS) == 0


async def test_day_with_many_attempts_stays_in_the_default_partition(jobs: Jobs) -> None:
    """Moving them would block settlements."""
    await jobs.connection.execute(
        "insert into app_jobs.job_runs (job_id, attempt, task_identifier, enqueued_at, due_at, outcome)"
        " select n, 1, 'x', now(), now(), 'completed' from generate_series(1, 10001) n"
    )
    assert await jobs.connection.fetchval(CREATE_PARTITIONS) == 2
    assert await jobs.connection.fetchval("select count(*) from app_jobs.job_runs_default") == 10001


async def test_long_retention_has_a_bounded_number_of_partitions(jobs: Jobs) -> None:
    """Bounds of existing partitions are kept, and no day is left out."""
    connection = jobs.connection
    assert await connection.fetchval(CREATE_PARTITIONS) == 3
    widths = """
        select extract(epoch from p.upper_bound - p.lower_bound)::int / 86400
        from app_jobs.job_runs_partitions() p where not p.is_default order by p.lower_bound
    """
    await connection.execute("select app_jobs.set_history_retention(3650)")
    await connection.execute(f"drop table {await connection.fetchval(TODAY)}")
    assert await connection.fetchval("select app_jobs.create_job_runs_partitions(3)") == 2
    assert await column(connection, widths) == [1, 1, 1, 61]
    assert await connection.fetchval("select app_jobs.create_job_runs_partitions(60)") == 0
    await connection.execute("select app_jobs.set_history_retention(60)")
    assert await connection.fetchval("select app_jobs.create_job_runs_partitions(64)") == 1
    assert await column(connection, widths) == [1, 1, 1, 61, 1]


async def test_attempt_of_a_day_without_a_partition_is_recorded(jobs: Jobs) -> None:
    await jobs.connection.execute(CREATE_PARTITIONS)
    await jobs.connection.execute(f"drop table {await jobs.connection.fetchval(TODAY)}")
    await settle_mixed(jobs)
    assert await column(jobs.connection, PARTITIONS_OF_RUNS) == ["app_jobs.job_runs_default"] * 2


async def test_day_past_the_retention_is_dropped(jobs: Jobs) -> None:
    await jobs.connection.execute(ADD_OLD_PARTITION)
    await jobs.connection.execute(CREATE_PARTITIONS)
    await settle_mixed(jobs)
    assert await jobs.connection.fetchval("select app_jobs.prune_job_runs(100)") == 0, "no row is deleted"
    assert await jobs.connection.fetchval("select to_regclass('app_jobs.job_runs_p20200101')") is None
    assert await jobs.connection.fetchval("select count(*) from app_jobs.job_runs") == 2


async def test_day_is_kept_until_all_of_it_is_past_the_retention(jobs: Jobs) -> None:
    await jobs.connection.execute(ADD_OLD_PARTITION)
    await jobs.connection.execute(
        "update app_jobs.history_settings set retention = now() - timestamptz '2020-01-01 18:00:00+00'"
    )
    await jobs.connection.execute("select app_jobs.prune_job_runs(100)")
    assert await jobs.connection.fetchval("select count(*) from app_jobs.job_runs") == 5


async def test_retention_of_less_than_a_day_deletes_rows(jobs: Jobs) -> None:
    await settle_mixed(jobs)
    await jobs.connection.execute(CREATE_PARTITIONS)
    await jobs.connection.execute("select app_jobs.set_history_retention(0)")
    assert await jobs.connection.fetchval("select app_jobs.prune_job_runs(1)") == 1
    assert await jobs.connection.fetchval("select app_jobs.prune_job_runs(100)") == 1


async def test_reader_of_the_history_delays_partitions_and_nothing_else(jobs: Jobs, connect: Connect) -> None:
    await jobs.connection.execute(ADD_OLD_PARTITION)
    reader = await connect()
    async with reader.transaction():
        await reader.fetch("select from app_jobs.job_runs")
        assert await jobs.connection.fetchval("select app_jobs.prune_job_runs(100)") == 0
        assert await jobs.connection.fetchval(CREATE_PARTITIONS) == 0
        await settle_mixed(jobs)
    assert await jobs.connection.fetchval("select to_regclass('app_jobs.job_runs_p20200101') is not null")
    await jobs.connection.execute("select app_jobs.prune_job_runs(100)")
    assert await jobs.connection.fetchval("select to_regclass('app_jobs.job_runs_p20200101')") is None
    assert await jobs.connection.fetchval(CREATE_PARTITIONS) == 3


async def test_pages_of_the_history_read_each_partition_by_an_index(jobs: Jobs) -> None:
    await jobs.connection.execute(ADD_OLD_PARTITION)
    await jobs.connection.execute(CREATE_PARTITIONS)
    await jobs.connection.execute("set enable_seqscan = off")
    for statement in (
        "select * from app_jobs.job_runs where job_id = 7 order by ended_at desc, attempt desc limit 5",
        "select * from app_jobs.job_runs where outcome = 'completed' order by job_id desc limit 50",
        "select task_identifier from app_jobs.job_runs order by ended_at desc limit 5000",
    ):
        plan = await column(jobs.connection, f"explain {statement}")
        scans = [line for line in plan if "Scan" in line]
        assert len([line for line in scans if "Index Scan" in line or "Bitmap" in line]) == len(scans) >= 5, plan
