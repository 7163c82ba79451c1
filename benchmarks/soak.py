"""``make soak``: run many jobs through the whole path, and say whether memory, tables and claims stay flat.

A service and a function process run with their defaults, maintenance included. Jobs are added as fast as they run, so
that a few thousand wait all the time: mostly quick ones, some that fail once, some whose results are kept.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from benchmarks.arguments import positive
from benchmarks.bench import Bench, Options
from benchmarks.cluster import Cluster, fetch_number, free_port, running_cluster
from benchmarks.errors import BenchError
from benchmarks.processes import BenchProcess, start_process
from benchmarks.results import RESULTS_FOLDER, describe_machine
from benchmarks.scaling_page import write_soak
from benchmarks.statements import COUNT_CONNECTIONS, TABLE_SIZE
from benchmarks.subjects import PEERS, url_variables
from jobfn.database.open_store import open_store
from jobfn.database.records import Settlement

FUNCTIONS = str(PEERS / "soak_functions.py")
#: Jobs that wait, and jobs that one statement adds.
BACKLOG, BATCH = 5000, 1000
#: Of 1,000 jobs, these fail once, and of these the results are kept.
RETRIED, KEPT = 20, 10
ADD_JOBS = f"""
    insert into app_jobs.jobs (task_identifier, payload)
    select case when n % 1000 < {RETRIED} then 'retried' when n % 1000 < {RETRIED + KEPT} then 'kept' else 'quick' end,
        json_build_object('n', n)
    from generate_series($1::bigint, $2::bigint) n
