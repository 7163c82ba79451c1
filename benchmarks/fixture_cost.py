"""``python -m benchmarks.fixture_cost``: cost of a test's database (fixture ``jobs_db``), step by step.

PostgreSQL's strategies for copying a template take turns, so that a slow moment affects all of them. The last line is
the fixture as tests use it, one test right after another. While a test runs, the fixture creates the next database and
drops the previous one, so that a test waits for less than the sum of the steps.
"""

import argparse
import asyncio
import itertools
import os
import platform
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import asyncpg

from benchmarks.arguments import positive
from jobfn.testing.database import JobsServer

DEFAULT_CLONES = 20
#: First major version with ``create database ... strategy``.
STRATEGY_MAJOR_VERSION = 15
STRATEGIES = ("wal_log", "file_copy")
TARGET_MILLISECONDS = 100.0
FIXTURE = "jobs_db and a query"

#: Milliseconds by step.
Times = defaultdict[str, list[float]]


def main(arguments: Sequence[str]) -> int:
    """Measure and print. Return the exit code: 0, or 2 on an error."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fixture_cost", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument(
        "--clones", type=positive, default=DEFAULT_CLONES, help="databases per step (default: %(default)s)"
    )
    clones = parser.parse_args(arguments).clones
    with JobsServer.start() as server:
        times, version = asyncio.run(_measure_steps(server, clones))
        _measure_fixture(server, clones, times)
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"PostgreSQL {version}, Python {platform.python_version()}, {os.cpu_count()} CPUs, load {load}")
    print(f"median and maximum of {clones}, in milliseconds")
    for name, milliseconds in times.items():
        print(f"  {name:<28}{statistics.median(milliseconds):8.1f}{max(milliseconds):8.1f}")
    print(f"a test's database: {statistics.median(times[FIXTURE]):.1f} ms, target at most {TARGET_MILLISECONDS:g}")
    return 0


async def _measure_steps(server: JobsServer, clones: int) -> tuple[Times, str]:
    """Measure each step with each strategy. Return the times and the server's version."""
    times: Times = defaultdict(list)
    admin = await asyncpg.connect(server.admin_dsn)
    try:
        version: str = await admin.fetchval("select current_setting('server_version')")
        strategies = STRATEGIES if int(version.partition(".")[0]) >= STRATEGY_MAJOR_VERSION else ("",)
        for number, strategy in itertools.product(range(clones), strategies):
            name = f"jobfn_fixture_cost_{number}_{strategy}"
            clause = f" strategy {strategy}" if strategy else ""
            with _timed(times, f"create{clause}"):
                await admin.execute(f"create database {name} template {server.template}{clause}")
            with _timed(times, "connect and query"):
                connection = await asyncpg.connect(server.dsn(name))
                await connection.fetchval("select count(*) from app_jobs.jobs")
            await connection.close()
            with _timed(times, f"drop{clause}"):
                await admin.execute(f"drop database {name} with (force)")
    finally:
        await admin.close()
    return times, version


def _measure_fixture(server: JobsServer, clones: int, times: Times) -> None:
    """Measure the fixture in tests that run one query."""
    for _ in range(clones):
        with _timed(times, FIXTURE), server.database() as database:
            database.fetch("select count(*) from app_jobs.jobs")


@contextmanager
def _timed(times: Times, name: str) -> Iterator[None]:
    started_at = time.perf_counter()
    yield
    times[name].append((time.perf_counter() - started_at) * 1000)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
