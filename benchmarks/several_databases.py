"""``python -m benchmarks.several_databases``: the cost of idle databases beside a busy one.

A service of one database, one with ``JOBS_DATABASES`` and only that database, and one with more databases take turns.
Each is measured while all databases are idle, and while the first one has jobs. CPU time is that of the service and of
PostgreSQL, without that of the functions.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil

from benchmarks.arguments import positive
from benchmarks.cluster import Cluster, free_port, running_cluster, server_cpu_seconds
from benchmarks.errors import BenchError
from benchmarks.processes import BenchProcess, start_process
from jobfn.database.migrate import migrate

DEFAULT_DATABASES, DEFAULT_JOBS, DEFAULT_ROUNDS, DEFAULT_IDLE_SECONDS = 50, 20_000, 3, 10.0
FUNCTION = '''from jobfn import task


@task("nothing")
async def nothing(_payload: None) -> None:
    """Do nothing."""
'''
START_TIMEOUT_SECONDS = 60.0
RUN_TIMEOUT_SECONDS = 120.0
SESSIONS = "application_name in ('jobfn-service', 'jobfn-listener')"
TARGET_PERCENT = 5.0


@dataclass(frozen=True)
class Round:
    """Result of a round.

    Attributes:
        service_us: CPU time of the service per job, in microseconds.
        server_us: CPU time of PostgreSQL per job, in microseconds.
        idle_service_ms: CPU time of the idle service per second, in milliseconds.
        idle_server_ms: CPU time of PostgreSQL per second meanwhile, in milliseconds.
        rate: Jobs per second.
        connections: Maximum number of connections to a database while all are idle.
    """

    service_us: float
    server_us: float
    idle_service_ms: float
    idle_server_ms: float
    rate: float
    connections: int


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    databases: int
    jobs: int
    rounds: int
    idle_seconds: float


def main(arguments: Sequence[str]) -> int:
    """Measure and print. Return the exit code: 0, or 2 on an error."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.several_databases", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--databases", type=positive, default=DEFAULT_DATABASES, help="default: %(default)s")
    parser.add_argument("--jobs", type=positive, default=DEFAULT_JOBS, help="jobs of a round (default: %(default)s)")
    parser.add_argument("--rounds", type=positive, default=DEFAULT_ROUNDS, help="default: %(default)s")
    parser.add_argument("--idle-seconds", type=float, default=DEFAULT_IDLE_SECONDS, help="default: %(default)s")
    options = parser.parse_args(arguments)
    settings = Settings(options.databases, options.jobs, options.rounds, options.idle_seconds)
    try:
        with running_cluster() as cluster:
            asyncio.run(_measure(cluster, settings))
    except BenchError as error:
        sys.stderr.write(f"benchmark: {error}\n")
        return 2
    return 0


async def _measure(cluster: Cluster, settings: Settings) -> None:
    urls = [await cluster.create_database("several_0")]
    connection = await asyncpg.connect(urls[0])
    await migrate(connection, "app_jobs")
    await connection.close()
    others = range(1, settings.databases)
    urls += [await cluster.create_database(f"several_{number}", template="several_0") for number in others]
    subjects: dict[str, dict[str, str]] = {
        "one database": {"DATABASE_URL": urls[0]},
        "JOBS_DATABASES, 1": {"JOBS_DATABASES": urls[0]},
        f"JOBS_DATABASES, {settings.databases}": {"JOBS_DATABASES": ",".join(urls)},
    }
    rounds: dict[str, list[Round]] = {name: [] for name in subjects}
    postmaster = await cluster.postmaster()
    with _function() as function:
        for number in range(settings.rounds):
            names = list(subjects)
            for name in names if number % 2 == 0 else reversed(names):
                async with _service(subjects[name], function) as service:
                    rounds[name].append(await _round(service, postmaster, urls[0], settings))
    _print(rounds, settings)


@contextmanager
def _function() -> "Iterator[_Function]":
    with tempfile.TemporaryDirectory(prefix="jobfn-bench-") as folder:
        path, port = Path(folder) / "functions.py", free_port()
        path.write_text(FUNCTION)
        command = [sys.executable, "-m", "jobfn.function", str(path)]
        with start_process("function", command, {"PORT": str(port), "LOG_LEVEL": "warning"}, port=port) as function:
            yield _Function(function, f"http://127.0.0.1:{port}")