"""
#: Fraction of the samples that warm the processes up, and are not judged.
WARM_UP = 0.2
#: Maximum growth over the rest of the run: a fraction of the median, and an amount that does not count.
BOUNDS = {
    "service_megabytes": (0.1, 5.0),
    "function_megabytes": (0.1, 5.0),
    "table_megabytes": (0.25, 5.0),
    "connections": (0.1, 2.0),
    "service_files": (0.1, 3.0),
    "function_files": (0.1, 3.0),
    "claim_milliseconds": (0.5, 2.0),
}
#: The claim of one job is measured this often for each sample.
CLAIMS = 5


@dataclass(frozen=True)
class Verdict:
    """Whether a series stays flat.

    Attributes:
        median: Median after the warm-up.
        growth: Growth after the warm-up, by the median slope.
        bound: Maximum growth.
    """

    median: float
    growth: float
    bound: float
    is_flat: bool


@dataclass
class Soak:
    """The result of a soak.

    Attributes:
        jobs: Number of jobs that have run.
        left: Jobs that were not completed at the end.
        seconds: Duration.
        samples: One value per sample for each series; ``jobs`` and ``seconds`` are the axes.
    """

    jobs: int = 0
    left: int = 0
    seconds: float = 0.0
    samples: dict[str, list[float]] = field(default_factory=dict)

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """The verdict on each series."""
        return {name: judge(self.samples["jobs"], self.samples[name], *BOUNDS[name]) for name in BOUNDS}

    @property
    def is_flat(self) -> bool:
        """Whether all series are flat and no job is left."""
        return self.left == 0 and all(verdict.is_flat for verdict in self.verdicts.values())


def judge(jobs: Sequence[float], values: Sequence[float], fraction: float, slack: float) -> Verdict:
    """Judge a series by the median of the slopes between its samples, so that single outliers do not count."""
    start = int(len(values) * WARM_UP)
    jobs, values = jobs[start:], values[start:]
    slopes = [
        (values[j] - values[i]) / (jobs[j] - jobs[i])
        for i, j in itertools.combinations(range(len(values)), 2)
        if jobs[j] > jobs[i]
    ]
    median = statistics.median(values)
    growth = statistics.median(slopes) * (jobs[-1] - jobs[0]) if slopes else 0.0
    bound = fraction * median + slack
    return Verdict(round(median, 3), round(growth, 3), round(bound, 3), growth <= bound)


async def soak(bench: Bench, url: str, *, jobs: int, interval_seconds: float) -> Soak:
    """Run jobs on a migrated database, and sample."""
    port, callback_port, health_port = free_port(), free_port(), free_port()
    addresses = url_variables(port, callback_port)
    function_command = bench.jobfn_python("-m", "jobfn.function", FUNCTIONS, "--host", "127.0.0.1")
    service_command = bench.jobfn_python("-m", "jobfn.service")
    variables = bench.jobfn_variables(**addresses, DATABASE_URL=url, HOSTNAME="soak-worker", LOG_LEVEL="warning")
    with (
        start_process("the function", function_command, variables | {"PORT": str(port)}, port=port) as function,
        start_process(
            "the service", service_command, variables | {"JOBS_HEALTH_PORT": str(health_port)}, port=callback_port
        ) as service,
    ):
        await function.wait_for_port()
        await service.wait_until_ready(health_port)
        result = Soak()
        started_at = time.monotonic()
        async with asyncpg.create_pool(url, min_size=1, max_size=2) as pool:
            feeding = asyncio.create_task(_feed(pool, jobs))
            while not feeding.done() or await fetch_number(url, "select count(*) from app_jobs.jobs"):
                await asyncio.sleep(interval_seconds)
                for process in (function, service):
                    process.check_running()
                if not feeding.done():
                    await _sample(
                        result, pool, url, service=service, function=function, seconds=time.monotonic() - started_at
                    )
            result.jobs = await feeding
        result.seconds = round(time.monotonic() - started_at, 1)
        result.left = await fetch_number(url, "select count(*) from app_jobs.jobs")
    return result


async def _feed(pool: "asyncpg.Pool[Any]", jobs: int) -> int:
    """Add jobs while less than the backlog waits. Return how many were added."""
    added = 0
    while added < jobs:
        waiting = await pool.fetchval("select count(*) from (select from app_jobs.jobs limit $1) waiting", BACKLOG)
        if waiting >= BACKLOG:
            await asyncio.sleep(0.05)
            continue
        size = min(BATCH, jobs - added)
        await pool.execute(ADD_JOBS, added + 1, added + size)
        added += size
    return added


async def _sample(
    result: Soak,
    pool: "asyncpg.Pool[Any]",
    url: str,
    *,
    service: BenchProcess,
    function: BenchProcess,
    seconds: float,
) -> None:
    added = await pool.fetchval("select last_value from app_jobs.jobs_id_seq")
    waiting = await pool.fetchval("select count(*) from app_jobs.jobs")
    values = {
        "jobs": added - waiting,
        "seconds": seconds,
        "service_megabytes": service.resident_megabytes(),
        "function_megabytes": function.resident_megabytes(),
        "table_megabytes": await fetch_number(url, TABLE_SIZE) / 1e6,
        "connections": await fetch_number(url, COUNT_CONNECTIONS),
        "service_files": psutil.Process(service.popen.pid).num_fds(),
        "function_files": psutil.Process(function.popen.pid).num_fds(),
        "claim_milliseconds": await _claim_milliseconds(pool),
    }
    for name, value in values.items():
        result.samples.setdefault(name, []).append(round(float(value), 3))


async def _claim_milliseconds(pool: "asyncpg.Pool[Any]") -> float:
    """Return the median time to claim one job, which is released at once."""
    store, times = await open_store(pool, "app_jobs"), []
    for _ in range(CLAIMS):
        started_at = time.perf_counter()
        claimed = await store.claim("soak-probe", tasks=None, limit=1, lease_seconds=30.0)
        times.append((time.perf_counter() - started_at) * 1e3)
        await store.settle([Settlement("soak-probe", job.id, job.attempt, released=True) for job in claimed])
    return statistics.median(times)


async def _run(cluster: Cluster, arguments: argparse.Namespace) -> Soak:
    bench = Bench(Options(), cluster)
    url = await bench.create_migrated_database("jobfn_soak")
    return await soak(bench, url, jobs=arguments.jobs, interval_seconds=arguments.interval)


def main() -> int:
    """Run a soak. Return 1 if something grows or a job is left."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--jobs", type=positive, default=2_000_000, help="number of jobs (default: 2,000,000)")
    parser.add_argument("--interval", type=float, default=2.0, help="seconds between samples (default: 2)")
    parser.add_argument("--output", type=Path, default=RESULTS_FOLDER, help="folder of soak.json and soak.svg")
    arguments = parser.parse_args()
    try:
        with running_cluster() as cluster:
            result = asyncio.run(_run(cluster, arguments))
    except BenchError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    verdicts = {name: asdict(verdict) for name, verdict in result.verdicts.items()}
    document = {"machine": describe_machine(), "verdicts": verdicts, **asdict(result)}
    (arguments.output / "soak.json").write_text(f"{json.dumps(document, indent=1)}\n", "utf-8")
    print(f"{result.jobs:,} jobs in {result.seconds:,.0f} s, {result.left} left")
    for name, verdict in result.verdicts.items():
        word = "flat" if verdict.is_flat else "GROWS"
        print(f"{word:6}{name}: median {verdict.median:g}, growth {verdict.growth:+g} (at most {verdict.bound:g})")
    try:
        from benchmarks.soak_plot import draw  # noqa: PLC0415  - matplotlib is only in .venv-bench
    except ModuleNotFoundError:
        print("no plot: matplotlib is not installed", file=sys.stderr)
    else:
        draw(result.samples, arguments.output / "soak.svg")
    if arguments.output == RESULTS_FOLDER:
        write_soak(document, has_plot=(RESULTS_FOLDER / "soak.svg").exists())
    return 0 if result.is_flat else 1


if __name__ == "__main__":
    sys.exit(main())
