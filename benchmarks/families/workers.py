"""Family 9: one, two and four workers on one database, each with a function process, and what a job costs PostgreSQL.

Contention would show as CPU per job, PostgreSQL's included, which grows with the number of workers. Two more subjects
have two callback servers, which settle each job by its report.
"""

import asyncpg

from benchmarks.bench import Bench
from benchmarks.cluster import execute, fetch_number, server_cpu_seconds
from benchmarks.cpus import available_cpus
from benchmarks.drain import RATE_UNIT, TOTAL_CPU_UNIT, drain, drain_all
from benchmarks.errors import BenchError
from benchmarks.measurements import Family
from benchmarks.statements import HISTORY_SIZE, TABLE_SIZE
from benchmarks.subjects import MeteredWorkers, Workers
from jobfn.database.open_store import open_store

USUAL_SECONDS = 80
ONE = Workers("jobfn, 1 worker", "defaults", count=1)
SEVERAL = [Workers("jobfn, 2 workers", "defaults", count=2), Workers("jobfn, 4 workers", "defaults", count=4)]
BY_REPORT = {"JOBS_SETTLE_ON": "report"}
WITH_CALLBACKS = [
    Workers(
        f"jobfn, {count} workers, 2 callback servers",
        "JOBS_SETTLE_ON=report",
        variables=BY_REPORT,
        count=count,
        callback_servers=2,
    )
    for count in (2, 4)
]
COSTS = MeteredWorkers("jobfn, costs of a job", "2 workers, defaults", count=2)
COST_JOBS, COST_SECONDS = 20_000, 15.0
POLLS = 1000


async def measure(bench: Bench) -> Family:
    family = Family(9, "Workers: several on one database, each with a function process")
    if bench.includes(COSTS.name):
        await _measure_costs(bench, family)
    await drain_all(bench, family, [ONE, *SEVERAL], optional=WITH_CALLBACKS, with_server_cpu=True)
    compare_cpu(family, cores=available_cpus())
    for subject in SEVERAL:
        rate, one_rate = (subject.name, RATE_UNIT), (ONE.name, RATE_UNIT)
        family.compare(f"rate, {subject.count} workers against 1", rate, [one_rate])
    family.notes.append(f"{available_cpus()} cores for workers, functions and PostgreSQL")
    return family


def compare_cpu(family: Family, *, cores: int) -> None:
    """Add the rows of CPU per job. Those with more workers than cores have no target, and name the cores."""
    for subject in SEVERAL:
        cpu, one_cpu = (subject.name, TOTAL_CPU_UNIT), (ONE.name, TOTAL_CPU_UNIT)
        has_cores = subject.count <= cores
        name = f"total CPU per job, {subject.count} workers against 1{'' if has_cores else f', on {cores} cores'}"
        family.compare(name, cpu, [one_cpu], at_most=1.1 if has_cores else None)


async def _measure_costs(bench: Bench, family: Family) -> None:
    """Measure WAL, disk, connections and PostgreSQL's CPU for a job, right after a checkpoint."""
    try:
        url = await COSTS.prepare(bench)
        result = await drain(bench, COSTS, url, jobs=COST_JOBS, max_seconds=COST_SECONDS)
    except BenchError as error:
        bench.fail(family, COSTS.name, "bytes of WAL to run a job", error)
        return
    await execute(url, "vacuum")
    history = await fetch_number(url, HISTORY_SIZE)
    await COSTS.clear(url)
    poll = await _poll_microseconds(bench, url)
    await Workers.add(COSTS, url, COST_JOBS)
    for unit, value in (
        ("bytes of WAL to add a job", COSTS.added_wal / COST_JOBS),
        ("bytes of WAL to run a job", COSTS.run_wal / result.settled),
        ("µs of CPU of PostgreSQL per job", result.server_cpu_seconds / result.settled * 1e6),
        ("µs of CPU of PostgreSQL per empty poll", poll),
        ("MB for a million waiting jobs", await fetch_number(url, TABLE_SIZE) / COST_JOBS),
        ("MB for the history of a million jobs", history / result.settled),
        ("connections of a worker", COSTS.connections / COSTS.count),
    ):
        family.measurement(COSTS.name, unit).note = COSTS.note
        family.measurement(COSTS.name, unit).rounds.append(value)


async def _poll_microseconds(bench: Bench, url: str) -> float:
    """Return what a poll that finds no job costs PostgreSQL: the claim, and the time of the next job."""
    postmaster = await bench.cluster.postmaster()
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
        store = await open_store(pool, "app_jobs")
        before = server_cpu_seconds(postmaster)
        for _ in range(POLLS):
            await store.claim("bench-worker", tasks=None, limit=16, lease_seconds=30.0)
            await store.seconds_until_next()
        return (server_cpu_seconds(postmaster) - before) / POLLS * 1e6