@dataclass(frozen=True)
class _Function:
    process: BenchProcess
    url: str


@asynccontextmanager
async def _service(variables: dict[str, str], function: _Function) -> AsyncIterator[BenchProcess]:
    await function.process.wait_for_port()
    health_port = free_port()
    variables = {
        **variables,
        "KNATIVE_SERVICE_URL": function.url,
        "HOSTNAME": "several-databases",
        "INTERNAL_JOBS_CALLBACK_PORT": str(free_port()),
        "JOBS_HEALTH_PORT": str(health_port),
        "LOG_LEVEL": "warning",
    }
    with start_process("service", [sys.executable, "-m", "jobfn.service"], variables) as service:
        await service.wait_until_ready(health_port, timeout_seconds=START_TIMEOUT_SECONDS)
        yield service


async def _round(service: BenchProcess, postmaster: psutil.Process, url: str, settings: Settings) -> Round:
    await asyncio.sleep(2.0)  # the first prune of the history
    service_before, server_before, started_at = service.cpu_seconds(), server_cpu_seconds(postmaster), time.monotonic()
    await asyncio.sleep(settings.idle_seconds)
    seconds = time.monotonic() - started_at
    idle_service = service.cpu_seconds() - service_before
    idle_server = server_cpu_seconds(postmaster) - server_before

    connection = await asyncpg.connect(url)
    try:
        per_database = f"select count(*) as count from pg_stat_activity where {SESSIONS} group by datname"
        connections = await connection.fetchval(f"select max(count) from ({per_database}) as counts")
        # due later, so that adding them is not measured
        await connection.execute(
            "select app_jobs.add_job('nothing', run_at := now() + interval '1 day') from generate_series(1, $1)",
            settings.jobs,
        )
        service_before, server_before = service.cpu_seconds(), server_cpu_seconds(postmaster)
        started_at = time.monotonic()
        await connection.execute("update app_jobs.jobs set run_at = now()")
        await connection.execute('notify "jobs:insert"')
        while await connection.fetchval("select exists (select from app_jobs.jobs)"):
            if time.monotonic() - started_at > RUN_TIMEOUT_SECONDS:
                raise BenchError(f"the jobs did not end: {service.log_tail()}")
            await asyncio.sleep(0.1)
        run_seconds = time.monotonic() - started_at
        return Round(
            service_us=(service.cpu_seconds() - service_before) / settings.jobs * 1e6,
            server_us=(server_cpu_seconds(postmaster) - server_before) / settings.jobs * 1e6,
            idle_service_ms=idle_service / seconds * 1e3,
            idle_server_ms=idle_server / seconds * 1e3,
            rate=settings.jobs / run_seconds,
            connections=connections,
        )
    finally:
        await connection.close()


def _print(rounds: dict[str, list[Round]], settings: Settings) -> None:
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"{settings.jobs:,} jobs in one database, median of {settings.rounds} rounds, load {load}")
    print(f"{'':<24}{'service':>10}{'server':>10}{'rate':>10}{'idle':>12}{'idle server':>14}{'connections':>14}")
    print(f"{'':<24}{'us/job':>10}{'us/job':>10}{'jobs/s':>10}{'ms/s':>12}{'ms/s':>14}{'per database':>14}")
    for name, results in rounds.items():

        def median(attribute: str, results: list[Round] = results) -> float:
            return float(statistics.median(getattr(each, attribute) for each in results))

        print(
            f"{name:<24}{median('service_us'):>10.1f}{median('server_us'):>10.1f}{median('rate'):>10,.0f}"
            f"{median('idle_service_ms'):>12.1f}{median('idle_server_ms'):>14.1f}"
            f"{max(each.connections for each in results):>14}"
        )
    one, *_, many = ([each.service_us + each.server_us for each in results] for results in rounds.values())
    percent = (statistics.median(many) / statistics.median(one) - 1) * 100
    print(f"CPU per job, service and server: {percent:+.1f} %, target less than {TARGET_PERCENT:g} %")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
