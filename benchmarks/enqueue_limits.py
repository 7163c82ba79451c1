"""Measure the cost of each part of the table of jobs when jobs are added: the limits of family 7.

    python -m benchmarks.enqueue_limits [--rows 20000] [--rounds 7]

Each variant is a database without some indexes or triggers of ``app_jobs.jobs``. Claims and other promises need
what is missing, so these are limits and not choices. The variants take turns. The unit is the CPU of the connection's
process in PostgreSQL, which a busy machine changes less than the time.
"""

import argparse
import asyncio
import contextlib
from collections import defaultdict
from typing import Any

import asyncpg
import psutil

from benchmarks.arguments import positive
from benchmarks.bench import Bench, Options
from benchmarks.cluster import Cluster, running_cluster
from benchmarks.peers.jobfn_enqueue import ADD_JOBS, CREATE_TABLE
from jobfn.triggers import DataJobTrigger, TableTriggers, apply_triggers

DROP_INDEXES = """
    do $$ begin
        execute (
            select 'drop index ' || string_agg(i.indexrelid::regclass::text, ', ')
            from pg_catalog.pg_index i
            where i.indrelid = 'app_jobs.jobs'::regclass and not i.indisprimary and ({condition})
        );
    end $$
"""
#: Those that a job without a queue, a tenant and an expiry has no entry in.
EMPTY_INDEXES = DROP_INDEXES.format(condition="pg_relation_size(i.indexrelid) <= 8192")
SECOND_INDEXES = DROP_INDEXES.format(condition="i.indexrelid <> 'app_jobs.jobs_ready_idx'::regclass")
ALL_INDEXES = DROP_INDEXES.format(condition="true")
TRIGGERS = "alter table app_jobs.jobs disable trigger user"
VARIANTS: dict[str, tuple[str, ...]] = {
    "the table as it is": (),
    "without the indexes that these jobs are not in": (EMPTY_INDEXES,),
    "the primary key and one index for claims": (SECOND_INDEXES,),
    "the same without triggers": (SECOND_INDEXES, TRIGGERS),
    "the primary key, no triggers": (ALL_INDEXES, TRIGGERS),
}
STATEMENTS = {
    "add_job in one statement": ADD_JOBS,
    "INSERT with a DataJobTrigger": "insert into with_trigger (amount) select n from generate_series(1, $1::int) n",
    "the same INSERT without": "insert into without_trigger (amount) select n from generate_series(1, $1::int) n",
}


async def _prepare(bench: Bench, number: int, statements: tuple[str, ...]) -> "asyncpg.Connection[Any]":
    """Create the database of a variant."""
    url = await bench.create_migrated_database(f"variant_{number}")
    connection = await asyncpg.connect(url)
    for table in ("with_trigger", "without_trigger"):
        await connection.execute(CREATE_TABLE.format(table=table))
    node = DataJobTrigger.model_validate({"task_identifier": "noop"})
    await apply_triggers(connection, [TableTriggers("with_trigger", [node])])
    await connection.execute(ADD_JOBS, 1000)  # fills the indexes that these jobs are in
    for statement in statements:
        await connection.execute(statement)
    return connection


async def _measure(connection: "asyncpg.Connection[Any]", statement: str, rows: int) -> float:
    """Return the seconds of CPU of a statement."""
    await connection.execute("truncate app_jobs.jobs cascade; truncate with_trigger, without_trigger")
    backend = psutil.Process(connection.get_server_pid())
    before = backend.cpu_times()
    await connection.execute(statement, rows)
    after = backend.cpu_times()
    return float(after.user + after.system - before.user - before.system)


async def main(cluster: Cluster, rows: int, rounds: int) -> None:
    """Print a table."""
    bench = Bench(Options(), cluster)
    async with contextlib.AsyncExitStack() as stack:
        connections = {}
        for number, (name, statements) in enumerate(VARIANTS.items()):
            connections[name] = await _prepare(bench, number, statements)
            stack.push_async_callback(connections[name].close)
        seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        for number in range(rounds):
            for statement, sql in STATEMENTS.items():
                for name in bench.round_order(list(VARIANTS), number):
                    seconds[name, statement] += await _measure(connections[name], sql, rows)
    print(f"{'µs of CPU per row':<50}" + "".join(f"{statement:>32}" for statement in STATEMENTS))
    for name in VARIANTS:
        cells = [seconds[name, statement] / rows / rounds * 1e6 for statement in STATEMENTS]
        print(f"{name:<50}" + "".join(f"{cell:>32.1f}" for cell in cells))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=positive, default=20_000)
    parser.add_argument("--rounds", type=positive, default=7)
    arguments = parser.parse_args()
    with running_cluster() as running:
        asyncio.run(main(running, arguments.rows, arguments.rounds))
